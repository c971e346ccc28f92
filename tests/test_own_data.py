"""Data and networks of the user's own, and a data set's grid against the network's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fastsnn_deploy.conversion.convert import convert
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.formats import netx
from fastsnn_deploy.graph.images import levels_of
from fastsnn_deploy.quantisation import Checkpoint, calibrate, prepare, save
from fastsnn_deploy.simulators.integer import integer_logits
from fastsnn_deploy.training.answers import quantised_logits
from fastsnn_deploy.training.data import load_images
from fastsnn_deploy.training.fit import fit
from fastsnn_deploy.training.models import build
from tests.commands import Result, runner

PIXELS = np.random.default_rng(0).integers(0, 256, (10, 3, 6, 5), dtype=np.uint8)
LABELS = np.arange(10) % 2


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    return runner(monkeypatch, capsys)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# --- grids


@pytest.fixture(scope="module")
def pixel_checkpoint() -> Checkpoint:
    """A network for pixels of 1/255, trained on digits, whose own levels are sixteenths."""
    torch.manual_seed(0)
    network = prepare(build("digits-net", channels=1, classes=10, width=8), 2, mean=(0.305,), std=(0.376,))
    digits = load_images("digits", "train")
    fit(network, digits, epochs=5, learning_rate=0.1, progress=False)
    return Checkpoint(network, (1, 8, 8), {"data": "digits"})


def test_evaluate_and_python_agree_on_digits_of_another_grid(
    run: Callable[..., Result], pixel_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    test = load_images("digits", "test")
    expected = float((quantised_logits(pixel_checkpoint.model, test).argmax(1) == test.labels.numpy()).mean())
    assert expected > 0.85
    save(pixel_checkpoint, tmp_path / "model.pt")
    graph = convert(pixel_checkpoint)
    netx.write(graph, tmp_path / "model.net")
    answers = integer_logits(graph, test.for_input(graph.input)).argmax(1)
    right = int((answers == test.labels.numpy()).sum())
    report = json.loads(run("evaluate", "model.net", "--json").stdout)
    assert report["correct"]["top1"] == right
    assert abs(right / 360 - expected) < 0.02
    verified = json.loads(run("verify", "model.pt", "model.net", "--samples", 20, "--json").stdout)
    assert verified["exact"]
    assert verified["predictions_differing_from_quantised"] <= 1


def test_images_on_the_grid_of_a_network(pixel_checkpoint: Checkpoint) -> None:
    digits = load_images("digits", "test")
    source = convert(pixel_checkpoint).input
    found = digits.for_input(source, slice(0, 20))
    np.testing.assert_array_equal(found, np.floor(digits.levels[:20].numpy() * 15.9375 + 0.5))
    assert found.dtype == np.int64

    class Own:
        shape, step, low, high = (1, 8, 8), 1 / 16, 0, 16

    np.testing.assert_array_equal(digits.for_input(Own, slice(0, 20)), digits.levels[:20].numpy())
    Own.high = 15
    with pytest.raises(InputError, match=r"digits.* span \[0, 1\], outside \[0, 0.9375\]"):
        digits.for_input(Own)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 6, 5, 3), np.uint8), "Put the channels first"),
        (np.zeros((2, 3, 5, 6)), r"takes \(N, 3, 6, 5\)"),
        (np.zeros((6, 5)), r"takes \(N, 3, 6, 5\)"),
        (np.full((3, 6, 5), np.nan), "NaN"),
        (np.full((3, 6, 5), -1.2), "They seem normalised"),
        (PIXELS.astype(np.float32), "divide them by 255"),
        (np.full((3, 6, 5), 1.5), "Scale them into that range"),
        (np.full((3, 6, 5), 1e300), "outside"),
        (np.full((3, 6, 5), 256), "outside its levels"),
        (np.full((3, 6, 5), "a"), "dtype"),
    ],
)
def test_images_that_are_not_raw(images: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        levels_of(images, shape=(3, 6, 5), step=1 / 255, low=0, high=255)


def test_raw_images_in_every_form() -> None:
    def levels(images: object, step: float = 1 / 255, high: int = 255) -> np.ndarray:
        return levels_of(images, shape=(3, 6, 5), step=step, low=0, high=high)

    for images in (
        PIXELS,
        PIXELS / 255,
        (PIXELS / 255).astype(np.float32),
        torch.from_numpy(PIXELS),
        PIXELS.astype(int),
    ):
        np.testing.assert_array_equal(levels(images), PIXELS)
    np.testing.assert_array_equal(levels(PIXELS[0]), PIXELS[:1])
    np.testing.assert_array_equal(levels(PIXELS > 9), (PIXELS > 9) * 255)
    with pytest.raises(InputError, match="Divide the pixels by 255"):
        levels(PIXELS, 1 / 16, 16)


# --- data


def test_npz_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "both.npz", x_train=PIXELS, y_train=LABELS, images_val=PIXELS[:4] / 255, labels_val=LABELS[:4])
    train, test = (load_images(str(tmp_path / "both.npz"), split) for split in ("train", "test"))
    np.testing.assert_array_equal(train.levels, PIXELS)
    np.testing.assert_array_equal(test.levels, PIXELS[:4])
    assert (train.classes, train.mean, train.std) == (2, (0.0,) * 3, (1.0,) * 3)
    np.savez(tmp_path / "own-train.npz", images=PIXELS.transpose(0, 2, 3, 1), labels=LABELS)
    with pytest.raises(InputError, match=r"the test split is missing. Put it into own-test\.npz"):
        load_images("own-train.npz", "test", tmp_path)
    np.savez(tmp_path / "own-test.npz", images=PIXELS[:3], labels=LABELS[:3])
    np.testing.assert_array_equal(load_images("own-train.npz", "train", tmp_path).levels, PIXELS)
    np.testing.assert_array_equal(load_images("own-train.npz", "test", tmp_path).levels, PIXELS[:3])
    np.savez(tmp_path / "whole.npz", x=PIXELS[:, 0], y=LABELS)
    parts = [load_images("whole.npz", split, tmp_path) for split in ("train", "test")]
    assert [len(part.labels) for part in parts] == [8, 2]
    joined = np.concatenate([part.levels.numpy() for part in parts])
    assert {image.tobytes() for image in joined} == {image.tobytes() for image in PIXELS[:, :1]}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": PIXELS, "y": LABELS}, "holds pictures, y. Name its arrays"),
        ({"x": PIXELS, "y": LABELS[:3]}, "for 10 images"),
        ({"x": PIXELS, "y": LABELS - 1}, "Number the classes from 0"),
        ({"x": PIXELS, "y": LABELS / 2}, "Give one class number"),
        ({"x": PIXELS[0, 0], "y": LABELS}, "Give .N, channels, height, width"),
        ({"x": PIXELS / 255 - 0.5, "y": LABELS}, "They seem normalised"),
    ],
)
def test_npz_files_that_cannot_be_used(arrays: dict[str, np.ndarray], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "odd.npz", **arrays)
    with pytest.raises(InputError, match=message):
        load_images("odd.npz", "train", tmp_path)


def test_folders_of_ones_own(tmp_path: Path) -> None:
    for i, pixels in enumerate(PIXELS):
        for place in ("split/train", "split/val", "whole"):
            (tmp_path / place / f"class{LABELS[i]}").mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.transpose(1, 2, 0)).save(tmp_path / place / f"class{LABELS[i]}" / f"{i}.png")
    for split in ("train", "test"):
        images = load_images("split", split, tmp_path)
        np.testing.assert_array_equal(images.levels, np.concatenate([PIXELS[::2], PIXELS[1::2]]))
        assert (images.labels.tolist(), images.mean) == ([0] * 5 + [1] * 5, (0.0,) * 3)
    parts = [load_images(str(tmp_path / "whole"), split) for split in ("train", "test")]
    assert [part.labels.tolist() for part in parts] == [[0] * 4 + [1] * 4, [0, 1]]


OWN = """
import torch
from torch import nn
from torch.utils.data import TensorDataset

