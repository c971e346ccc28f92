"""Raw images mean the same everywhere: bool, integers and floats, any unit, every data set with its own statistics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import fastsnn_deploy as fd
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.training import data, images
from fastsnn_deploy.training.data import load_images
from fastsnn_deploy.training.sources.named import STATISTICS

SHAPE = (1, 8, 8)
REAL = np.random.default_rng(1).random((12, *SHAPE))


def network(bias: bool = True, gain: float = 1.0) -> nn.Module:
    torch.manual_seed(0)
    norm = [nn.BatchNorm2d(6)] if bias else []
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1, bias=bias), *norm, nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1, bias=bias), nn.ReLU(), nn.Flatten(), nn.Linear(128, 10, bias=bias),
    )  # fmt: skip
    with torch.no_grad():
        next(model.parameters()).mul_(gain)
    return model


def calibrated(model: nn.Module, images: np.ndarray, **options: Any) -> Any:
    prepared = fd.prepare(model, input_shape=SHAPE, **options)
    fd.calibrate(prepared, images)
    return prepared


@pytest.mark.parametrize(
    ("unit", "taken_up", "activation"),
    [
        (1e-6, "by std", "lsq"), (1e3, "by std", "clip"), (1e-6, "by the first weights", "qcfs"),
        (1e9, "by the first weights", "lsq"), (1e-6, "by every step", "lsq"), (1e3, "by every step", "clip"),
        (1e-9, "by every step", "qcfs"),
    ],
)  # fmt: skip
def test_integers_do_not_depend_on_the_unit(unit: float, taken_up: str, activation: str):
    """Data in microvolts, or in thousands: the same levels, thresholds, weights and counts."""

    def made(unit: float) -> Any:
        options: dict[str, Any] = {"input_step": unit / 255, "activation": activation, "bits": 3}
        if taken_up == "by std":
            return calibrated(network(), REAL * unit, mean=(0.4 * unit,), std=(0.3 * unit,), **options)
        if taken_up == "by the first weights":
            return calibrated(network(gain=1 / unit), REAL * unit, mean=(0.4 * unit,), **options)
        return calibrated(network(bias=False), REAL * unit, **options)

    expected, found = fd.convert(made(1.0)), fd.convert(made(unit))
    for ours, theirs in zip(found.nodes, expected.nodes, strict=True):
        for field in ("weight", "exponent", "threshold", "bias", "offset", "low", "high", "ceiling"):
            assert np.array_equal(getattr(ours, field, 0), getattr(theirs, field, 0)), (ours.name, field)
    runs = fd.simulate(found, REAL * unit), fd.simulate(expected, REAL)
    assert all(np.array_equal(runs[0].counts[name], counts) for name, counts in runs[1].counts.items())
    last = found.outputs[0]
    assert np.array_equal(runs[0].potentials[last], runs[1].potentials[last])


@pytest.mark.parametrize(("step", "levels"), [(1 / 255, (0, 255)), (1.0, (0, 1)), (1 / 16, (0, 16)), (0.5, (-2, 2))])
def test_a_bool_image_is_zero_and_one_everywhere(step: float, levels: tuple[int, int]):
    drawn = np.random.default_rng(0).random((6, *SHAPE)) > 0.5
    model = calibrated(network(), drawn, input_step=step, input_levels=levels).eval()
    snn = fd.convert(model)
    emitted = snn.encode(drawn)
    assert np.array_equal(emitted, snn.encode(drawn.astype(np.float32)))
    assert emitted.max() == round(1 / step)
    assert emitted.min() == 0
    with torch.no_grad():
        answer = model(torch.tensor(drawn))
        assert torch.equal(answer, model(torch.tensor(drawn).float()))
    assert np.array_equal(fd.simulate(snn, drawn).logits.argmax(1), answer.argmax(1).numpy())


def test_integer_images_are_levels_in_the_prepared_network_too():
    pixels = (REAL * 255).round().astype(np.uint8)
    model = calibrated(network(), pixels).eval()
    with torch.no_grad():
        for kind in (torch.uint8, torch.int64):
            levels = torch.tensor(pixels).to(kind)
            assert torch.equal(model(levels), model(torch.tensor(pixels / 255).float()))
    answers = fd.simulate(fd.convert(model), pixels).logits.argmax(1)
    assert np.array_equal(answers, model(torch.tensor(pixels)).argmax(1).numpy())


def test_no_data_set_has_the_statistics_of_another(tmp_path: Path):
    assert len(set(STATISTICS.values())) == len(STATISTICS)
    pixels, labels = np.zeros((10, 4, 4, 3), dtype=np.uint8), np.arange(10)
    (tmp_path / "cifar10").mkdir()
    np.savez(tmp_path / "cifar10" / "test.npz", images=pixels, labels=labels)
    made = load_images("cifar10", "test", tmp_path)
    assert (made.mean, made.std) == STATISTICS["cifar10"]
    np.savez(tmp_path / "own.npz", images=pixels, labels=labels)
    for number in range(10):
        (tmp_path / "folder" / f"{number % 2}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)).save(
            tmp_path / "folder" / f"{number % 2}" / f"{number}.png"
        )
    for found in (load_images("own.npz", "train", tmp_path), load_images("folder", "train", tmp_path / "folder")):
        assert (set(found.mean), set(found.std)) == ({0.0}, {1.0})


@pytest.mark.parametrize("limit", [2**30, 10])
def test_grey_folders_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int):
    """They have three equal channels; where one is wanted, the message says why there are three."""
    monkeypatch.setattr(images, "IN_MEMORY", limit)
    monkeypatch.setattr(data, "CHECKED", limit)
    for number in range(10):
        (tmp_path / f"{number % 2}").mkdir(exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number % 2}" / f"{number}.png")
    found = fd.load_data(str(tmp_path), "train")
    assert found.grey
    model = calibrated(network(), REAL)
    for call in (
        lambda: fd.calibrate(model, found), lambda: fd.fit(model, found, epochs=1, progress=False),
        lambda: fd.evaluate(fd.convert(model), found),
    ):  # fmt: skip
        with pytest.raises(InputError, match="whose images are grey and have three equal channels"):
            call()
    Image.fromarray(np.full((8, 8), 40000, dtype=np.uint16)).save(tmp_path / "0" / "0.png")
    with pytest.raises(InputError, match=r"0\.png: has pixels of mode I.*Save it with 8 bits"):
        fd.load_data(str(tmp_path), "train").raw(slice(0, 10))
