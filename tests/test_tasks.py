"""Detection and segmentation: figures on cases made by hand, every network to spikes, and a small training."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fastsnn_deploy.errors import InputError, MismatchError
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.lower import convert, lower
from fastsnn_deploy.quantize import calibrate, load, prepare, save
from fastsnn_deploy.quantize.models import build
from fastsnn_deploy.quantize.models.detection import Reorg
from fastsnn_deploy.tasks import (
    Augmentation, Boxes, BoxScenes, Detection, Grid, MaskScenes, Segmentation, Settings, answers, class_weights,
    compare, confusion, decode, enlarge, find_anchors, load_bccd, load_camvid, load_voc_boxes, load_voc_masks,
    mean_average_precision, mean_iou, run_both, segmentation_loss, train, yolo_loss,
)  # fmt: skip
from fastsnn_deploy.tasks.augment import Views, random_views
from fastsnn_deploy.tasks.draw import COLOURS, SCALE, draw_boxes, draw_mask
from fastsnn_deploy.tasks.scenes import drawn_boxes
from fastsnn_deploy.tasks.yolo import shape_iou
from fastsnn_deploy.trace import trace

ROOT = Path(__file__).parents[1]

SMALL: dict[str, tuple[dict[str, int], tuple[int, int, int]]] = {
    "tiny-yolo": ({"width": 2, "widest": 6, "halvings": 3, "classes": 2, "anchors": 2}, (3, 24, 32)),
    "yolov2-resnet34": ({"width": 2, "classes": 2, "anchors": 2}, (3, 64, 32)),
    "vgg9-segmentation": ({"width": 2, "dilation": 3, "classes": 4}, (3, 24, 32)),
    "resnet34-aspp": ({"width": 2, "classes": 4, "stem": 2}, (3, 24, 16)),
}
STRIDES = {"tiny-yolo": 8, "yolov2-resnet34": 32, "vgg9-segmentation": 8, "resnet34-aspp": 8}

GRID = Grid(((8.0, 8.0), (16.0, 24.0)), 8, 3)


def boxes(*rows: tuple[float, ...], scores: list[float] | None = None) -> Boxes:
    """(left, top, right, bottom, class) each."""
    made = drawn_boxes([row[:4] for row in rows], [int(row[4]) for row in rows])
    return made if scores is None else Boxes(made.corners, made.classes, torch.tensor(scores))


def sure(*rows: tuple[int, int, int, int, tuple[float, float, float, float]]) -> torch.Tensor:
    """A raw map [1, 16, 3, 4] that is sure of (anchor, row, column, class, (x, y, w, h)) and of nothing else."""
    cells = torch.zeros(1, 2, 3, 4, 8)
    cells[..., 4] = -20.0
    for anchor, row, column, kind, place in rows:
        cells[0, anchor, row, column, :4] = torch.tensor(place)
        cells[0, anchor, row, column, 4] = 20.0
        cells[0, anchor, row, column, 5 + kind] = 20.0
    return cells.permute(0, 1, 4, 2, 3).reshape(1, 16, 3, 4)


# networks


def small_graph(name: str, bits: int = 3) -> tuple[SpikingGraph, torch.Tensor]:
    torch.manual_seed(0)
    options, shape = SMALL[name]
    model = build(name, channels=3, **options).train()
    levels = torch.randint(0, 256, (4, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for _ in range(8):
            model(levels.float() / 255)
    twin = prepare(model.eval(), bits)
    calibrate(twin, levels.float() / 255)
    with torch.no_grad():
        assert twin.eval()(levels[:1].float() / 255).shape[2:] == tuple(size // STRIDES[name] for size in shape[1:])
    return lower(trace(twin, shape)), levels


@pytest.mark.parametrize("name", sorted(SMALL))
def test_every_network_settles_to_its_integers(name: str) -> None:
    graph, levels = small_graph(name)
    both = run_both(graph, levels[:2], threads=1, hidden=2, early=(1,))
    assert torch.equal(both.integer, both.spiking)
    assert both.neurons == 2 * sum(population.size for population in graph.populations)
    assert float(both.integer.std()) > 0
    assert not torch.equal(both.early[1], both.spiking)
    assert both.work.images == 2
    assert both.work.messages > 0
    assert both.work.synaptic_operations > both.work.messages


def test_a_difference_is_reported_with_its_image(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, levels = small_graph("tiny-yolo")
    original = compare.simulate.evaluate

    def wrong(graph: SpikingGraph, emitted: np.ndarray) -> dict[str, np.ndarray]:
        values = dict(original(graph, emitted))
        values[graph.outputs[0]] = values[graph.outputs[0]] + (np.arange(len(emitted)) == 1).reshape(-1, 1, 1, 1)
        return values

    monkeypatch.setattr(compare.simulate, "evaluate", wrong)
    with pytest.raises(MismatchError, match="image 1: 168 of 168 outputs differ"):
        run_both(graph, levels[:2], threads=1, hidden=0)


def test_original_networks_are_those_of_fast_snns_code() -> None:
    with torch.device("meta"):
        made = {name: build(name) for name in SMALL}
    convolutions = {
        name: [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)] for name, model in made.items()
    }
    tiny = convolutions["tiny-yolo"]
    assert [m.out_channels for m in tiny] == [16, 32, 64, 128, 256, 512, 1024, 1024, 125]
    assert [m.stride[0] for m in tiny] == [2, 2, 2, 2, 2, 1, 1, 1, 1]
    vgg = convolutions["vgg9-segmentation"]
    assert [m.out_channels for m in vgg] == [64, 64, 128, 128, 256, 256, 256, 1024, 21]
    assert [m.stride[0] for m in vgg] == [1, 2, 1, 2, 2, 1, 1, 1, 1]
    assert [m.dilation[0] for m in vgg] == [1, 1, 1, 1, 1, 2, 2, 12, 1]
    assert [m.dilation[0] for m in convolutions["resnet34-aspp"][-8:]] == [1, 6, 12, 18, 24, 1, 1, 1]
    assert [m.in_channels for m in convolutions["resnet34-aspp"][-3:]] == [1280, 256, 256]
    assert [m.in_channels for m in convolutions["yolov2-resnet34"][-2:]] == [1024 + 512, 1024]


def test_reorg_is_space_to_depth() -> None:
    x = torch.rand(2, 3, 4, 6)
    assert torch.equal(Reorg(3)(x), torch.nn.functional.pixel_unshuffle(x, 2))


def test_wrong_network_options_are_refused() -> None:
    with pytest.raises(InputError, match="8 halvings"):
        build("tiny-yolo", halvings=8)
    with pytest.raises(InputError, match="stride 2 is not 4 or 8"):
        build("vgg9-segmentation", stride=2)


# YOLO


def test_anchors_are_the_clusters_of_sizes() -> None:
    sizes = torch.tensor([[10.0, 10.0], [11.0, 9.0], [40.0, 20.0], [42.0, 18.0], [9.0, 11.0]])
    found = find_anchors(sizes, 2)
    assert np.allclose(found, [(10, 10), (41, 19)])
    with pytest.raises(InputError, match="6 anchors cannot be found in 5 boxes"):
        find_anchors(sizes, 6)
    assert np.isclose(float(shape_iou(torch.tensor([[2.0, 2.0]]), torch.tensor([[2.0, 4.0]]))), 0.5)


def test_boxes_come_out_where_the_map_says() -> None:
    (found,) = decode(sure((1, 1, 2, 2, (0.0, math.log(3), math.log(0.5), 0.0))), GRID)
    assert torch.allclose(found.corners, torch.tensor([[16.0, 2.0, 24.0, 24.0]]))  # cut at the lower border
    assert found.classes.tolist() == [2]
    assert float(found.scores) > 0.99
    with pytest.raises(InputError, match="need \\(N, 16, H, W\\)"):
        decode(torch.zeros(1, 15, 3, 4), GRID)


def test_suppression_keeps_the_best_box_of_each_class() -> None:
    near = (0.2, 0.0, 0.0, 0.0)
    output = sure((0, 1, 1, 0, (0.0, 0.0, 0.0, 0.0)), (1, 1, 1, 0, (*near[:2], math.log(0.5), math.log(1 / 3))))
    output.view(1, 2, 8, 3, 4)[0, 1, 4, 1, 1] = 1.0  # the second is less sure
    (found,) = decode(output, GRID)
    assert torch.allclose(found.corners, torch.tensor([[8.0, 8.0, 16.0, 16.0]]))
    output.view(1, 2, 8, 3, 4)[0, 1, 5:, 1, 1] = torch.tensor([0.0, 20.0, 0.0])  # of another class it stays
    assert decode(output, GRID)[0].classes.tolist() == [0, 1]
    assert len(decode(output, GRID, most=1)[0].scores) == 1
    assert len(decode(output, GRID, least=0.9)[0].scores) == 1


def test_loss_is_small_for_the_right_map_and_falls_towards_it() -> None:
    truth = [boxes((8, 8, 16, 16, 1), (14, 0, 30, 22, 0))]
    # the second: centre (22, 11), cell column 2, row 1, anchor 1 of 16x24
    right = sure((0, 1, 1, 1, (0.0, 0.0, 0.0, 0.0)),
                 (1, 1, 2, 0, (math.log(3), math.log(3 / 5), 0.0, math.log(22 / 24))))  # fmt: skip
    floor = yolo_loss(right, truth, GRID)
    wrong = [sure(), sure((0, 1, 1, 2, (0.0, 0.0, 0.0, 0.0))), -right, right.roll(1, 3)]
    assert all(float(yolo_loss(output, truth, GRID)) > float(floor) + 1 for output in wrong)
    (found,) = decode(right, GRID)
    assert torch.allclose(found.corners[found.classes.argsort()], truth[0].corners[[1, 0]], atol=1e-4)
    output = torch.zeros(1, 16, 3, 4, requires_grad=True)
    optimiser = torch.optim.Adam([output], 0.3)
    for _ in range(120):
        optimiser.zero_grad()
        loss = yolo_loss(output, truth, GRID)
        loss.backward()
        optimiser.step()
    learned = decode(output, GRID, least=0.5)[0]
    assert torch.allclose(learned.corners[learned.classes.argsort()], truth[0].corners[[1, 0]], atol=1.0)


def test_loss_takes_empty_images_and_crowded_cells() -> None:
    empty = drawn_boxes([], [])
    output = torch.zeros(2, 16, 3, 4)
    assert float(yolo_loss(output, [empty, empty], GRID)) == pytest.approx(2 * 24 * math.log(2), rel=1e-5)
    crowd = boxes(*[(8, 8, 16, 16, 0)] * 3)  # two anchors for three boxes
    assert math.isfinite(float(yolo_loss(output, [crowd, empty], GRID)))


# figures


def test_map_of_cases_made_by_hand() -> None:
    truth = [boxes((0, 0, 10, 10, 0), (20, 20, 30, 30, 1)), boxes((5, 5, 15, 15, 0))]
    names = ("a", "b", "c")
    same = mean_average_precision(truth, truth, names)
    assert same["mAP50"] == 1.0
    assert (same["AP50 a"], same["AP50 b"]) == (1.0, 1.0)
    assert math.isnan(same["AP50 c"])
    # of class 0: a wrong box with the highest score, then one of two right ones; precision 1/2 up to recall 1/2
    found = [boxes((40, 40, 50, 50, 0), scores=[0.9]), boxes((5, 5, 15, 14, 0), scores=[0.8])]
    figures = mean_average_precision(found, truth, names)
    assert figures["AP50 a"] == pytest.approx(0.5 * 51 / 101, abs=1e-4)
    assert figures["AP50 b"] == 0.0
    assert figures["mAP50"] == pytest.approx(figures["AP50 a"] / 2)


def test_miou_of_a_case_made_by_hand() -> None:
    truth = torch.tensor([[0, 0, 1], [1, 3, 3]])
    predicted = torch.tensor([[0, 1, 1], [1, 0, 2]])
    counts = confusion(predicted, truth, 3, 3)
    assert counts.tolist() == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
    figures = mean_iou(counts, ("a", "b", "c"))
    assert figures["IoU a"] == 0.5
    assert figures["IoU b"] == pytest.approx(2 / 3)
    assert math.isnan(figures["IoU c"])
    assert figures["mIoU"] == pytest.approx((0.5 + 2 / 3) / 2)
    assert figures["pixel accuracy"] == 0.75


def test_segmentation_loss_ignores_and_weighs() -> None:
    masks = torch.tensor([[[0, 0, 0, 1], [0, 0, 7, 7]]])
    weights = class_weights(masks, 3, 7)
    assert weights[2] == 0
    assert float(weights[1] / weights[0]) == pytest.approx(math.sqrt(5))
    output = torch.zeros(1, 3, 1, 2)
    assert enlarge(output, (2, 4)).shape == (1, 3, 2, 4)
    assert float(segmentation_loss(output, masks, weights, 7)) == pytest.approx(math.log(3))
    masks[0, 1, 2:] = 2  # now they count, but with weight 0
    assert float(segmentation_loss(output, masks, weights, 7)) == pytest.approx(math.log(3))
    output[0, 0] = 5.0
    everywhere_right = torch.zeros(1, 2, 4, dtype=torch.int64)
    assert float(segmentation_loss(output, everywhere_right, torch.ones(3), 7)) < 0.02


# data and views


def test_views_move_boxes_and_masks_with_their_images() -> None:
    height, width = 16, 32
    image = torch.zeros(1, 3, height, width)
    image[:, :, 4:8, 10:20] = 1.0
    mask = (image[:, 0] > 0).long()
    truth = boxes((10, 4, 20, 8, 2))
    for scale, offset in [((-1.0, 1.0), (0.0, 0.0)), ((1.0, -1.0), (0.25, 0.0)), ((0.5, 0.5), (-0.2, -0.25))]:
        views = Views(torch.tensor([scale]), torch.tensor([offset]), torch.ones(1))
        moved, moved_mask = views.images(image, torch.zeros(3)), views.masks(mask, 5)
        (corners,) = views.boxes(0, truth, height, width).corners.tolist()
        for seen in (moved[0, 0] > 0.5, moved_mask[0] == 1):
            rows, columns = torch.where(seen)
            found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert np.allclose([float(value) for value in found], corners, atol=1.01)
    away = Views(torch.ones(1, 2), torch.tensor([[1.6, 0.0]]), torch.ones(1))
    assert len(away.boxes(0, truth, height, width).classes) == 0
    assert (away.masks(mask, 5)[0, :, -20:] == 5).all()
    assert away.images(image, torch.tensor([0.5, 0.2, 0.1]))[0, :, 0, -1].tolist() == pytest.approx([0.5, 0.2, 0.1])


def test_views_follow_from_the_generator() -> None:
    chosen = Augmentation(upside_down=True)
    first, second = (random_views(50, chosen, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first.scale, second.scale)
    assert set(first.scale.sign().reshape(-1).tolist()) == {-1.0, 1.0}
    assert float(first.scale.abs().max()) <= 1.25
    assert float(first.offset.abs().max()) <= 0.2


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """The two data sets in small: coloured squares."""
    folder = tmp_path / "bccd"
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
    masks = generator.integers(0, 3, (6, 4, 4)).repeat(4, 1).repeat(4, 2).astype(np.uint8)
    images = np.stack((masks * 100, 200 - masks * 60, masks * 0 + 90), 3).astype(np.uint8)
    np.savez(tmp_path / "camvid.npz", x_train=images[:4], y_train=masks[:4], x_test=images[4:], y_test=masks[4:],
             classes=np.array(["sky", "road", "unlabelled"]))  # fmt: skip
    return tmp_path


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
        with pytest.raises(InputError, match="cannot be read from .*Put there"):
            loader(tmp_path / "nowhere", "train")
    (data_root / "bccd" / "images" / "1.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match="'bccd' cannot be read"):
        load_bccd(data_root, "train")


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


def test_pictures_show_boxes_and_classes() -> None:
    levels = torch.zeros(3, 16, 16, dtype=torch.uint8)
    drawn = np.asarray(draw_boxes(levels, boxes((2, 3, 12, 13, 1))))
    assert tuple(drawn[3 * SCALE, 6 * SCALE]) == COLOURS[1]
    assert drawn.shape == (16 * SCALE, 16 * SCALE, 3)
    mask = np.asarray(draw_mask(torch.tensor([[0, 9]], dtype=torch.uint8), 9))
    assert tuple(mask[0, 0]) == COLOURS[0]
    assert tuple(mask[0, -1]) == (0, 0, 0)


# training


def test_a_detector_learns_its_squares_and_reaches_spikes(data_root: Path, tmp_path: Path) -> None:
    cells = load_bccd(data_root, "train", (32, 40))
    assert isinstance(cells, BoxScenes)
    task = Detection(cells, cells, anchors=1, augmentation=Augmentation(1.0, 0.0, False, False, 0.0))
    options = {"width": 4, "widest": 8, "halvings": 3}
    settings = Settings("tiny-yolo", options, epochs=(30, 2), batch=4, rate=2e-2, quantised_rate=2e-3)
    stages = train(task, settings, (4, 3), log=lambda line: None)
    assert [stage.bits for stage in stages] == [None, 4, 3]
    assert stages[0].losses[-1] < stages[0].losses[0] / 2
    assert stages[0].figures["AP50 WBC"] > 0.5
    with pytest.raises(InputError, match="a float network has no spiking form"):
        stages[0].checkpoint(task, settings)
    save(stages[2].checkpoint(task, settings), tmp_path / "model.pt")
    checkpoint = load(tmp_path / "model.pt")
    assert checkpoint.metadata["anchors"] == [list(task.grid.anchors[0])]
    both = run_both(convert(checkpoint), task.test.levels, threads=1)
    twin = answers(task, checkpoint.twin, task.test.levels)
    assert task.score(twin).keys() == task.score(both.spiking).keys()
    assert float((twin - both.spiking).square().mean()) < 0.1 * float(twin.square().mean())
    assert task.picture(both.spiking[:1], [0]).width > 2 * 40 * SCALE


def test_a_segmentation_network_learns_its_squares(data_root: Path) -> None:
    streets = load_camvid(data_root, "train")
    assert isinstance(streets, MaskScenes)
    task = Segmentation(streets, streets, augmentation=Augmentation(1.0, 0.0, False, False, 0.0))
    options = {"width": 4, "stride": 4, "dilation": 2, "context": 8}
    settings = Settings("vgg9-segmentation", options, epochs=(12, 2), batch=4, rate=2e-2, quantised_rate=5e-3)
    stages = train(task, settings, (3,), log=lambda line: None)
    again = train(task, settings, (3,), log=lambda line: None)
    assert [stage.losses for stage in stages] == [stage.losses for stage in again]  # seeded
    assert stages[1].figures["mIoU"] > 0.6
    output = answers(task, stages[1].model, streets.levels)
    assert task.picture(output[:2], [0, 1]).height > 2 * 16 * SCALE


def test_a_detector_wants_whole_cells(data_root: Path) -> None:
    cells = load_bccd(data_root, "train", (30, 40))
    with pytest.raises(InputError, match="30x40 do not divide into cells of 8"):
        Detection(cells, cells)


def test_the_script_writes_its_record(data_root: Path, tmp_path: Path) -> None:
    command = [
        sys.executable, "scripts/detection_segmentation.py", "--task", "camvid", "--data-root", str(data_root),
        "--out", str(tmp_path / "out"), "--epochs", "1,1", "--bits", "2", "--width", "2",
    ]  # fmt: skip
    subprocess.run(command, check=True, timeout=120, cwd=ROOT, capture_output=True)
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    (network,) = record["networks"]
    assert network["images"] == 2
    assert network["integer network"] == network["spiking network"]
    assert (tmp_path / "out" / "camvid-2bit.png").exists()
