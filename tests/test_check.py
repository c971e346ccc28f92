"""`check`: all problems of a network at once, with their lines, and what each layer will be for each target."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fastsnn_deploy as fd
from tests.commands import Result, runner


class Seven(nn.Module):
    """Seven different things without a spiking form; the comments number their lines."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.act1 = nn.Conv2d(1, 8, 3, padding=1), nn.SiLU()
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")
        self.norm, self.act2 = nn.GroupNorm(2, 8), nn.LeakyReLU(0.1)
        self.up, self.fc = nn.Upsample(scale_factor=2, mode="bicubic"), nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act1(self.conv1(x))  # 1
        x = self.conv2(x)  # 2
        x = self.norm(x)  # 3
        x = self.act2(x)  # 4
        x = self.up(x)  # 5
        x = F.gelu(x).mean((2, 3))  # 6
        return F.softmax(self.fc(x), dim=1)  # 7


def small(pool: bool = True) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), *([nn.MaxPool2d(2)] if pool else []), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(64 if pool else 256, 10)).eval()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    return runner(monkeypatch, capsys)


def lines_of_seven() -> list[str]:
    """file:line of each of the seven."""
    text = Path(__file__).read_text(encoding="utf-8").splitlines()
    return [f"{__file__}:{at}" for n in range(1, 8) for at, line in enumerate(text, 1) if line.endswith(f"  # {n}")]


def test_seven_problems_with_their_lines(run: Callable[..., Result], tmp_path: Path):
    torch.save(Seven().state_dict(), tmp_path / "seven.pth")
    result = run("check", tmp_path / "seven.pth", "--model", f"{__file__}:Seven", "--json")
    assert result.returncode == 2
    found = json.loads(result.stdout)
    problems = found["problems"]
    assert not found["ok"]
    assert len(problems) == 7
    for problem, line in zip(problems, lines_of_seven(), strict=True):
        assert problem["where"].endswith(f"({line})"), problem
        assert problem["fix"]
    refused = [row["layer"] for row in found["layers"] if row["becomes"].startswith("refused")]
    assert refused == ["act1", "conv2", "norm", "act2", "up"]
    text = run("check", tmp_path / "seven.pth", "--model", f"{__file__}:Seven")
    assert text.returncode == 2
    assert "7 problems:" in text.stdout
    assert all(line in text.stdout for line in lines_of_seven())


def test_what_becomes_of_each_layer():
    found = fd.check(small(), bits=2, weight_bits=4, input_shape=(1, 8, 8))
    assert found.ok
    assert [row["layer"] for row in found.layers] == ["input", "0", "2", "4"]
    neurons, readout = found.layers[1], found.layers[3]
    assert neurons["becomes"] == "spiking neurons of 4x8x8"
    assert neurons["levels"] == 3
    assert neurons["targets"] == {
        "signed-if": "4x8x8, spikes -1 to 1", "graded": "4x8x8, spikes -3 to 3", "stock-lif": "12x8x8 StockConv",
    }  # fmt: skip
    needed, available = readout["potential_bits"]
    assert 8 < needed <= available == 24
    assert [problem.where.split(":")[0] for problem in found.refusals] == ["sigma-delta"]
    assert found.targets["sigma-delta"] is None
    assert found.targets["signed-if"]["neurons"] == 266  # type: ignore[index]
    assert "random ones" in found.notes[0]
    for text in ("What becomes of Sequential", "nothing stands in the way", "not for sigma-delta"):
        assert text in found.summary()
    json.dumps(found.to_dict())
    assert repr(found) == "Check(Sequential, 1x8x8: 4 layers, no problems)"


def test_bits_are_those_of_the_network_that_is_made():
    """With the same images, what check says of potentials is what the network has."""
    from fastsnn_deploy.graph.ranges import ranges

    images = np.random.default_rng(0).integers(0, 256, (8, 1, 8, 8)).astype(np.uint8)
    found = fd.check(small(), images, bits=4)
    model = fd.prepare(small(), bits=4, weight_bits=8, input_shape=(1, 8, 8))
    fd.calibrate(model, images)
    graph = fd.convert(model)
    bounds = ranges(graph.nodes)
    wanted = [bounds[f"{name}.potential"].magnitude.bit_length() + 1 for name in ("0", "4")]
    assert [found.layers[i]["potential_bits"][0] for i in (1, 3)] == wanted
    assert not found.notes
    assert fd.check(model, images).layers == found.layers


def test_a_target_that_is_asked_for_must_take_the_network(run: Callable[..., Result], tmp_path: Path):
    torch.export.save(torch.export.export(small(), (torch.rand(1, 1, 8, 8),)), tmp_path / "pool.pt2")
    torch.export.save(torch.export.export(small(pool=False), (torch.rand(1, 1, 8, 8),)), tmp_path / "plain.pt2")
    for file, options, code in (
        ("pool.pt2", ("--data", "digits"), 0),
        ("pool.pt2", ("--target", "sigma-delta"), 2),
        ("plain.pt2", ("--target", "sigma-delta", "--target", "graded"), 0),
        ("plain.pt2", ("--target", "gradd"), 2),
    ):
        assert run("check", tmp_path / file, *options).returncode == code, (file, options)


def test_a_network_that_answers_with_a_map():
    images = np.random.default_rng(0).integers(0, 256, (4, 1, 8, 8)).astype(np.uint8)
    found = fd.check(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)), images)
    assert found.ok
    assert not found.refusals
    assert found.layers[-1]["becomes"] == "readout of 2x4x4"


def test_a_file_or_a_checkpoint(checkpoint_file: Path, run: Callable[..., Result]):
    found = fd.check(checkpoint_file)
    assert found.ok
    assert len(found.layers) > 4
    assert run("check", checkpoint_file).returncode == 0


WRONG: dict[str, tuple[tuple[Any, ...], dict[str, Any], str]] = {
    "no network": ((3,), {}, "the network: got 3 (int)"),
    "no file": (("nowhere.pt2",), {}, "no such checkpoint"),
    "bits": ((small(),), {"bits": 9}, "bits=9: must be a whole number from 1 to 8"),
    "mean": ((small(),), {"mean": "x"}, "mean='x'"),
    "target": ((small(),), {"targets": ["lif"]}, "target 'lif' is not known"),
    "shape": ((small(),), {"input_shape": (1, 9)}, "does not pass through"),
    "images": ((small(), np.zeros((4, 1, 8, 8))), {}, "constant images"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_what_cannot_be_checked(kind: str):
    arguments, options, says = WRONG[kind]
    with pytest.raises(fd.InputError) as caught:
        fd.check(*arguments, **options)
    assert says in str(caught.value)
