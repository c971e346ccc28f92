"""Small data sets with boxes and masks in every layout: coloured squares on a plain ground."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image


def write_data_sets(root: Path) -> Path:
    """BCCD (boxes in a CSV file) with 4 + 2 images of 64x80, CamVid with 4 + 2 of 16x16; returns the folder."""
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


BOXES = (("dog", 2, 1, 12, 9), ("cat", 10, 0, 20, 10))
"""Of every image of `write_animals`: class, left, top, right, bottom in pixels of 20x10."""

TRAIN, TEST = ("a", "b"), ("c",)


def write_animals(root: Path, layout: str) -> Path:
    """Images a and b to learn from, c to test, 20x10, with BOXES or masks: left half cat, right half dog.

    layout: voc, coco, coco-one (every fifth tests), csv, yolo, masks, colours.
    """
    pictures = root / {"voc": "JPEGImages", "yolo": "images/train"}.get(layout, "images")
    pictures.mkdir(parents=True)
    for number, name in enumerate((*TRAIN, *TEST)):
        ending = "png" if name == "b" else "jpg"
        place = root / "images" / "val" if layout == "yolo" and name in TEST else pictures
        place.mkdir(exist_ok=True)
        Image.new("RGB", (20, 10), (80 * number, 255, 0)).save(place / f"{name}.{ending}")
    if layout not in ("coco", "coco-one", "yolo"):
        (root / "train.txt").write_text("\n".join(TRAIN))
        (root / "test.txt").write_text("\n".join(TEST))
    if layout not in ("coco", "coco-one", "colours"):
        (root / "classes.txt").write_text("cat\ndog\n")
    {"voc": _voc, "coco": _coco, "coco-one": _coco, "csv": _csv, "yolo": _yolo, "masks": _masks, "colours": _masks}[
        layout
    ](root, layout)
    return root


def _voc(root: Path, layout: str) -> None:
    (root / "Annotations").mkdir()
    objects = "".join(
        f"<object><name>{kind}</name><bndbox><xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax>"
        f"<ymax>{bottom}</ymax></bndbox></object>"
        for kind, left, top, right, bottom in BOXES
    )
    for name in (*TRAIN, *TEST):
        (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{objects}</annotation>")


def _csv(root: Path, layout: str) -> None:
    lines = [f"{name},{','.join(map(str, box))}" for name in (*TRAIN, *TEST) for box in BOXES]
    (root / "boxes.csv").write_text("\n".join(["image,class,xmin,ymin,xmax,ymax", *lines]))


def _coco(root: Path, layout: str) -> None:
    parts = {"all": (*TRAIN, *TEST)} if layout == "coco-one" else {"instances_train": TRAIN, "instances_val": TEST}
    (root / "annotations").mkdir()
    for stem, names in parts.items():
        content = {
            "categories": [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}],
            "images": [
                {"id": ord(name), "file_name": f"{name}.{'png' if name == 'b' else 'jpg'}"} for name in names
            ],
            "annotations": [
                {
                    "id": number, "image_id": ord(name), "category_id": {"cat": 7, "dog": 9}[kind],
                    "bbox": [left, top, right - left, bottom - top],
                }
                for name in names
                for number, (kind, left, top, right, bottom) in enumerate(BOXES)
            ],
        }  # fmt: skip
        (root / "annotations" / f"{stem}.json").write_text(json.dumps(content))


def _yolo(root: Path, layout: str) -> None:
    for split, names in (("train", TRAIN), ("val", TEST)):
        (root / "labels" / split).mkdir(parents=True)
        for name in names:
            lines = [
                f"{('cat', 'dog').index(kind)} {(left + right) / 40} {(top + bottom) / 20} {(right - left) / 20} "
                f"{(bottom - top) / 10}"
                for kind, left, top, right, bottom in BOXES
            ]
            (root / "labels" / split / f"{name}.txt").write_text("\n".join(lines))


def _masks(root: Path, layout: str) -> None:
    (root / "masks").mkdir()
    mask = np.zeros((10, 20), dtype=np.uint8)
    mask[:, 10:], mask[0] = 1, 255
    image = Image.fromarray(mask)
    if layout == "colours":
        table = np.array([(200, 0, 0), (0, 0, 200)], dtype=np.uint8)
        (root / "class_dict.csv").write_text("name,r,g,b\ncat,200,0,0\ndog,0,0,200\nvoid,0,0,0")
        image = Image.fromarray(np.where((mask == 255)[..., None], 0, table[mask.clip(0, 1)]).astype(np.uint8))
    for name in (*TRAIN, *TEST):
        image.save(root / "masks" / f"{name}.png")
