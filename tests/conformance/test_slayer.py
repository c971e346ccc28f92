"""NetX files that slayer exports: our reader and simulator give slayer's own spikes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.formats import netx
from fastsnn_deploy.lava_dl import run
from fastsnn_deploy.lava_dl.dense_weights import computed_weight
from tests.conformance.stock import execute

pytestmark = pytest.mark.lava

NETWORKS = {"conv-memoryless": (2, 9, 7), "conv-leaky": (2, 9, 7), "dense-leaky": None}
"""Name and the input's shape, which slayer's files need not hold."""


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slayer")
    execute("slayer_export.py", [str(folder)], folder, timeout=120)
    return folder


@pytest.mark.parametrize("name", NETWORKS)
def test_slayer_exports_give_slayers_spikes(exports: Path, name: str) -> None:
    frames, output = (np.load(exports / f"{name}.{end}.npy") for end in ("in", "out"))
    network = netx.read_stock(exports / f"{name}.net", input_shape=NETWORKS[name])
    result = run(network, frames[:, None], len(frames))
    np.testing.assert_array_equal(result.spikes[-1][:, 0], output)
    assert 0 < output.mean() < 1


def test_a_convolution_without_an_input_layer_needs_the_shape(exports: Path) -> None:
    with pytest.raises(InputError, match="layer 0: there is no input layer before it"):
        netx.read_stock(exports / "conv-leaky.net")


def test_dense_weights_are_what_lava_computes_with(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    matrices = {"zeros": np.zeros((2, 3), dtype=np.int64)}
    for index in range(400):
        low, high = sorted(int(value) for value in rng.integers(-300, 301, 2) // (8 if index % 7 == 0 else 1))
        low, high = (low, max(high, 0)) if index % 5 else (min(low, 0), 0)
        matrices[f"{index}"] = rng.integers(low, high + 1, rng.integers(1, 6, 2)) * (1 + (index % 3 == 0))
    np.savez(tmp_path / "in.npz", **matrices)
    execute("stock_weights.py", [str(tmp_path / "in.npz"), str(tmp_path / "out.npz")], tmp_path, timeout=120)
    stock = np.load(tmp_path / "out.npz")
    for name, weight in matrices.items():
        computed = computed_weight(weight)
        assert (computed is None) == (name not in stock)
        if computed is not None:
            np.testing.assert_array_equal(np.floor(computed), stock[name])
