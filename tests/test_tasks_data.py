"""Data sets of detection and segmentation: what is read, and how wrong files are explained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.tasks import load_scenes
from fastsnn_deploy.tasks.sources import load_both
from tests.small_scenes import BOXES, write_animals, write_data_sets

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    return write_data_sets(tmp_path)


def test_data_sets_are_read(data_root: Path) -> None:
    cells = load_scenes("bccd", "train", data_root, task="detection", size=(32, 40))
    assert cells.shape == (3, 32, 40)
    assert cells.classes == ("RBC", "WBC")
    assert [len(found.classes) for found in cells.truth] == [1] * 4
    assert "4 boxes without area are left out: 0.jpg 5,6,5,6" in cells.notes[0]
    left, top, right, bottom = cells.truth[0].corners[0].tolist()
    assert (right - left, bottom - top) == (10, 10)
    inside = cells.levels[0, 1, int(top) + 2 : int(bottom) - 2, int(left) + 2 : int(right) - 2]
    assert int(inside.max()) < 90  # the square is where the box is
    streets = load_scenes("camvid", "test", data_root, task="segmentation")
    assert (len(streets.levels), streets.shape) == (2, (3, 16, 16))
    assert streets.classes == ("sky", "road")
    assert set(streets.truth.unique().tolist()) <= {0, 1, 255}  # what is unlabelled does not count
    other = load_scenes("camvid", "test", data_root, task="segmentation", size=(8, 8), classes=("road", "sky"))
    assert torch.equal(other.truth, torch.tensor([1, 0, *[255] * 254])[streets.truth[:, ::2, ::2].long()])


@pytest.mark.parametrize("layout", ["voc", "coco", "csv", "yolo"])
def test_every_layout_of_boxes_says_the_same(layout: str, tmp_path: Path) -> None:
    folder = write_animals(tmp_path / "animals", layout)
    found = load_scenes(str(folder), "train", task="detection")
    assert (found.classes, found.shape) == (("cat", "dog"), (3, 10, 20))
    assert found.levels[:, 0, 0, 0].tolist() == [0, 80]
    for boxes in found.truth:
        assert [found.classes[i] for i in boxes.classes.tolist()] == [box[0] for box in BOXES]
        assert np.allclose(boxes.corners, [box[1:] for box in BOXES])
    test = load_scenes(str(folder), "test", task="detection", size=(20, 10), classes=("bird", "dog", "cat"))
    assert [boxes.classes.tolist() for boxes in test.truth] == [[1, 2]]
    assert np.allclose(test.truth[0].corners[0], [1, 2, 6, 18])


@pytest.mark.parametrize("layout", ["masks", "colours"])
def test_every_layout_of_masks_says_the_same(layout: str, tmp_path: Path) -> None:
    folder = write_animals(tmp_path / "animals", layout)
    found = load_scenes("animals", "train", tmp_path, task="segmentation")
    assert found.classes == ("cat", "dog")
    assert found.truth.tolist() == [[[255] * 20, *[[0] * 10 + [1] * 10] * 9]] * 2
    small = load_scenes(str(folder), "test", task="segmentation", size=(5, 4))
    assert small.truth.shape == (1, 5, 4)


def test_what_has_no_split_gives_every_fifth_image(tmp_path: Path) -> None:
    folder = write_animals(tmp_path / "animals", "coco-one")
    train, test = load_both(str(folder), tmp_path, task="detection", size=None)
    assert (len(train.levels), len(test.levels)) == (2, 1)
    (folder / "train").mkdir()
    plain = write_animals(tmp_path / "plain", "masks")
    for name in ("train.txt", "test.txt", "classes.txt"):
        (plain / name).unlink()
    train, test = load_both(str(plain), tmp_path, task="segmentation", size=None)
    assert (len(train.levels), len(test.levels), train.classes) == (2, 1, ("0", "1"))
    named = load_scenes(str(plain), "test", task="segmentation", classes=("a", "b", "c"))
    assert named.classes == ("a", "b", "c")


def test_every_wrong_file_of_boxes_is_named_at_once(tmp_path: Path) -> None:
    folder = write_animals(tmp_path / "animals", "voc")
    notes = folder / "Annotations"
    (notes / "a.xml").write_text(
        (notes / "a.xml").read_text().replace("<name>cat", "<name>cow").replace(">12<", ">23<")
    )
    (notes / "b.xml").write_text("<annotation><object><name>cat</name></object></annotation>")
    (notes / "c.xml").unlink()
    (folder / "test.txt").write_text("c\nd")
    (notes / "d.xml").write_text((notes / "a.xml").read_text().replace("cow", "cat").replace(">23<", ">9<"))
    with pytest.raises(InputError) as caught:
        load_both(str(folder), tmp_path, task="detection", size=(10, 20))
    text = str(caught.value)
    assert "(train): 3 things are wrong; " in text
    assert "(test): 2 things are wrong" in text
    for line in (
        "a.xml: class 'cow' is not in classes.txt",
        "a.xml: box 2,1,23,9 lies outside the image 'a.jpg', 20x10",
        "b.xml: a box of 'cat' lacks a number among xmin",
        "c.xml: is missing",
        "d: is missing",
    ):
        assert line in text


def test_every_wrong_mask_is_named_at_once(tmp_path: Path) -> None:
    folder = write_animals(tmp_path / "animals", "masks")
    masks = folder / "masks"
    Image.new("RGB", (20, 10)).save(masks / "a.png")
    Image.new("L", (20, 10), 7).save(masks / "b.png")
    Image.new("L", (20, 11)).save(masks / "c.png")
    (folder / "train.txt").write_text("a\nb\nc\nd")
    with pytest.raises(InputError, match="4 things are wrong") as caught:
        load_scenes(str(folder), "train", task="segmentation")
    text = str(caught.value)
    assert "a.png: has colours. Say in class_dict.csv" in text
    assert "b.png: has class number 7, must be from 0 to 1, or 255" in text
    assert "c.png: is 20x11, its image 'c.jpg' 20x10 pixels" in text
    assert "d.png: is missing. Draw a mask" in text
    coloured = write_animals(tmp_path / "coloured", "colours")
    Image.new("RGB", (20, 10), (1, 2, 3)).save(coloured / "masks" / "a.png")
    (coloured / "images" / "b.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="2 things are wrong") as caught:
        load_scenes(str(coloured), "train", task="segmentation")
    assert "has the colour (1, 2, 3) at 0,0, which the table does not name" in str(caught.value)
    assert "b.png: is not an image that Pillow can read" in str(caught.value)
    (coloured / "train.txt").write_text("\n".join(map(str, range(30))))
    with pytest.raises(InputError, match=r"30 things are wrong(.|\n)*and 10 more"):
        load_scenes(str(coloured), "train", task="segmentation")


def test_data_that_does_not_fit_is_explained(tmp_path: Path, data_root: Path) -> None:
    folder = write_animals(tmp_path / "animals", "voc")
    for arguments, message in (
        ({"name": "nowhere", "task": "detection"}, "is neither there nor below"),
        ({"name": str(folder), "task": "segmentation"}, "holds nothing that segmentation can read"),
        ({"name": str(folder), "task": "detection", "classes": ("cat",)}, "class 'dog': is none of the network's"),
        ({"name": str(data_root / "camvid.npz"), "task": "segmentation", "classes": ("sky",)}, "the network sky"),
    ):
        with pytest.raises(InputError, match=message):
            load_scenes(split="train", **arguments)  # type: ignore[arg-type]
    Image.new("RGB", (8, 8)).save(folder / "JPEGImages" / "b.png")
    with pytest.raises(InputError, match=r"b.png: is 8x8 pixels, not 20x10 like 'a.jpg'. Give a size"):
        load_scenes(str(folder), "train", task="detection")
    (folder / "test.txt").write_text("")
    with pytest.raises(InputError, match=r"test.txt: is empty"):
        load_scenes(str(folder), "test", task="detection")
    table = write_animals(tmp_path / "table", "csv")
    (table / "boxes.csv").write_text("image,class,xmin,ymin\na,cat,1,2")
    with pytest.raises(InputError, match="has no column xmax, ymax"):
        load_scenes(str(table), "train", task="detection")
    coco = write_animals(tmp_path / "coco", "coco")
    file = coco / "annotations" / "instances_train.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"categories": []}))
    with pytest.raises(InputError, match="is of category 9, which the file does not list"):
        load_scenes(str(coco), "train", task="detection")
    np.savez(tmp_path / "bad.npz", images=np.zeros((2, 4, 4), dtype=np.uint8), masks=np.zeros((2, 4, 4)))
    with pytest.raises(InputError, match=r"Give images uint8 \(N, H, W, 3\)"):
        load_scenes(str(tmp_path / "bad.npz"), "train", task="segmentation")


def test_the_page_quotes_the_record_of_the_shell() -> None:
    page = (DOCS / "detection_segmentation.md").read_text(encoding="utf-8")
    record = json.loads((DOCS / "records" / "tasks.json").read_text(encoding="utf-8"))
    boxes, masks = (record[name]["evaluate"]["figures"] for name in ("bccd", "camvid"))
    for form, figures in boxes.items():
        assert f"| {form} | {100 * figures['mAP50']:.2f} | {100 * masks[form]['mIoU']:.2f} |" in page
    for entry in record.values():
        assert entry["evaluate"]["outputs_different"] == 0
        assert f"{entry['evaluate']['outputs_compared']:,}" in page
        assert entry["verify"]["exact"]
        assert f"{entry['verify']['integers_compared']:,} integers" in page
        assert entry["evaluate"]["figures"]["SNN, settled"] == entry["evaluate"]["figures"]["integer network"]


@pytest.mark.parametrize(("name", "metric"), [("bccd", "mAP50"), ("camvid", "mIoU")])
def test_the_page_quotes_the_records_of_longer_trainings(name: str, metric: str) -> None:
    page = (DOCS / "detection_segmentation.md").read_text(encoding="utf-8")
    record = json.loads((DOCS / "records" / f"{name}.json").read_text(encoding="utf-8"))
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
        assert f"{network['hidden counts']['compared']:,}" in page
