"""Packed checkpoints: the same integers and steps, at their bits, and no harm from damaged ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.quantisation import Checkpoint, calibrate, load, prepare, save
from fastsnn_deploy.quantisation.functional import weight_limit
from fastsnn_deploy.quantisation.layers import QUANT_WEIGHTED
from fastsnn_deploy.quantisation.packed import pack_weights, packed, unpacked


@given(st.integers(2, 8), st.integers(0, 50), st.integers(0, 2**31))
def test_integers_come_back(bits: int, count: int, seed: int) -> None:
    limit = weight_limit(bits)
    integers = np.random.default_rng(seed).integers(-limit, limit + 1, count).astype(np.int8)
    data = packed(integers, bits)
    assert len(data) == -(-count * bits // 8)
    assert np.array_equal(unpacked(data, bits, count), integers)


def quantised(**options: Any) -> Checkpoint:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2), nn.ReLU(),
        nn.ConvTranspose2d(8, 6, 2, 2, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(1536, 5),
    )  # fmt: skip
    model = prepare(network, bits=2, input_shape=(3, 12, 12), **options)
    calibrate(model, torch.rand(4, 3, 12, 12))
    return Checkpoint(model.eval(), (3, 12, 12))


@pytest.mark.parametrize(("weight_bits", "quantiser"), [(2, "uniform"), (3, "uniform"), (4, "uniform"), (4, "apot")])
def test_networks_compute_with_the_same_integers(weight_bits: int, quantiser: str, tmp_path: Path) -> None:
    checkpoint, file = quantised(weight_bits=weight_bits, weight=quantiser), tmp_path / "model.pt"
    layer = checkpoint.model.get_submodule("3")
    with torch.no_grad():
        layer.get_parameter("weight").add_(
            0.01 * torch.randn_like(layer.weight)
        )  # off their grid, as training has them
    save(checkpoint, file, packed=True)
    again, names = load(file), pack_weights(checkpoint.model)[1]
    images = torch.rand(4, 3, 12, 12)
    assert torch.equal(again.model.eval()(images), checkpoint.model(images))
    layers = {name: m for name, m in checkpoint.model.named_modules() if isinstance(m, QUANT_WEIGHTED)}
    assert len(layers) == 4
    assert set(names) == (set(layers) if quantiser == "uniform" else set())  # the grid of others follows from floats
    for name, layer in layers.items():
        for mine, its in zip(layer.integer_weight(), again.model.get_submodule(name).integer_weight(), strict=True):
            assert torch.equal(mine, its)
    save(again, file, again=True, packed=True)
    assert torch.equal(load(file).model.eval()(images), checkpoint.model(images))


def test_weights_take_their_bits() -> None:
    checkpoint = quantised(weight_bits=4)
    state, bits = pack_weights(checkpoint.model)
    sizes = {name: (state[f"{name}.weight"].numel(), bits[name]) for name in bits}
    assert sorted(sizes.values()) == [(48, 4), (144, 4), (216, 8), (7680, 8)]


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.pt"
    save(quantised(weight_bits=4), file, packed=True)
    whole = torch.load(file, weights_only=True)
    name = next(iter(whole["bits"]))
    short = {**whole["state"], f"{name}.weight": whole["state"][f"{name}.weight"][1:]}
    floats = {**whole["state"], f"{name}.weight": torch.ones(3)}
    for change in (
        {"state": short}, {"state": floats}, {"bits": {**whole["bits"], name: 7}}, {"bits": {"nowhere": 4}},
        {"bits": {}}, {"bits": None}, {"version": 1}, {"bits": {**whole["bits"], "relu": 4}},
    ):  # fmt: skip
        torch.save({**whole, **change}, file)
        with pytest.raises(InputError, match="damaged"):
            load(file)
    del whole["bits"]
    torch.save(whole, file)
    with pytest.raises(InputError, match="damaged"):
        load(file)
