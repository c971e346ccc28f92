"""One run on Loihi 2 in a process of its own: `python -m fastsnn_deploy.backends.loihi.job FOLDER`.

FOLDER is that of `lava.stock_job`; the run also leaves `measurement.json`. Everything that touches the closed
extension is here. Its interface is known from Intel's public examples only (docs/loihi.md).
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.backends.lava.compatibility import import_lava
from fastsnn_deploy.backends.lava.job import report_from_children, run_job, search_models_once, watch_children
from fastsnn_deploy.backends.lava.stock_job import lava_order, load_network, state_of
from fastsnn_deploy.backends.loihi.measurement import ACTIVITY_COLUMNS, MEMORY_COLUMNS, POWER_COLUMNS
from fastsnn_deploy.backends.loihi.probe import repaired_slurm
from fastsnn_deploy.errors import BackendError

Int32 = npt.NDArray[np.int32]


def _run(folder: Path) -> None:
    arguments = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    frames = np.load(folder / "frames.npy")[0]
    progress = np.load(folder / "progress.npy", mmap_mode="r+")
    import_lava()
    report_from_children(folder)
    search_models_once()
    _choose_host(arguments["default_generation"])
    spikes, potentials = _read(folder, arguments, frames, progress)
    np.save(folder / "spikes.npy", spikes[None].astype(np.int32))
    np.save(folder / "potentials.npy", potentials[None].astype(np.int32))
    if arguments["measured_steps"]:
        measured = _measure(folder, arguments, frames)
        (folder / "measurement.json").write_text(json.dumps(measured), encoding="utf-8")
        progress[0] += arguments["measured_steps"]


def _choose_host(default_generation: str) -> None:
    """Tell Lava which board to use, from the environment variables that Lava itself defines."""
    from lava.utils import loihi

    slurm = repaired_slurm()
    os.environ.setdefault("LOIHI_GEN", default_generation)
    if os.environ.get("NXSDKHOST"):
        slurm.disable()  # the host is set; `use_ethernet_host` would only set it again
    else:
        loihi.use_slurm_host(
            partition=os.environ.get("PARTITION"),
            board=os.environ.get("BOARD"),
            loihi_gen=loihi.ChipGeneration(os.environ["LOIHI_GEN"]),
        )


class _Chip:
    """The network between an adapter at each end, compiled for the chip."""

    def __init__(self, folder: Path, arguments: dict[str, Any], frames: Int32, callbacks: list[Any]) -> None:
        from lava.magma.core.run_configs import Loihi2HwCfg
        from lava.proc.io.sink import RingBuffer as Sink
        from lava.proc.io.source import RingBuffer as Source

        self.network = load_network(arguments)
        port = self.network.inp
        source = Source(data=np.moveaxis(lava_order(frames, port.shape), 0, -1).astype(np.int32))
        self.sink = Sink(shape=self.network.out.shape, buffer=len(frames))
        into, out = _adapters(port.shape, self.network.out.shape, arguments["message_bits"])
        source.s_out.connect(into.inp)
        into.out.connect(port)
        self.network.out.connect(out.inp)
        out.out.connect(self.sink.a_in)
        self.network.create_runtime(Loihi2HwCfg(select_tag="fixed_pt", callback_fxs=callbacks))
        _require_chip(self.network)
        self.finished = threading.Event()
        watch_children(folder, self.network.runtime, self.finished)

    def run(self, steps: int) -> None:
        from lava.magma.core.run_conditions import RunSteps

        self.network.run(RunSteps(num_steps=steps))

    def stop(self) -> None:
        self.finished.set()
        self.network.stop()


def _read(folder: Path, arguments: dict[str, Any], frames: Int32, progress: Any) -> tuple[Int32, Int32]:
    """Spikes and potentials of the last layer at every step: [T, W, H, C] or [T, N] each."""
    chip = _Chip(folder, arguments, frames, [])
    state = state_of(chip.network.out_layer.neuron)
    potentials = []
    for _ in range(len(frames)):
        chip.run(1)
        potentials.append(state.get())
        progress[0] += 1
    spikes = np.moveaxis(chip.sink.data.get(), -1, 0)
    chip.stop()
    return spikes, np.stack(potentials)


def _measure(folder: Path, arguments: dict[str, Any], frames: Int32) -> dict[str, Any]:
    """The fields of a Measurement, from one run without stops."""
    from lava.utils import loihi2_profiler as profiler

    steps = arguments["measured_steps"]
    power, time = profiler.Loihi2Power(num_steps=steps), profiler.Loihi2ExecutionTime()
    memory, activity = profiler.Loihi2Memory(), profiler.Loihi2Activity()
    chip = _Chip(folder, arguments, frames, [power, time, memory, activity])
    chip.run(steps)
    chip.stop()
    return {
        "steps": steps,
        "power": {column: _mean(power, column) for column in POWER_COLUMNS},
        "avg_time_per_step": _mean(time, "avg_time_per_step"),
        "activity": _columns(activity, ACTIVITY_COLUMNS),
        "memory": _columns(memory, MEMORY_COLUMNS),
    }


def _adapters(into: tuple[int, ...], out: tuple[int, ...], message_bits: int) -> tuple[Any, Any]:
    """Processes that carry spikes from the host to the chip and back; maps go through the convolution adapter."""
    spike = importlib.import_module("lava.proc.embedded_io.spike")
    adapter = spike.PyToN3ConvAdapter if len(into) == 3 else spike.PyToNxAdapter
    graded = {"num_message_bits": message_bits} if message_bits else {}
    return adapter(shape=into, **graded), spike.NxToPyAdapter(shape=out)


def _require_chip(network: Any) -> None:
    """Loihi2HwCfg silently takes CPU models where it finds no others; then nothing would be measured on a chip."""
    model = importlib.import_module("lava.magma.core.model.nc.model").AbstractNcProcessModel
    for index, layer in enumerate(network.layers):
        for part in ("synapse", "neuron"):
            process = getattr(layer, part, None)
            if process is not None and not issubclass(process.model_class, model):
                raise BackendError(
                    f"block {index}: {type(process).__name__} has no hardware model in the installed lava-loihi, Lava "
                    f"took {process.model_class.__name__} for the CPU. Use --backend lava"
                )


def _mean(logger: Any, column: str) -> float | None:
    value = getattr(logger, column, None)
    return None if value is None else float(np.mean(value))


def _columns(logger: Any, columns: tuple[str, ...]) -> dict[str, list[float]]:
    found = {column: getattr(logger, column, None) for column in columns}
    return {column: np.ravel(value).tolist() for column, value in found.items() if value is not None}


if __name__ == "__main__":
    run_job(Path(sys.argv[1]), _run)
