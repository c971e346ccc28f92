"""Detection and segmentation: figures on cases made by hand, data sets, and every network to spikes."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.classification import MulticlassJaccardIndex

from fastsnn_deploy.analysis.verify import verify
from fastsnn_deploy.conversion.lower import lower
from fastsnn_deploy.conversion.trace import trace
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.quantisation import calibrate, prepare
from fastsnn_deploy.tasks import (
    Boxes,
    Classification,
    Detection,
    Scenes,
    Segmentation,
    Task,
    drawn_boxes,
    evaluate_task,
    task_in,
    task_of,
)
from fastsnn_deploy.tasks.augment import Views, random_views
from fastsnn_deploy.tasks.draw import COLOURS, beside
from fastsnn_deploy.tasks.metrics import confusion, mean_average_precision, mean_iou
from fastsnn_deploy.tasks.segmentation import class_weights, enlarge, segmentation_loss
from fastsnn_deploy.tasks.yolo import Grid, decode, find_anchors, shape_iou, yolo_loss
from fastsnn_deploy.training.models import build
from fastsnn_deploy.training.models.detection import Reorg
from fastsnn_deploy.training.recipe import Augment

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
    quantised = prepare(model.eval(), bits)
    calibrate(quantised, levels.float() / 255)
    with torch.no_grad():
        assert quantised.eval()(levels[:1].float() / 255).shape[2:] == tuple(
            size // STRIDES[name] for size in shape[1:]
        )
    return lower(trace(quantised, shape)), levels


@pytest.mark.parametrize("name", sorted(SMALL))
def test_every_network_settles_to_its_integers(name: str) -> None:
    graph, levels = small_graph(name)
    found = verify(graph, levels[:2].numpy())
    assert found.exact
    assert found.total.compared > 2 * sum(population.size for population in graph.populations)
    assert float(found.outputs.std()) > 0


def test_every_form_of_a_network_is_measured() -> None:
    graph, levels = small_graph("vgg9-segmentation")
    masks = torch.randint(0, 4, (4, 24, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    task = Segmentation(classes=("a", "b", "c", "d"))
    scenes = Scenes("made", levels, task.classes, masks)
    found = evaluate_task(graph, task, scenes, at=(1, 7), batch=3, threads=1)
    assert list(found.forms) == ["integer network", "SNN after 1 steps", "SNN after 7 steps", "SNN, settled"]
    assert found.forms["SNN, settled"] == found.forms["integer network"] != found.forms["SNN after 1 steps"]
    assert (found.outputs, found.different) == (4 * 4 * 3 * 4, 0)
    assert found.work.images == 4
    assert "0 of 192 integers differ" in found.summary()
    assert found.to_dict()["figures"]["SNN, settled"]["mIoU"] == found.last["mIoU"]
    short = evaluate_task(graph, task, scenes, steps=7, at=(1, 7, 9), threads=1)
    assert list(short.forms)[-2:] == ["SNN after 1 steps", "SNN after 7 steps"]
    assert short.last == found.forms["SNN after 7 steps"]


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


@pytest.mark.parametrize("seed", range(5))
def test_iou_is_that_of_torchmetrics(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    truth, predicted = (torch.randint(6, (4, 9, 11), generator=generator) for _ in range(2))
    counts = confusion(predicted.clamp(max=4), truth, 5, 5)
    theirs = MulticlassJaccardIndex(5, average="none", ignore_index=5)(predicted.clamp(max=4), truth)
    figures = mean_iou(counts, tuple("abcde"))
    assert [figures[f"IoU {name}"] for name in "abcde"] == pytest.approx(theirs.tolist())
    assert figures["mIoU"] == pytest.approx(float(theirs.mean()))


def test_segmentation_loss_ignores_and_weighs() -> None:
    masks = torch.tensor([[[0, 0, 0, 1], [0, 0, 255, 255]]])
    weights = class_weights(masks, 3)
    assert weights[2] == 0
    assert float(weights[1] / weights[0]) == pytest.approx(math.sqrt(5))
    output = torch.zeros(1, 3, 1, 2)
    assert enlarge(output, (2, 4)).shape == (1, 3, 2, 4)
    assert float(segmentation_loss(output, masks, weights)) == pytest.approx(math.log(3))
    masks[0, 1, 2:] = 2  # now they count, but with weight 0
    assert float(segmentation_loss(output, masks, weights)) == pytest.approx(math.log(3))
    with pytest.raises(InputError, match="every pixel of the masks is 255"):
        class_weights(torch.full((2, 2), 255), 3)
    output[0, 0] = 5.0
    everywhere_right = torch.zeros(1, 2, 4, dtype=torch.int64)
    assert float(segmentation_loss(output, everywhere_right, torch.ones(3))) < 0.02


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
    chosen = Augment(zoom=1.25, shift=4, flip=True, upside_down=True, light=0.2)
    first, second = (random_views(50, chosen, (16, 32), torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first.scale, second.scale)
    assert set(first.scale.sign().reshape(-1).tolist()) == {-1.0, 1.0}
    assert float(first.scale.abs().max()) <= 1.25
    assert bool((first.offset.abs() <= torch.tensor([4 * 2 / 32, 4 * 2 / 16])).all())
    assert float(first.offset[:, 1].abs().max()) > 0.25
    still = random_views(5, Augment(), (16, 32), torch.Generator())
    assert torch.equal(still.scale, torch.ones(5, 2))
    assert torch.equal(still.of(slice(1, 3)).light, torch.ones(2))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other cost a hundred times the work of these tiny networks on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# answers

TASK = Detection(classes=("cat", "dog"), anchors=((8.0, 8.0), (16.0, 24.0)), stride=8)


@pytest.mark.parametrize(
    "task", [TASK, Segmentation(classes=("sky", "road"), weights=(0.5, 1.5)), Classification(classes=("a", "b"))]
)
def test_a_task_travels_as_plain_data(task: Task) -> None:
    assert task_of(task.description()) == task
    assert task_in({"task": task.description()}) == task
    assert task_in({}) is None


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"name": "detektion"}, "Did you mean 'detection'?"),
        ({"name": "detection"}, "cannot be read without its classes, anchors"),
        ({"name": "segmentation", "classes": "sky"}, "Give a list of names"),
        ({"name": "segmentation", "stride": 8}, "segmentation has no stride"),
        ([], "is not a description of a task"),
    ],
)
def test_wrong_descriptions_are_explained(description: object, message: str) -> None:
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        task_of(description)


def test_boxes_are_told_and_drawn_on_an_image_of_any_size() -> None:
    answer = boxes((2, 3, 12, 13, 1), scores=[0.75])
    assert TASK.line(answer) == "1 boxes: 1 dog"
    assert TASK.plain(answer, (32, 64), (16, 16)) == [{"class": "dog", "score": 0.75, "box": [8.0, 6.0, 48.0, 26.0]}]
    page = TASK.draw(Image.new("RGB", (960, 480)), answer, (16, 16))  # a pixel of the network is 60x30 of the image
    assert page.getpixel((12 * 60 - 2, 10 * 30)) == COLOURS[1]
    assert page.width == 960
    assert page.height > 480
    small = TASK.draw(Image.new("RGB", (16, 16)), answer, (16, 16))
    assert small.getpixel((11 * 30 + 29, 8 * 30)) == COLOURS[1]
    assert beside(page, small, ("one", "other")).width > 960 + 480


def test_masks_are_told_and_drawn_over_an_image() -> None:
    task = Segmentation(classes=("sky", "road"))
    (answer,) = task.predict(torch.tensor([[[[5.0, 0.0]], [[0.0, 5.0]]]]), (2, 4))
    assert answer.tolist() == [[0, 0, 1, 1]] * 2
    assert task.line(answer) == "sky 50 %, road 50 %"
    assert task.plain(answer, (9, 9), (2, 4)) == {"sky": 0.5, "road": 0.5}
    answer[0, 0] = 255
    page = np.asarray(task.draw(Image.new("RGB", (480, 240), "white"), answer, (2, 4)))
    assert page[5, 5].tolist() == [102] * 3  # black over white
    assert page[200, 400].tolist() == [round(0.6 * c + 0.4 * 255) for c in COLOURS[1]]


def test_agreement_counts_what_people_look_at() -> None:
    sure_map, other = sure((0, 1, 1, 1, (0.0,) * 4)), sure((0, 1, 1, 2, (0.0,) * 4), (0, 2, 2, 0, (0.0,) * 4))
    three = Detection(classes=("a", "b", "c"), anchors=GRID.anchors, stride=8)
    assert three.agreement(sure_map, sure_map, (24, 32)).differing == 0
    found = three.agreement(sure_map, other, (24, 32))
    assert (found.what, found.compared, found.differing) == ("boxes", 3, 3)  # another class, and one more
    first = torch.tensor([[[[5.0, 0.0]], [[0.0, 5.0]]]])
    pixels = Segmentation(classes=("a", "b")).agreement(first, first.flip(3), (2, 4))
    assert (pixels.what, pixels.compared, pixels.differing) == ("pixels", 8, 8)
    classes = Classification().agreement(torch.eye(3), torch.eye(3)[[0, 2, 1]], (1, 1))
    assert (classes.what, classes.compared, classes.differing) == ("predictions", 3, 2)


def test_meters_add_up() -> None:
    meter = Classification().meter()
    for row in torch.eye(4):
        meter.add(row[None], torch.tensor([0]))
    assert meter.figures() == {"accuracy": 0.25}
