"""Running a stock network on Loihi 2 with Intel's extension of Lava. Not run on silicon: see docs/loihi.md."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.backends.lava.backend import Progress, execute
from fastsnn_deploy.backends.lava.stock import input_kind, loaded, output_series, prepare, stock_frames
from fastsnn_deploy.backends.loihi.checks import check
from fastsnn_deploy.backends.loihi.detection import GENERATIONS, detect
from fastsnn_deploy.backends.loihi.measurement import Measurement
from fastsnn_deploy.errors import BackendError, InputError
from fastsnn_deploy.formats import Network, read_network
from fastsnn_deploy.lava_dl import StockNetwork, StockRun

JOB_MODULE = "fastsnn_deploy.backends.loihi.job"

NO_MODEL = (
    "its neurons (SignedIF) have no hardware model: lava-loihi has none, and Loihi 2 would need microcode for them. "
    "`export --target stock-lif` writes the same network with stock LIF neurons, which the chip has"
)


@dataclass(frozen=True)
class LoihiRun:
    """What came back.

    run: series of the last layer, as `lava_dl.run(..., record="outputs")` gives. measurement: None if not asked for.
    """

    run: StockRun
    measurement: Measurement | None


def run_stock(
    network: StockNetwork | str | Path,
    frames: npt.NDArray[np.integer],
    steps: int,
    *,
    measure: bool = True,
    measured_steps: int | None = None,
    timeout: float = 3600.0,
    progress: Progress | None = None,
) -> LoihiRun:
    """Run one stream through a stock network on Loihi 2 (`Loihi2HwCfg`), and measure power with Intel's profiler.

    network: a stock NetX file, or a network. frames: int [T', 1, *input shape], one for each step, zeros after the
    last. steps: T. measure: after the run whose series are returned, which stops at each step to read the last
    layer, run again without stops and measure that. measured_steps: steps of that second run, in which the frames
    repeat; default T. Power of short runs means little. timeout: seconds for both. progress: (steps done, steps).

    Raises InputError for a bad file or frames and for a network beyond the chip's limits (`loihi.problems_of`), and
    BackendError that lists what is missing for such a run, or if it fails or does not finish in time.
    """
    file = None if isinstance(network, StockNetwork) else Path(network)
    found = network if isinstance(network, StockNetwork) else read_network(network)
    network = require_stock_neurons(found, f"{file}")
    series = stock_frames(network, frames, steps)
    check(network, int(series.min(initial=0)), int(series.max(initial=0)))
    repeated = steps if measured_steps is None else measured_steps
    if series.shape[1] != 1 or steps < 1 or repeated < 1 or timeout <= 0:
        raise InputError(
            f"frames of shape {series.shape}, steps={steps}, measured_steps={repeated}, timeout={timeout}: must be one "
            "stream (N = 1) of at least one step, and positive"
        )
    require_hardware()
    if input_kind(network) != "spikes":
        raise BackendError(
            "the network has a neuron in its input layer, whose data the host would have to write at every step. "
            "Use --backend lava"
        )
    with tempfile.TemporaryDirectory(prefix="fastsnn_deploy_loihi_") as name:
        folder = Path(name)
        repeated = repeated if measure else 0
        prepare(folder, network, file, series, {"measured_steps": repeated, "default_generation": GENERATIONS[1]})
        execute(JOB_MODULE, folder, timeout, steps + repeated, progress)
        run = output_series(network, *(loaded(folder / f"{kind}.npy") for kind in ("spikes", "potentials")))
        if not measure:
            return LoihiRun(run, None)
        return LoihiRun(run, Measurement(**json.loads((folder / "measurement.json").read_text(encoding="utf-8"))))


def require_stock_neurons(network: Network, name: str) -> StockNetwork:
    """The network itself. Raises BackendError if it has neurons that the chip has no model of. name: of its file."""
    if not isinstance(network, StockNetwork):
        raise BackendError(f"{name}: cannot run on Loihi 2, {NO_MODEL}")
    return network


def require_hardware() -> None:
    """Raise BackendError that lists everything that is missing for a run on Loihi 2, and what works instead."""
    detection = detect()
    missing = detection.missing()
    if missing:
        raise BackendError(f"cannot run on Loihi 2 here. {detection.nearest}. What is missing:", missing)
