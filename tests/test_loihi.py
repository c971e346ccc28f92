"""The Loihi door: detection, limits, and the hardware path with a stand-in for Intel's closed package.

`loihi_stand_in` holds modules with the names of the closed ones, which Python merges into Lava's namespace packages
as it does with the real extension. Nothing here ran on silicon.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fastsnn_deploy import lava_dl
from fastsnn_deploy.backends import loihi
from fastsnn_deploy.backends.loihi import Board, Detection, detection
from fastsnn_deploy.errors import BackendError, InputError
from fastsnn_deploy.formats import netx
from fastsnn_deploy.lava_dl import Lif, StockConv, StockDense, StockNetwork
from tests.random_graphs import random_graph
from tests.test_stream import compiled_once as compiled_once
from tests.test_stream import stock_network

ROOT = Path(__file__).parent.parent
STAND_IN = Path(__file__).parent / "loihi_stand_in"

SINFO = """#!/bin/sh
if [ "$1" = -N ]; then
  echo 'NODELIST NODES PARTITION STATE'
  echo 'og01 1 oheogulch idle'
  echo 'og02 1 oheogulch down*'
else
  echo 'PARTITION AVAIL TIMELIMIT NODES STATE NODELIST'
  echo 'oheogulch up 20:00 2 mix og[01-02]'
