"""Data sets of detection and segmentation: what is read, and how wrong files are explained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.tasks import (
    load_bccd,
    load_box_folder,
    load_camvid,
    load_mask_folder,
    load_voc_boxes,
    load_voc_masks,
)  # fmt: skip
from tests.small_scenes import write_data_sets, write_voc_folder

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    return write_data_sets(tmp_path)


def test_data_sets_are_read(data_root: Path) -> None:
    cells = load_bccd(data_root, "train", (32, 40))
    assert cells.shape == (3, 32, 40)
    assert [len(found.classes) for found in cells.boxes] == [1] * 4  # those without area are left out
    left, top, right, bottom = cells.boxes[0].corners[0].tolist()
    assert (right - left, bottom - top) == (10, 10)
    inside = cells.levels[0, 1, int(top) + 2 : int(bottom) - 2, int(left) + 2 : int(right) - 2]
    assert int(inside.max()) < 90  # the square is where the box is
    streets = load_camvid(data_root, "test")
    assert (len(streets.levels), streets.shape, streets.ignore) == (2, (3, 16, 16), 2)
    assert streets.classes == ("sky", "road")


def test_unreadable_data_is_explained(data_root: Path, tmp_path: Path) -> None:
    for loader in (load_bccd, load_camvid, load_voc_boxes, load_voc_masks):
        with pytest.raises(InputError, match=r"cannot be read from .*Put there"):
            loader(tmp_path / "nowhere", "train")
    (data_root / "bccd" / "images" / "1.jpg").write_bytes(b"no picture")
    (data_root / "bccd" / "images" / "2.jpg").unlink()
    whole = (data_root / "bccd" / "images" / "3.jpg").read_bytes()
    (data_root / "bccd" / "images" / "3.jpg").write_bytes(whole[:-200])
    with pytest.raises(InputError, match="'bccd': 3 of 4 images cannot be read") as caught:
        load_bccd(data_root, "train")
    for line in ("1.jpg: is not an image", "2.jpg: is missing", "3.jpg: image file is truncated"):
        assert line in str(caught.value)
    (data_root / "bccd" / "boxes.csv").write_text("file,class,xmin,ymin,xmax,ymax\n0.jpg,WBC,1")
    with pytest.raises(InputError, match="'bccd' cannot be read"):
        load_bccd(data_root, "train")


def test_folders_of_ones_own_are_read(tmp_path: Path) -> None:
    folder = write_voc_folder(tmp_path / "animals")
    found = load_box_folder(folder, "train", (20, 10))
    assert (found.name, found.classes, found.shape) == ("animals", ("cat", "dog"), (3, 20, 10))
    assert [boxes.corners.tolist() for boxes in found.boxes] == [[[1.0, 2.0, 6.0, 18.0]]] * 2
    assert found.levels[:, 0, 0, 0].tolist() == [0, 80]  # in the order of the list, a .jpg and a .png
    masked = load_mask_folder(folder, "test", (5, 4))
    assert masked.masks.shape == (1, 5, 4)
    assert masked.masks[0, -1].tolist() == [0, 0, 1, 1]
    assert masked.ignore == 255


def test_every_wrong_file_of_a_folder_is_named(tmp_path: Path) -> None:
    folder = write_voc_folder(tmp_path / "animals")
    notes, masks = folder / "Annotations", folder / "SegmentationClass"
    (notes / "a.xml").write_text((notes / "a.xml").read_text().replace("cat", "cow"))
    (notes / "b.xml").write_text("<annotation><object><name>cat</name></object></annotation>")
    with pytest.raises(InputError, match="2 of 2 annotations cannot be read") as caught:
        load_box_folder(folder, "train", (20, 20))
    assert "a.xml: class 'cow' is not in classes.txt" in str(caught.value)
    assert "b.xml: a box of 'cat' lacks a number among xmin" in str(caught.value)
    Image.new("RGB", (20, 10)).save(masks / "a.png")
    Image.new("L", (20, 10), 7).save(masks / "b.png")
    with pytest.raises(InputError, match="2 of 2 masks cannot be read") as caught:
        load_mask_folder(folder, "train", (20, 20))
    assert "a.png: has 3 channels" in str(caught.value)
    assert "b.png: has level 7, must be from 0 to 1" in str(caught.value)
    (masks / "c.png").write_bytes(b"no picture")
    (folder / "test.txt").write_text("\n".join(["c", *map(str, range(20))]))
    with pytest.raises(InputError, match=r"21 of 21 masks cannot be read(.|\n)*and 11 more") as caught:
        load_mask_folder(folder, "test", (20, 20))
    assert "c.png: cannot identify image file\n" in str(caught.value)
    (folder / "test.txt").write_text("")
    with pytest.raises(InputError, match=r"test.txt: is empty"):
        load_mask_folder(folder, "test", (20, 20))


def test_voc_is_read_as_torchvision_stores_it(tmp_path: Path) -> None:
    base = tmp_path / "VOCdevkit" / "VOC2007"
    for name in ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Main", "ImageSets/Segmentation"):
        (base / name).mkdir(parents=True)
    Image.new("RGB", (20, 10), "white").save(base / "JPEGImages" / "a.jpg")
    Image.fromarray(np.full((10, 20), 255, dtype=np.uint8)).save(base / "SegmentationClass" / "a.png")
    bounds = "<xmin>2</xmin><ymin>1</ymin><xmax>12</xmax><ymax>9</ymax>"
    note = f"<annotation><object><name>cat</name><bndbox>{bounds}</bndbox></object></annotation>"
    (base / "Annotations" / "a.xml").write_text(note)
    for place in ("Main/trainval", "Segmentation/train"):
        (base / "ImageSets" / f"{place}.txt").write_text("a")
    found = load_voc_boxes(tmp_path, "train", (20, 20))
    assert found.boxes[0].corners.tolist() == [[2.0, 2.0, 12.0, 18.0]]
    assert found.classes[int(found.boxes[0].classes)] == "cat"
    masked = load_voc_masks(tmp_path, "train", (5, 10), year="2007")
    assert masked.masks.unique().tolist() == [masked.ignore] == [255]


@pytest.mark.parametrize(("name", "metric"), [("bccd", "mAP50"), ("camvid", "mIoU")])
def test_the_page_quotes_the_records(name: str, metric: str) -> None:
    page = (DOCS / "detection_segmentation.md").read_text(encoding="utf-8")
    record = json.loads((DOCS / "records" / f"{name}.json").read_text(encoding="utf-8"))
    assert [stage["bits"] for stage in record["training"]] == [None, 4, 3]
    for network in record["networks"]:
        bits, (last,) = network["activation bits"], [key for key in network if key.startswith("spiking network after")]
        forms = [record["training"][0]["test"], *(network[key] for key in ("quantised", "integer network"))]
        figures = " | ".join(f"{100 * form[metric]:.2f}" for form in [*forms, network["spiking network"]])
        early = f"{100 * network[last][metric]:.2f} {last.removeprefix('spiking network ')}"
        assert f"| {bits}-bit activations | {figures} | {early} |" in page
        settled, outputs = network["settle steps"], network["output integers"]
        work = [network[f"{key} of an image"] for key in ("spikes", "negative spikes", "synaptic operations")]
        row = [f"{settled['mean']:.1f}, {settled['max']} steps", *(f"{value:,.0f}" for value in work)]
        row += [f"{network['multiply-accumulates of the integer network']:,}", f"{outputs['compared']:,}, 0"]
        assert f"{bits} bits | {' | '.join(row)} |" in page
        assert outputs["different"] == network["hidden counts"]["different"] == 0
        assert network["integer network"] == network["spiking network"]
        assert f"{network['hidden counts']['compared']:,}" in page
