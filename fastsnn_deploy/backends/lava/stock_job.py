"""One run of a stock network on Lava in a process of its own: `python -m fastsnn_deploy.backends.lava.stock_job
FOLDER`.

The file is loaded by unmodified lava-dl and run with Lava's own processes; only the model of the convolution may be
ours. FOLDER holds `job.json`, `frames.npy` (int32 [N, T, *input shape]) and `progress.npy`; the run leaves `spikes.npy`
and `potentials.npy` of the last layer (int32 [N, T, *shape], axes in Lava's order W, H, C) and `done`, or `error.txt`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.backends.lava.compatibility import import_lava
from fastsnn_deploy.backends.lava.job import (
    CHANNEL_SLOTS,
    report_from_children,
    run_config,
    run_job,
    search_models_once,
    watch_children,
)

Int32 = npt.NDArray[np.int32]


def _run(folder: Path) -> None:
    arguments = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    frames = np.load(folder / "frames.npy")
    import_lava()
    report_from_children(folder)
    search_models_once()
    progress = np.load(folder / "progress.npy", mmap_mode="r+")
    runs = [_one(folder, arguments, series, progress) for series in frames]
    for name, series in zip(("spikes", "potentials"), zip(*runs, strict=True), strict=True):
        np.save(folder / f"{name}.npy", np.stack(series).astype(np.int32))


def load_network(arguments: dict[str, Any]) -> Any:
    """The file as lava-dl's Network, closed again: forked processes would inherit its lock."""
    from lava.lib.dl.netx import hdf5

    network = hdf5.Network(net_config=arguments["file"], input_message_bits=arguments["message_bits"])
    network.net_config.f.close()
    return network


def state_of(neuron: Any) -> Any:
    """The variable that holds the answer of a last layer: v of LIF, sigma of sigma-delta neurons."""
    return neuron.v if hasattr(neuron, "v") else neuron.sigma


def lava_order(series: Int32, shape: tuple[int, ...]) -> Int32:
    """Frames [T, C, H, W] or [T, N] in the axes of the port of `shape`: W, H, C, or flat in the order C, H, W."""
    if len(shape) == 1:
        return series.reshape(len(series), -1)
    return series.transpose(0, *range(series.ndim - 1, 0, -1))


def _one(folder: Path, arguments: dict[str, Any], frames: Int32, progress: Any) -> tuple[Int32, Int32]:
    """One image or stream, from rest: spikes and potentials of the last layer, [T, W, H, C] or [T, N] each."""
    import threading

    from lava.magma.core.run_conditions import RunSteps
    from lava.proc.io.sink import RingBuffer

    network = load_network(arguments)
    biases = _feed(network, arguments["input"], frames)
    sink = RingBuffer(shape=network.out.shape, buffer=len(frames))
    network.out.connect(sink.a_in)
    network.create_runtime(run_config(arguments["models"]), compile_config={"pypy_channel_size": CHANNEL_SLOTS})
    finished = threading.Event()
    watch_children(folder, network.runtime, finished)
    state = state_of(network.out_layer.neuron)
    potentials = []
    for step in range(len(frames)):
        if biases is not None and step:
            network.in_layer.neuron.bias_mant.set(biases[step])
        network.run(RunSteps(num_steps=1))
        potentials.append(state.get())
        progress[0] += 1
    spikes = np.moveaxis(sink.data.get(), -1, 0)
    finished.set()
    network.stop()
    return spikes, np.stack(potentials)


def _feed(network: Any, kind: str, frames: Int32) -> Int32 | None:
    """Connect the frames to the network. Returns them where they must be set as biases step by step."""
    from lava.proc.io.source import RingBuffer

    if kind == "bias":
        neuron = network.in_layer.neuron
        biases = lava_order(frames, neuron.bias_mant.shape)
        neuron.bias_mant.init = biases[0]
        return biases
    port = network.inp if kind == "spikes" else network.in_layer.neuron.a_in
    source = RingBuffer(data=np.moveaxis(lava_order(frames, port.shape), 0, -1).astype(np.int32))
    source.s_out.connect(port)
    return None


if __name__ == "__main__":
    run_job(Path(sys.argv[1]), _run)