fi
"""


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch) -> None:
    for name in detection.VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def slurm(monkeypatch, tmp_path: Path) -> None:
    """A SLURM controller with two boards, one of them down."""
    program = tmp_path / "bin" / "sinfo"
    program.parent.mkdir()
    program.write_text(SINFO)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")


def install(monkeypatch, folder: Path = STAND_IN) -> None:
    """Make the stand-in visible to the processes that touch the extension."""
    monkeypatch.setenv("PYTHONPATH", str(folder))


# detection


def test_without_the_extension_everything_missing_is_named():
    found = loihi.detect()
    assert (found.lava, found.lava_dl) == ("0.10.0", "0.6.0")
    assert found == Detection(lava=found.lava, lava_dl=found.lava_dl)
    assert not found.available
    assert [problem.where for problem in found.missing()] == ["Intel's extension lava-loihi", "Loihi 2 board"]
    text = " ".join(map(str, found.missing()))
    for word in ("INRC", "lava-loihi", "sinfo", "NXSDKHOST", "BOARD", "PARTITION", "LOIHI_GEN"):
        assert word in text


def test_detection_works_without_lava(monkeypatch, tmp_path: Path):
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['lava'] = None\n")
    install(monkeypatch, tmp_path)
    found = loihi.detect()
    assert found == Detection()
    assert [problem.where for problem in found.missing()][:2] == ["Lava (lava-nc)", "lava-dl"]
    assert "simulator" in found.nearest
    assert "lava" not in found.nearest


def test_the_extension_and_boards_are_found(monkeypatch, slurm):
    install(monkeypatch)
    monkeypatch.setenv("BOARD", "og01")
    found = loihi.detect()
    assert found.lava_loihi
    assert found.slurm
    assert found.boards == (Board("og01", "oheogulch", "idle"), Board("og02", "oheogulch", "down*"))
    assert [board.up for board in found.boards] == [True, False]
    assert found.environment == {"BOARD": "og01"}
    assert found.host == "slurm"
    assert found.available


def test_what_makes_a_board_reachable():
    whole = Detection(lava="0.10.0", lava_dl="0.6.0", lava_loihi=True, environment={"NXSDKHOST": "10.0.0.2"})
    assert whole.available
    assert whole.host == "ethernet"
    down = replace(whole, environment={}, slurm=True, boards=(Board("og02", "og", "drained"),))
    assert str(down.missing()[0]).startswith("Loihi 2 board: none is up: og02 is drained")
    wrong = replace(whole, environment={"NXSDKHOST": "10.0.0.2", "LOIHI_GEN": "N2A2"})
    assert "'N2A2' is no Loihi 2 generation" in str(wrong.missing()[0])


def test_a_search_that_fails_is_reported(monkeypatch):
    monkeypatch.setattr(detection, "PROBE_MODULE", "fastsnn_deploy.backends.loihi.nowhere")
    found = loihi.detect()
    assert "nowhere" in found.error
    assert found.missing()[0].where == "Lava"


def test_importing_the_door_does_not_import_lava():
    script = (
        "import sys, fastsnn_deploy.backends.loihi; assert not [m for m in sys.modules if m.split('.')[0] == 'lava']"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, timeout=60)


# limits


def changed(index: int, **fields) -> StockNetwork:
    network = stock_network()
    layers = list(network.layers)
    layers[index] = replace(layers[index], **fields)
    return replace(network, layers=tuple(layers))


def test_a_network_within_all_limits():
    assert loihi.problems_of(stock_network()) == []


WIDE = np.full((6, 24), 1)


@pytest.mark.parametrize(
    ("index", "fields", "what"),
    [
        (4, {"weight": np.where(np.eye(6, 24) > 0, 254, -2)}, ""),
        (4, {"weight": np.abs(WIDE) * 255}, ""),
        (1, {"weight": np.full((3, 2, 3, 3), 300)}, "weights span [300, 300], beyond 8 bits"),
        (1, {"weight": np.where(np.arange(54).reshape(3, 2, 3, 3) == 5, 129, -1)}, "weights span [-1, 129]"),
        (4, {"bias": np.full(6, 4096)}, "biases span [4096, 4096], beyond 13 bits"),
        (4, {"bias": np.full(6, -4096)}, ""),
        (4, {"neuron": Lif(2**17)}, "threshold 131072 is not in 0..131071"),
        (4, {"neuron": Lif(-1)}, "threshold -1"),
        (1, {"weight": np.full((3, 2, 3, 3), 127), "neuron": Lif(1)}, "may reach 582930, beyond 131071"),
        (4, {"delay": np.full(6, 63)}, "outside 0..62"),
        (1, {"padding": (128, 1)}, "exceed 127"),
    ],
)
def test_limits(index: int, fields: dict, what: str):
    text = "; ".join(map(str, loihi.problems_of(changed(index, **fields))))
    assert what in text
    assert bool(text) is bool(what)


def test_limits_use_the_range_of_the_frames():
    network = changed(1, weight=np.full((3, 2, 3, 3), 127))
    assert loihi.problems_of(network)
    assert not loihi.problems_of(network, 0, 8)
    with pytest.raises(InputError, match="layer 1: the synaptic input of one step may reach"):
        loihi.check(network)


def test_a_grouped_convolution_beyond_127_groups():
    layer = StockConv(
        shape=(128, 1, 1),
        weight=np.ones((128, 1, 1, 1), dtype=np.int64),
        bias=None,
        neuron=Lif(0),
        groups=128,
    )
    network = StockNetwork((replace(stock_network().layers[0], shape=(128, 1, 1)), layer))
    assert "128" in str(loihi.problems_of(network)[0])


# runs


def frames() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 9, (6, 1, 2, 5, 4))


def test_without_hardware_the_error_says_what_is_missing_and_what_works():
    with pytest.raises(BackendError) as caught:
        loihi.run_stock(stock_network(), frames(), 9)
    for text in ("lava-loihi", "INRC", "NXSDKHOST", "--backend lava", "--backend simulator"):
        assert text in str(caught.value)


def test_bad_input_is_refused_before_hardware_is_looked_for(monkeypatch, tmp_path: Path):
    monkeypatch.setattr("fastsnn_deploy.backends.loihi.backend.detect", lambda: pytest.fail("looked for hardware"))
    with pytest.raises(InputError, match="one stream"):
        loihi.run_stock(stock_network(), np.zeros((3, 2, 2, 5, 4), dtype=np.int64), 3)
    with pytest.raises(InputError, match="one stream"):
        loihi.run_stock(stock_network(), frames(), 0)
    with pytest.raises(InputError, match="13 bits"):
        loihi.run_stock(changed(4, bias=np.full(6, 5000)), frames(), 9)
    netx.write(random_graph(0), tmp_path / "own.net")
    with pytest.raises(BackendError, match=r"SignedIF.* have no hardware model.*export --target stock-lif"):
        loihi.run_stock(tmp_path / "own.net", frames(), 9)


@pytest.mark.lava
def test_the_hardware_path_with_the_stand_in(monkeypatch, slurm, tmp_path: Path):
    """Loihi2HwCfg takes the chip's models, the profiler is called back, the integers are the simulator's."""
    install(monkeypatch)
    monkeypatch.setenv("BOARD", "og01")
    network = stock_network()
    netx.write_stock(network, tmp_path / "stock.net")
    steps: list[int] = []
    result = loihi.run_stock(
        tmp_path / "stock.net",
        frames(),
        9,
        measured_steps=20,
        timeout=200,
        progress=lambda done, total: steps.append(total),
    )
    expected = lava_dl.run(network, frames(), 9, record="outputs")
    assert np.array_equal(result.run.spikes[-1], expected.spikes[-1])
    assert np.array_equal(result.run.potentials[-1], expected.potentials[-1])
    assert set(steps) == {29}
    measured = result.measurement
    assert measured is not None
    assert measured.steps == 20
    assert measured.power == {
        "vdd_power": 0.25,
        "vddm_power": 0.5,
        "vddio_power": 0.125,
        "total_power": 0.875,
        "static_vdd_power": 0.125,
        "static_vddm_power": 0.0625,
        "static_vddio_power": 0.0625,
        "static_total_power": 0.25,
    }
    assert measured.avg_time_per_step == 5.0
    assert measured.seconds == pytest.approx(1e-4)
    assert measured.total_energy == pytest.approx(0.875e-4)
    assert measured.dynamic_energy == pytest.approx(0.625e-4)
    assert measured.activity["syn_ops"] == [2000, 400]
    assert {key: measured.total(key) for key in ("dendrite_updates", "axon_out", "spikes_in")} == {
        "dendrite_updates": 240,
        "axon_out": 80,
        "spikes_in": 100,
    }
    assert measured.memory["total_mpds"] == [0.5, 0.25]
    assert measured.to_dict()["syn_ops"] == 2400


@pytest.mark.lava
def test_a_layer_that_would_run_on_the_cpu_is_an_error(monkeypatch, tmp_path: Path):
    shutil.copytree(STAND_IN, tmp_path / "partial", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "partial" / "lava" / "proc" / "dense" / "ncmodels.py").unlink()
    install(monkeypatch, tmp_path / "partial")
    monkeypatch.setenv("NXSDKHOST", "10.0.0.2")
    layers = stock_network().layers
    dense = StockDense(shape=(2,), weight=np.array([[3, -1], [1, 2]]), bias=None, neuron=Lif(0))
    network = StockNetwork((replace(layers[0], shape=(2,)), dense))
    with pytest.raises(BackendError, match=r"block 0: Dense has no hardware model .*PyDenseModelBitAcc"):
        loihi.run_stock(network, np.ones((3, 1, 2), dtype=np.int64), 3, timeout=200)
