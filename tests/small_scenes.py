"""The two data sets in small, and folders laid out as PASCAL VOC: coloured squares on a plain ground."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def write_data_sets(root: Path) -> Path:
    """BCCD with 4 + 2 images of 64x80, CamVid with 4 + 2 of 16x16; returns the folder."""
    folder = root / "bccd"
    (folder / "images").mkdir(parents=True)
    rows = ["file,class,xmin,ymin,xmax,ymax"]
    generator = np.random.default_rng(0)
    for i in range(6):
        pixels = np.full((64, 80, 3), 200, dtype=np.uint8)
        left, top = (int(value) for value in generator.integers(0, 40, 2))
        pixels[top : top + 20, left : left + 20] = (250, 30, 30)
        Image.fromarray(pixels).save(folder / "images" / f"{i}.jpg")
        rows += [f"{i}.jpg,WBC,{left},{top},{left + 20},{top + 20}", f"{i}.jpg,RBC,5,6,5,6"]
    (folder / "boxes.csv").write_text("\n".join(rows))
    (folder / "trainval.txt").write_text("0\n1\n2\n3")
    (folder / "test.txt").write_text("4\n5")
    masks = generator.integers(0, 3, (6, 2, 2)).repeat(8, 1).repeat(8, 2).astype(np.uint8)
    images = np.stack((masks * 100, 200 - masks * 60, masks * 0 + 90), 3).astype(np.uint8)
    np.savez(root / "camvid.npz", x_train=images[:4], y_train=masks[:4], x_test=images[4:], y_test=masks[4:],
             classes=np.array(["sky", "road", "unlabelled"]))  # fmt: skip
    return root


def write_voc_folder(root: Path) -> Path:
    """A folder of one's own with 2 + 1 images of 20x10, boxes and masks of the classes cat and dog."""
    for name in ("JPEGImages", "Annotations", "SegmentationClass"):
        (root / name).mkdir(parents=True)
    (root / "classes.txt").write_text("cat\ndog\n")
    (root / "train.txt").write_text("a\nb\n")
    (root / "test.txt").write_text("c\n")
    for number, name in enumerate("abc"):
        ending = "png" if name == "b" else "jpg"
        Image.new("RGB", (20, 10), (80 * number, 255, 0)).save(root / "JPEGImages" / f"{name}.{ending}")
        boxes = [("dog", 2, 1, 12, 9), ("cat", 5, 5, 5, 9)]  # the second has no area
        objects = "".join(
            f"<object><name>{kind}</name><bndbox><xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax>"
            f"<ymax>{bottom}</ymax></bndbox></object>"
            for kind, left, top, right, bottom in boxes
        )
        (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{objects}</annotation>")
        mask = np.zeros((10, 20), dtype=np.uint8)
        mask[:, 10:], mask[0] = 1, 255
        Image.fromarray(mask).save(root / "SegmentationClass" / f"{name}.png")
    return root
