"""`fit`: any data, the same weights again, and clear words about what does not fit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import fx, nn
from torch.utils.data import Dataset, TensorDataset

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.quantisation import prepare
from fastsnn_deploy.training.data import load_images
from fastsnn_deploy.training.fit import fit

GENERATOR = np.random.default_rng(0)
LABELS = np.arange(60) % 3
PIXELS = (80 * LABELS[:, None, None, None] + GENERATOR.integers(0, 40, (60, 1, 8, 8))).astype(np.uint8)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network(seed: int = 0) -> fx.GraphModule:
    torch.manual_seed(seed)
    layers = (nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 3))
    return prepare(nn.Sequential(*layers), 2)


class Pictures(Dataset[tuple[Image.Image, int]]):
    def __len__(self) -> int:
        return len(PIXELS)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(PIXELS[index, 0]), int(LABELS[index])


def test_every_kind_of_data_gives_the_same_weights(capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for data in (
        (PIXELS, LABELS),
        (torch.from_numpy(PIXELS).float() / 255, torch.from_numpy(LABELS)),
        TensorDataset(torch.from_numpy(PIXELS), torch.from_numpy(LABELS)),
        TensorDataset(torch.from_numpy(PIXELS / 255), torch.from_numpy(LABELS)),
        Pictures(),
    ):
        model = network()
        history = fit(model, data, (PIXELS, LABELS), epochs=6, batch_size=16, progress=False)
        assert not model.training
        found.append((history, model.state_dict()))
    assert found[0][0].accuracy[-1] > 0.9
    assert found[0][0].loss[-1] < found[0][0].loss[0]
    assert repr(found[0][0]).startswith("History(6 epochs, loss ")
    for history, state in found[1:]:
        assert history == found[0][0]
        assert all(torch.equal(state[name], tensor) for name, tensor in found[0][1].items())
    assert capsys.readouterr() == ("", "")


def test_the_seed_decides_and_the_global_generator_is_left_alone() -> None:
    def losses(seed: int, before: int) -> tuple[float, ...]:
        model = network()
        torch.manual_seed(before)
        loss = fit(model, (PIXELS, LABELS), epochs=2, seed=seed, progress=False).loss
        after = torch.rand(())
        torch.manual_seed(before)
        assert torch.equal(torch.rand(()), after)
        return loss

    assert losses(0, 1) == losses(0, 2) != losses(3, 1)


def test_progress_is_a_line_for_each_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    fit(network(), (PIXELS, LABELS), epochs=20, batch_size=30)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert len(lines) == 10
    assert lines[-1].startswith("epoch 20/20: loss ")
    assert "training accuracy" in lines[-1]
    seen: list[tuple[int, int]] = []
    fit(network(), (PIXELS, LABELS), epochs=2, batch_size=30, progress=lambda *done: seen.append(done))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_one_long_epoch_says_where_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    fit(network(), (PIXELS, LABELS), epochs=1, batch_size=2)
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("training: ")] == [f"training: {10 * i} %" for i in range(1, 10)]
    assert lines[-1].startswith("epoch 1/1: loss ")


def test_images_of_another_grid() -> None:
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
    digits = load_images("digits", "test")
    first, second = prepare(nn.Sequential(*layers)), prepare(nn.Sequential(*layers), input_levels=(0, 100))
    assert fit(first, digits, epochs=2, progress=False).accuracy[-1] > 0.5
    with pytest.raises(InputError, match=r"train, data set 'digits'.* outside \[0, 0.392157\]"):
        fit(second, digits, epochs=2, progress=False)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ((PIXELS.transpose(0, 2, 3, 1).repeat(2, 1), LABELS), "Put the channels first"),
        ((PIXELS.astype(float), LABELS), "divide them by 255"),
        ((PIXELS / 255 - 0.5, LABELS), "normalised"),
        ((PIXELS, LABELS[:5]), "Give one class number"),
        ((PIXELS, LABELS / 2), "Give one class number"),
        ((PIXELS, LABELS + 1), "labels reach from 1 to 3, the network has classes 0 to 2"),
        ((PIXELS[:1], LABELS[:1]), "at least two images"),
        ((PIXELS[:, :, :7], LABELS), "cannot take images of shape"),
        (PIXELS, "train: got a ndarray"),
        (TensorDataset(torch.from_numpy(PIXELS)), "not .image, label"),
        (TensorDataset(torch.from_numpy(PIXELS), torch.from_numpy(LABELS - 1)), "labels reach from -1"),
        (TensorDataset(torch.from_numpy(PIXELS / 255) - 1, torch.from_numpy(LABELS)), "normalised"),
    ],
)
def test_data_that_does_not_fit(train: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit(network(), train, epochs=1, progress=False)


def test_options_that_make_no_sense() -> None:
    for wrong in ({"epochs": 0}, {"batch_size": 1}, {"learning_rate": float("nan")}):
        with pytest.raises(InputError, match="learning_rate"):
            fit(network(), (PIXELS, LABELS), progress=False, **wrong)
    with pytest.raises(InputError, match="Call prepare first"):
        fit(nn.Linear(3, 3), (PIXELS, LABELS), progress=False)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"training diverged.*Lower the learning rate"):
        fit(network(), (PIXELS, LABELS), learning_rate=1e30, progress=False)
