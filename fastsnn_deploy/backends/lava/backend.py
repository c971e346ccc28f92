"""Running a spiking graph on Lava, in a session of its own that always ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

import fastsnn_deploy
from fastsnn_deploy.backends.lava import session
from fastsnn_deploy.backends.lava.compatibility import require_lava
from fastsnn_deploy.backends.lava.timing import Timing, plan
from fastsnn_deploy.errors import BackendError, InputError
from fastsnn_deploy.formats import netx
from fastsnn_deploy.graph import Input, MaxPool2d, Population, Readout, SpikeTrains, SpikingGraph
from fastsnn_deploy.graph.arithmetic import per_channel
from fastsnn_deploy.graph.integer_network import answer_scales
from fastsnn_deploy.graph.run import Run

JOB_MODULE = "fastsnn_deploy.backends.lava.job"
POLL_SECONDS = 0.02
STOP_SECONDS = 10.0
"""Time for Lava to end its own processes after the run; then they are ended from outside."""

Int32 = npt.NDArray[np.int32]
Record = Literal["all", "spikes", "outputs"]
Progress = Callable[[int, int], None]


def run(
    graph: SpikingGraph | str | Path,
    images: Any,
    steps: int,
    *,
    models: Literal["fast", "stock"] = "fast",
    timeout: float = 600.0,
    record: Record = "all",
    progress: Progress | None = None,
    starts: Sequence[int] = (),
) -> Run:
    """Run a batch through Lava's CPU simulator, all images in one Lava run.

    graph: a NetX file of `netx.write`, or a graph, which is first written to one. images: raw or
    Encoded (`SpikingGraph.encode`), or SpikeTrains. steps: T, simulated for each image. models: the model of Lava's
    Conv process, 'fast' (im2col) or 'stock'; all integers are the same. timeout: seconds for the whole run.
    record: 'all'; 'spikes' leaves out the potentials of populations; 'outputs' keeps the output nodes only.
    progress: called with (steps done, steps in all) of the Lava run. starts: for streams (`lava.stream`): all of
    `images`, here changes as integers, goes into one run of N = 1 without a reset, entry i from step starts[i] on.

    Returns the series that `simulate(graph, images, steps)` gives, at the same steps, of what is recorded; counts
    are the sums of the recorded spikes. Raises InputError for a bad file or batch, BackendError if Lava is not
    installed, fails, or does not finish in time. No process or shared memory of the run outlives the call.
    """
    require_lava()
    if models not in ("fast", "stock") or record not in ("all", "spikes", "outputs"):
        raise InputError(f"models='{models}', record='{record}': must be fast or stock; all, spikes or outputs")
    file = None if isinstance(graph, SpikingGraph) else Path(graph)
    graph = graph if isinstance(graph, SpikingGraph) else netx.read(graph)
    found = images if starts else graph.encode(images)
    rows = found.steps if isinstance(found, SpikeTrains) else 0
    batch = _every_step(found) if isinstance(found, SpikeTrains) else _batch(graph, found)
    if steps < 0 or timeout <= 0:
        raise InputError(f"steps={steps} must not be negative and timeout={timeout} must be positive")
    spikes, potentials = _recorded(graph, record)
    images = 1 if starts else len(found)
    with tempfile.TemporaryDirectory(prefix="fastsnn_deploy_lava_") as name:
        folder = Path(name)
        if images and steps:
            job = {
                "images": images,
                "steps": steps,
                "models": models,
                "spikes": spikes,
                "potentials": potentials,
                "starts": list(starts),
                "rows": rows,
            }
            try:
                _prepare(folder, graph, file, batch, job)
            except OSError as error:
                raise BackendError(f"{folder}: cannot be written ({error.strerror}). Free some space") from error
            execute(JOB_MODULE, folder, timeout, plan(graph, images, steps).length, progress)
        return _collect(folder, graph, plan(graph, max(images, 1), max(steps, 1)), images, steps, record)


def _batch(graph: SpikingGraph, emitted: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    emitted = np.asarray(emitted)
    if emitted.ndim == 0 or emitted.shape[1:] != graph.input.shape or emitted.dtype.kind not in "iu":
        raise InputError(
            f"the batch is {emitted.dtype} of shape {emitted.shape}, must hold integers of shape "
            f"(N, {', '.join(map(str, graph.input.shape))}). Use graph.input.encode(images)"
        )
    if emitted.size and (emitted.min() < np.iinfo(np.int32).min or emitted.max() > np.iinfo(np.int32).max):
        raise InputError(f"the batch spans [{emitted.min()}, {emitted.max()}], which does not fit 32 bits")
    return emitted.astype(np.int64)


def _every_step(trains: SpikeTrains) -> npt.NDArray[np.int64]:
    """What the input sends, recording after recording, step after step: int64 [N * T, *shape]; one row if nothing."""
    sent = [trains[number : number + 1].at(step)[0] for number in range(len(trains)) for step in range(trains.steps)]
    return np.asarray(sent or [np.zeros(trains.shape)], dtype=np.int64)


def _recorded(graph: SpikingGraph, record: Record) -> tuple[list[str], list[str]]:
    """Names of the nodes whose spikes, and whose potentials, are recorded."""
    outputs = graph.outputs if record == "outputs" else tuple(graph.by_name)
    kinds: tuple[type, ...] = (Population, Readout) if record == "all" else (Readout,)
    spikes = [name for name in outputs if isinstance(graph[name], (Input, Population, MaxPool2d))]
    return spikes, [name for name in outputs if isinstance(graph[name], kinds)]


def _prepare(
    folder: Path, graph: SpikingGraph, file: Path | None, batch: npt.NDArray[np.int64], job: Mapping[str, Any]
) -> None:
    if file is None:
        netx.write(graph, folder / "graph.net")
    path = (file or folder / "graph.net").resolve()
    order = (0, *range(batch.ndim - 1, 0, -1))  # C, H, W -> W, H, C
    np.save(folder / "images.npy", np.ascontiguousarray(batch.astype(np.int32).transpose(order)))
    np.save(folder / "progress.npy", np.zeros(1, dtype=np.int64))
    (folder / "job.json").write_text(json.dumps({"file": str(path), **job}), encoding="utf-8")


def execute(module: str, folder: Path, timeout: float, length: int, progress: Progress | None) -> None:
    """Run the job `python -m module FOLDER` to its end in a session of its own; afterwards the session is empty.

    folder: holds `progress.npy`, int64 [1]; the job leaves `done` or `error.txt` there. length: steps of the run.
    Raises BackendError for a reported error, a crash, and after `timeout` seconds.
    """
    environment = dict(os.environ)
    package_root = str(Path(fastsnn_deploy.__file__).resolve().parent.parent)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (package_root, environment.get("PYTHONPATH"))))
    for key in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        environment[key] = "1"  # each Lava process is an operating-system process already
    with open(folder / "log.txt", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(folder)],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait(process, folder, timeout, length, progress)
    finally:
        session.end(process.pid)
        process.wait()


def _wait(
    process: subprocess.Popen[bytes], folder: Path, timeout: float, length: int, progress: Progress | None
) -> None:
    """Wait for the job to end. Raises BackendError for a reported error, a crash, or the timeout."""
    limit = time.monotonic() + timeout
    steps = np.load(folder / "progress.npy", mmap_mode="r")
    reported = -1
    while _exit_status(process.pid) is None and not (folder / "done").exists():
        if (folder / "error.txt").exists():
            break
        if time.monotonic() > limit:
            raise BackendError(
                f"Lava did not finish within {timeout:g} s ({int(steps[0])} of {length} steps done); it was stopped. "
                "Give more time, fewer images or fewer steps"
            )
        if progress is not None and int(steps[0]) != reported:
            reported = int(steps[0])
            progress(reported, length)
        time.sleep(POLL_SECONDS)
    if (folder / "error.txt").exists():
        text = (folder / "error.txt").read_text(encoding="utf-8")
        raise BackendError(text.strip())
    if not (folder / "done").exists():
        tail = (folder / "log.txt").read_text(encoding="utf-8", errors="replace")[-2000:]
        raise BackendError(
            f"Lava ended without a result (exit code {_exit_status(process.pid)}). Its last words:\n{tail}"
        )
    if progress is not None:
        progress(length, length)
    session.wait_until_empty(process.pid, STOP_SECONDS)


def _exit_status(pid: int) -> int | None:
    """Exit code of a child, None while it runs. Leaves it a zombie, so that its number is not given away yet."""
    state = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return None if state is None else state.si_status


def _collect(folder: Path, graph: SpikingGraph, timing: Timing, images: int, steps: int, record: Record) -> Run:
    spike_names, potential_names = _recorded(graph, record)
    numbers = {node.name: index for index, node in enumerate(graph.nodes)}

    def series(kind: str, names: Collection[str]) -> dict[str, Int32]:
        return {
            name: _load(folder / f"{kind}-{numbers[name]}.npy", (steps, images, *graph[name].shape)) for name in names
        }

    spikes, potentials = series("spikes", spike_names), series("potentials", potential_names)
    for name, values in potentials.items():
        node = graph[name]
        if isinstance(node, Population):  # at rest until its first step
            values[: timing.offsets[name]] = per_channel(node.initial, len(node.shape))
    counts = {
        name: np.cumsum(values, axis=0, dtype=np.int32)
        for name, values in spikes.items()
        if not isinstance(graph[name], Input)
    }
    readouts = {name: values for name, values in potentials.items() if isinstance(graph[name], Readout)}
    return Run(steps, spikes, counts, potentials, _settle_steps(images, spikes, readouts), answer_scales(graph))


def _load(file: Path, shape: tuple[int, ...]) -> Int32:
    """A recorded [N, T, W, H, C] as int32 [T, N, C, H, W]."""
    if 0 in shape[:2]:
        return np.zeros(shape, dtype=np.int32)
    recorded = np.load(file)
    order = (1, 0, *range(recorded.ndim - 1, 1, -1))
    return np.ascontiguousarray(recorded.transpose(order))


def _settle_steps(images: int, spikes: Mapping[str, Int32], readouts: Mapping[str, Int32]) -> npt.NDArray[np.int64]:
    """Steps after which no recorded spike is emitted and no recorded readout changes: int64 [N]."""
    last = np.zeros(images, dtype=np.int64)
    changes = [*spikes.values(), *(np.diff(values, axis=0, prepend=0) for values in readouts.values())]
    for values in changes:
        if not values.size:
            continue
        active = np.asarray(values.reshape(*values.shape[:2], -1).any(2))  # [T, N]
        steps = np.where(active.any(0), len(active) - active[::-1].argmax(0), 0)
        last = np.maximum(last, steps)
    return last