def digits(split):
    count = 200 if split == "train" else 50
    images = torch.arange(count * 64).view(count, 1, 8, 8) % 256
    return TensorDataset(images.to(torch.uint8), torch.arange(count) % 10)

def arrays(split):
    return [[[[0.0]]]], [0]

def broken(split):
    raise RuntimeError("no luck")

def nothing(split):
    return 3

def wrong():
    return 3

def network(classes, width=4):
    layers = nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten(), nn.Linear(36 * width, classes)
    return nn.Sequential(*layers)
"""

RECIPE = """
name: mine
data: digits
model: digits-net
stages:
  - {epochs: 1, learning_rate: 0.05}
  - {epochs: 1, learning_rate: 0.02, bits: 2}
"""


def test_data_and_networks_by_their_names(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    (tmp_path / "mine.yaml").write_text(RECIPE)
    assert load_images("mine.py:digits", "test").levels.shape == (50, 1, 8, 8)
    assert load_images("mine:arrays", "test").levels.shape == (1, 1, 1, 1)
    assert len(build("mine:network", channels=1, classes=3)) == 5
    for name, message in (
        ("mine:broken", "no luck"), ("mine:nothing", "returns something of type int"),
        ("mine:digit", "Did you mean 'digits'"),
        ("nowhere:x", "nowhere cannot be imported"), ("ghost.py:x", "no such file"),
        ("digit", "Did you mean 'digits'"), ("ghost.npz", "give an .npz file"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            load_images(name, "test")
    with pytest.raises(InputError, match=r"cannot be built.*depth"):
        build("mine:network", channels=1, classes=3, depth=2)
    with pytest.raises(InputError, match="of type int is no network"):
        build("mine:wrong")
    done = run("train", "--recipe", "mine.yaml", "--model", "mine:network", "--data", "mine.py:digits", "--json")
    assert done.returncode == 0, done.stderr
    assert "epoch 1/1: loss" in done.stderr
    report = run("train", "--recipe", "mine.yaml", "--model", "mine:network", "--data", "mine.py:digits", "--resume")
    assert report.returncode == 0, report.stderr
    assert "the training is finished: the checkpoint is model.pt" in " ".join(report.stderr.split())
    assert run("export", "model.pt").returncode == 0
    evaluated = json.loads(run("evaluate", "model.net", "--json").stdout)
    assert (evaluated["images"], evaluated["data"]) == (50, "mine.py:digits")


def test_a_new_training_spares_an_unfinished_one(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(RECIPE)
    state = tmp_path / "model.pt.resume"
    state.write_bytes(b"precious")
    refused = run("train", "--recipe", "mine.yaml")
    assert refused.returncode == 2
    assert "model.pt.resume: is the state of an unfinished training" in refused.stderr
    assert state.read_bytes() == b"precious"
    done = run("train", "--recipe", "mine.yaml", "--restart")
    assert done.returncode == 0, done.stderr
    assert not state.exists()


def test_calibrating_again_sets_the_steps_anew() -> None:
    def steps() -> list[float]:
        return [float(p.detach()) for name, p in network.named_parameters() if name.endswith(".step")]

    network = prepare(build("digits-net", channels=1, classes=10, width=4).eval())
    dim = torch.from_numpy(np.random.default_rng(0).random((20, 1, 8, 8)) / 4)
    calibrate(network, dim)
    first = steps()
    calibrate(network, (4 * dim).numpy())
    assert first
    assert steps() != first
    calibrate(network, dim)
    assert steps() == first
    for wrong, message in ((dim - 0.2, "normalised"), (dim.view(20, 8, 8, 1), "channels first"), (255 * dim, "by 255")):
        with pytest.raises(InputError, match=message):
            calibrate(network, wrong)
        assert steps() == first
    calibrate(network, torch.utils.data.TensorDataset(dim.float(), torch.zeros(20)))
    assert steps() == pytest.approx(first)
    calibrate(network, load_images("digits", "train"))
    assert steps() != first
