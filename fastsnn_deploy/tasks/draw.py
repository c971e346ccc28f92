"""Pictures of answers, with PIL alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from fastsnn_deploy.tasks.scenes import Boxes

SCALE = 3
"""Screen pixels for a pixel of the image."""

COLOURS = (
    (214, 39, 40), (31, 119, 180), (44, 160, 44), (255, 187, 0), (148, 103, 189), (140, 86, 75), (227, 119, 194),
    (23, 190, 207), (188, 189, 34), (255, 127, 14), (0, 60, 130), (120, 200, 120), (90, 90, 160), (200, 160, 120),
    (160, 220, 230), (100, 30, 60), (250, 150, 150), (60, 60, 60), (0, 120, 110), (200, 200, 255), (110, 110, 0),
)  # fmt: skip
"""Of the classes, in order; they repeat after the last."""

UNKNOWN = (0, 0, 0)


def colour(kind: int) -> tuple[int, int, int]:
    """RGB of a class."""
    return COLOURS[kind % len(COLOURS)]


def enlarged_image(levels: Tensor) -> Image.Image:
    """uint8 [3, H, W] -> a picture SCALE times as large."""
    image = Image.fromarray(np.ascontiguousarray(levels.permute(1, 2, 0).numpy()))
    return image.resize((image.width * SCALE, image.height * SCALE), Image.Resampling.BICUBIC)


def draw_boxes(levels: Tensor, boxes: Boxes) -> Image.Image:
    """uint8 [3, H, W] with its boxes; a score below 1 stands in the corner, in percent."""
    image = enlarged_image(levels)
    pen = ImageDraw.Draw(image)
    for corners, kind, score in zip(boxes.corners * SCALE, boxes.classes.tolist(), boxes.scores.tolist(), strict=True):
        left, top, right, bottom = corners.tolist()
        pen.rectangle((left, top, max(right - 1, left), max(bottom - 1, top)), outline=colour(kind), width=2)
        if score < 1:
            pen.text((left + 3, top + 1), f"{100 * score:.0f}", fill=colour(kind))
    return image


def draw_mask(mask: Tensor, ignore: int) -> Image.Image:
    """Integers [H, W] as colours; `ignore` is black."""
    classes = mask.numpy().astype(np.int64)
    pixels = np.array(COLOURS, dtype=np.uint8)[classes % len(COLOURS)]
    pixels[classes == ignore] = UNKNOWN
    image = Image.fromarray(pixels)
    return image.resize((image.width * SCALE, image.height * SCALE), Image.Resampling.NEAREST)


def table(rows: Sequence[Sequence[Image.Image]], headings: Sequence[str], classes: Sequence[str]) -> Image.Image:
    """Pictures of one size in rows, a heading over each column, and the colours of the classes at the bottom."""
    gap, line = 6, 16
    width, height = rows[0][0].size
    columns = len(headings)
    page = Image.new(
        "RGB", (columns * (width + gap) + gap, line + len(rows) * (height + gap) + gap + 2 * line), "white"
    )
    pen = ImageDraw.Draw(page)
    for column, heading in enumerate(headings):
        pen.text((gap + column * (width + gap), 2), heading, fill="black")
    for number, row in enumerate(rows):
        for column, image in enumerate(row):
            page.paste(image, (gap + column * (width + gap), line + number * (height + gap)))
    x, y = float(gap), line + len(rows) * (height + gap)
    for kind, name in enumerate(classes):
        needed = 14 + pen.textlength(name) + 8
        if x + needed > page.width:
            x, y = float(gap), y + line
        pen.rectangle((x, y + 2, x + 10, y + 12), fill=colour(kind))
        pen.text((x + 14, y), name, fill="black")
        x += needed
    return page
