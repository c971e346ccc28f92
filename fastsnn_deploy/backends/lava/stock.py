"""Running a stock NetX file on unmodified lava-dl and Lava, in a session of its own that always ends."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.backends.lava.backend import Progress, execute
from fastsnn_deploy.backends.lava.compatibility import require_lava, require_lava_dl
from fastsnn_deploy.errors import BackendError, InputError, Problem
from fastsnn_deploy.formats import netx
from fastsnn_deploy.lava_dl import Lif, StockConv, StockInput, StockNetwork, StockRun
from fastsnn_deploy.lava_dl.limits import BIAS_MAX_LAVA, INT8_MAX

STOCK_JOB_MODULE = "fastsnn_deploy.backends.lava.stock_job"

Int32 = npt.NDArray[np.int32]


def run_stock(
    network: StockNetwork | str | Path,
    frames: npt.NDArray[np.integer],
    steps: int,
    *,
    models: Literal["fast", "stock"] = "fast",
    timeout: float = 600.0,
    progress: Progress | None = None,
) -> StockRun:
    """Run a stock network on Lava's CPU simulator with its own processes and fixed-point models.

    network: a stock NetX file, or a network, which is first written to one. frames: int [T', N, *input shape], one
    for each step, zeros after the last, with the meaning of `lava_dl.run`; each of the N starts from rest. steps: T.
    models: the model of Lava's Conv process, 'fast' (ours, the same integers) or 'stock'.
    timeout: seconds for the whole run. progress: called with (steps done, steps in all).

    Returns the series of the last layer, as `lava_dl.run(network, frames, steps, record="outputs")` does: messages, and
    v of LIF or sigma of sigma-delta neurons; currents are not recorded. Raises InputError for a bad file or frames,
    BackendError if Lava or lava-dl is not installed, fails, or does not finish in time.
    """
    require_lava()
    require_lava_dl()
    if models not in ("fast", "stock"):
        raise InputError(f"models='{models}' must be fast or stock")
    if steps < 0 or timeout <= 0:
        raise InputError(f"steps={steps} must not be negative and timeout={timeout} must be positive")
    file = None if isinstance(network, StockNetwork) else Path(network)
    network = network if isinstance(network, StockNetwork) else netx.read_stock(network)
    if models == "stock":
        _require_stock_conv(network)
    series = stock_frames(network, frames, steps)
    if not series.size:
        return output_series(network, np.zeros((steps, series.shape[1], *network.layers[-1].shape), dtype=np.int32))
    with tempfile.TemporaryDirectory(prefix="fastsnn_deploy_lava_") as name:
        folder = Path(name)
        prepare(folder, network, file, series, {"models": models})
        execute(STOCK_JOB_MODULE, folder, timeout, steps * series.shape[1], progress)
        return output_series(network, *(loaded(folder / f"{kind}.npy") for kind in ("spikes", "potentials")))


def _require_stock_conv(network: StockNetwork) -> None:
    """Lava's Conv model takes channels modulo an int8 (conv/utils.py:274, 279), which NumPy 2 refuses beyond 127."""
    convs = [layer for layer in network.layers if isinstance(layer, StockConv)]
    wide = [layer for layer in convs if max(layer.weight.shape[1] * layer.groups, layer.shape[0]) > INT8_MAX]
    if wide and int(np.__version__.split(".")[0]) >= 2:
        raise InputError(
            "Lava's own convolution model stops under NumPy 2",
            [
                Problem(
                    layer.name or "conv",
                    f"reads {layer.weight.shape[1] * layer.groups} channels and has {layer.shape[0]}; "
                    f"{INT8_MAX} are the most",
                    "Use models='fast'",
                )
                for layer in wide
            ],
        )


def stock_frames(network: StockNetwork, frames: npt.NDArray[np.integer], steps: int) -> Int32:
    """`frames` filled up with zeros to int32 [steps, N, *input shape]. Raises InputError for a wrong shape or dtype."""
    frames = np.asarray(frames)
    shape = network.layers[0].shape
    if frames.dtype.kind not in "iub" or frames.ndim < 2 or frames.shape[2:] != shape:
        raise InputError(
            f"frames are {frames.dtype} of shape {frames.shape}, must be integers [T, N, {', '.join(map(str, shape))}]"
        )
    limit = BIAS_MAX_LAVA + 1 if input_kind(network) == "bias" else 2**31
    if frames.size and not -limit <= frames.min() <= frames.max() < limit:
        raise InputError(f"frames span [{frames.min()}, {frames.max()}], outside [{-limit}, {limit})")
    result = np.zeros((steps, *frames.shape[1:]), dtype=np.int32)
    result[: len(frames)] = frames[:steps]
    return result


def input_kind(network: StockNetwork) -> str:
    """How frames enter: 'messages' of the input, 'bias' of its LIF, or 'activation' of its sigma-delta neuron."""
    layer = network.layers[0]
    neuron = layer.neuron if isinstance(layer, StockInput) else None
    if neuron is None:
        return "spikes"
    return "bias" if isinstance(neuron, Lif) else "activation"


def prepare(
    folder: Path, network: StockNetwork, file: Path | None, series: Int32, arguments: Mapping[str, Any]
) -> None:
    """Write what a job reads: `job.json`, `frames.npy`, `progress.npy`. Raises BackendError if it cannot."""
    try:
        if file is None:
            netx.write_stock(network, folder / "network.net")
        np.save(folder / "frames.npy", np.ascontiguousarray(series.swapaxes(0, 1)))
        np.save(folder / "progress.npy", np.zeros(1, dtype=np.int64))
        job = {
            "file": str((file or folder / "network.net").resolve()),
            "input": input_kind(network),
            "message_bits": network.input_message_bits,
            **arguments,
        }
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    except OSError as error:
        raise BackendError(f"{folder}: cannot be written ({error.strerror}). Free some space") from error


def loaded(file: Path) -> Int32:
    """A recorded [N, T, W, H, C] as int32 [T, N, C, H, W]."""
    recorded = np.load(file)
    return np.ascontiguousarray(recorded.transpose(1, 0, *range(recorded.ndim - 1, 1, -1)).astype(np.int32))


def output_series(network: StockNetwork, spikes: Int32, potentials: Int32 | None = None) -> StockRun:
    """A run of which only the last layer is known."""
    none: tuple[None, ...] = (None,) * (len(network.layers) - 1)
    return StockRun((*none, spikes), (*none, spikes if potentials is None else potentials), (*none, None))
