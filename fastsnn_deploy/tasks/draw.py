"""Answers drawn on images, with PIL alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from fastsnn_deploy.tasks.scenes import IGNORED, Boxes

COLOURS = (
    (31, 119, 180), (214, 39, 40), (255, 187, 0), (110, 110, 120), (227, 119, 194), (44, 160, 44), (148, 103, 189),
    (140, 86, 75), (255, 127, 14), (23, 190, 207), (188, 189, 34), (0, 60, 130), (120, 200, 120), (90, 90, 160),
    (200, 160, 120), (160, 220, 230), (100, 30, 60), (250, 150, 150), (0, 120, 110), (200, 200, 255), (110, 110, 0),
)  # fmt: skip
"""Of the classes, in order; they repeat after the last."""

UNKNOWN = (0, 0, 0)
"""Of pixels that do not count."""

LEAST = 480
"""Smaller images are enlarged to at least so many pixels along their longer side: letters must be readable."""

LETTERS, GAP = 16, 6
"""Height of letters, and what is left free around them."""

COVER = 0.6
"""Share of a class's colour in a pixel; the rest is the image."""

Colour = tuple[int, int, int]
Legend = Sequence[tuple[str, Colour]]


def colour(kind: int) -> Colour:
    """RGB of a class."""
    return COLOURS[kind % len(COLOURS)]


def enlarged(image: Image.Image) -> Image.Image:
    """A copy in RGB, a whole number of times as large if it is small."""
    factor = max(1, -(-LEAST // max(image.size)))
    return image.convert("RGB").resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC)


def draw_boxes(image: Image.Image, boxes: Boxes, classes: Sequence[str]) -> Image.Image:
    """An image with boxes in its pixels, the best on top; a score below 1 stands in the corner, in percent."""
    page = enlarged(image)
    corners = (boxes.corners * (page.width / image.width)).tolist()
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(LETTERS)
    order = boxes.scores.argsort().tolist()
    kinds, scores = boxes.classes.tolist(), boxes.scores.tolist()
    for i in order:
        left, top, right, bottom = corners[i]
        pen.rectangle((left, top, max(right - 1, left), max(bottom - 1, top)), outline=colour(kinds[i]), width=3)
    for i in order:  # after all boxes, so that no line runs through a number
        left, top, _, _ = corners[i]
        if scores[i] < 1:
            text = f"{100 * scores[i]:.0f}"
            pen.rectangle((left, top, left + pen.textlength(text, font) + 8, top + LETTERS + 4), fill=colour(kinds[i]))
            pen.text((left + 4, top + 1), text, fill=_ink(kinds[i]), font=font)
    return _with_legend(page, [(name, colour(kind)) for kind, name in enumerate(classes)])


def draw_mask(image: Image.Image, mask: Tensor, classes: Sequence[str]) -> Image.Image:
    """An image under the colours of its classes; IGNORED is black. mask: integers [H, W], of any size."""
    page, numbers = enlarged(image), mask.numpy().astype(np.int64)
    pixels = np.array(COLOURS, dtype=np.uint8)[numbers % len(COLOURS)]
    pixels[numbers == IGNORED] = UNKNOWN
    cover = Image.fromarray(pixels).resize(page.size, Image.Resampling.NEAREST)
    there = set(np.unique(numbers).tolist())
    legend = [(name, colour(kind)) for kind, name in enumerate(classes) if kind in there]
    return _with_legend(
        Image.blend(page, cover, COVER), [*legend, *([("does not count", UNKNOWN)] if IGNORED in there else [])]
    )


def draw_text(image: Image.Image, lines: Sequence[str]) -> Image.Image:
    """An image with lines below it."""
    page = enlarged(image)
    below = Image.new("RGB", (page.width, page.height + len(lines) * (LETTERS + GAP) + GAP), "white")
    below.paste(page)
    pen, font = ImageDraw.Draw(below), ImageFont.load_default(LETTERS)
    for number, line in enumerate(lines):
        pen.text((GAP, page.height + number * (LETTERS + GAP) + GAP // 2), line, fill="black", font=font)
    return below


def beside(first: Image.Image, second: Image.Image, headings: tuple[str, str]) -> Image.Image:
    """Two pictures side by side, each with a heading."""
    top = LETTERS + 2 * GAP
    page = Image.new("RGB", (first.width + GAP + second.width, top + max(first.height, second.height)), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(LETTERS)
    for left, picture, heading in ((0, first, headings[0]), (first.width + GAP, second, headings[1])):
        pen.text((left + GAP, GAP // 2), heading, fill="black", font=font)
        page.paste(picture, (left, top))
    return page


def _ink(kind: int) -> str:
    """White or black, whichever can be read on the colour of a class."""
    red, green, blue = colour(kind)
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 140 else "black"


def _with_legend(page: Image.Image, legend: Legend) -> Image.Image:
    """A picture with names and their colours below it."""
    font, line = ImageFont.load_default(LETTERS), LETTERS + GAP
    measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    places, x, y = [], float(GAP), page.height + GAP
    for name, _ in legend:
        needed = line + measure.textlength(name, font) + 2 * GAP
        if x + needed > page.width and x > GAP:
            x, y = float(GAP), y + line
        places.append((x, y))
        x += needed
    whole = Image.new("RGB", (page.width, y + line + GAP), "white")
    whole.paste(page)
    pen = ImageDraw.Draw(whole)
    for (x, y), (name, own) in zip(places, legend, strict=True):
        pen.rectangle((x, y + 2, x + LETTERS - 2, y + LETTERS), fill=own)
        pen.text((x + line, y - 1), name, fill="black", font=font)
    return whole
