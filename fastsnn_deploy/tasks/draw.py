"""Pictures of answers, with PIL alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from fastsnn_deploy.tasks.scenes import Boxes

SCALE = 3
"""Screen pixels for a pixel of the image."""

COLOURS = (
    (31, 119, 180), (214, 39, 40), (255, 187, 0), (110, 110, 120), (227, 119, 194), (44, 160, 44), (148, 103, 189),
    (140, 86, 75), (255, 127, 14), (23, 190, 207), (188, 189, 34), (0, 60, 130), (120, 200, 120), (90, 90, 160),
    (200, 160, 120), (160, 220, 230), (100, 30, 60), (250, 150, 150), (0, 120, 110), (200, 200, 255), (110, 110, 0),
)  # fmt: skip
"""Of the classes, in order; they repeat after the last."""

UNKNOWN = (0, 0, 0)
"""Of pixels that do not count."""

HEADING, LABEL = 22, 16
"""Sizes of letters."""


def colour(kind: int) -> tuple[int, int, int]:
    """RGB of a class."""
    return COLOURS[kind % len(COLOURS)]


def enlarged_image(levels: Tensor) -> Image.Image:
    """uint8 [3, H, W] -> a picture SCALE times as large."""
    image = Image.fromarray(np.ascontiguousarray(levels.permute(1, 2, 0).numpy()))
    return image.resize((image.width * SCALE, image.height * SCALE), Image.Resampling.BICUBIC)


def draw_boxes(levels: Tensor, boxes: Boxes) -> Image.Image:
    """uint8 [3, H, W] with its boxes, the best on top; a score below 1 stands in the corner, in percent."""
    image = enlarged_image(levels)
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(LABEL)
    order = boxes.scores.argsort().tolist()
    for i in order:
        left, top, right, bottom = (boxes.corners[i] * SCALE).tolist()
        place = (left, top, max(right - 1, left), max(bottom - 1, top))
        pen.rectangle(place, outline=colour(int(boxes.classes[i])), width=3)
    for i in order:  # after all boxes, so that no line runs through a number
        kind, score = int(boxes.classes[i]), float(boxes.scores[i])
        left, top = (boxes.corners[i, :2] * SCALE).tolist()
        if score < 1:
            text = f"{100 * score:.0f}"
            pen.rectangle((left, top, left + pen.textlength(text, font) + 8, top + LABEL + 4), fill=colour(kind))
            pen.text((left + 4, top + 1), text, fill=ink(kind), font=font)
    return image


def draw_mask(mask: Tensor, ignore: int) -> Image.Image:
    """Integers [H, W] as colours; `ignore` is black."""
    classes = mask.numpy().astype(np.int64)
    pixels = np.array(COLOURS, dtype=np.uint8)[classes % len(COLOURS)]
    pixels[classes == ignore] = UNKNOWN
    image = Image.fromarray(pixels)
    return image.resize((image.width * SCALE, image.height * SCALE), Image.Resampling.NEAREST)


def ink(kind: int) -> str:
    """White or black, whichever can be read on the colour of a class."""
    red, green, blue = colour(kind)
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 140 else "black"


def legend_of(classes: Sequence[str]) -> list[tuple[str, tuple[int, int, int]]]:
    """Names with their colours."""
    return [(name, colour(kind)) for kind, name in enumerate(classes)]


def table(
    rows: Sequence[Sequence[Image.Image]],
    headings: Sequence[str],
    legend: Sequence[tuple[str, tuple[int, int, int]]],
) -> Image.Image:
    """Pictures of one size in rows, a heading over each column, and names with their colours at the bottom."""
    gap, line, font = 8, HEADING + 10, ImageFont.load_default(HEADING)
    width, height = rows[0][0].size
    page_width = len(headings) * (width + gap) + gap
    measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    places, x, y = [], float(gap), line + len(rows) * (height + gap)
    for name, _ in legend:
        needed = HEADING + 6 + measure.textlength(name, font) + 18
        if x + needed > page_width and x > gap:
            x, y = float(gap), y + line
        places.append((x, y))
        x += needed
    page = Image.new("RGB", (page_width, y + line), "white")
    pen = ImageDraw.Draw(page)
    for column, heading in enumerate(headings):
        pen.text((gap + column * (width + gap), 3), heading, fill="black", font=font)
    for number, row in enumerate(rows):
        for column, image in enumerate(row):
            page.paste(image, (gap + column * (width + gap), line + number * (height + gap)))
    for (x, y), (name, own) in zip(places, legend, strict=True):
        pen.rectangle((x, y + 4, x + HEADING - 2, y + HEADING + 2), fill=own)
        pen.text((x + HEADING + 6, y + 1), name, fill="black", font=font)
    return page
