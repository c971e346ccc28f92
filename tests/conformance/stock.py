"""Running `stock_runner.py` in the interpreter under test, in a session of its own that always ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np

from fastsnn_deploy.backends.lava import session
from fastsnn_deploy.formats import netx
from fastsnn_deploy.lava_dl import Reset, StockConv, StockDense, StockInput, StockNetwork, StockRun, run

PYTHON = os.environ.get("CONFORMANCE_PYTHON", sys.executable)
"""Interpreter whose lava-dl is compared with: this one, or that of another environment."""

EXTRA_CASES = int(os.environ.get("CONFORMANCE_EXTRA_CASES", "0"))
"""Random networks of each kind on top of those of the default run."""

WHEEL = Path(str(distribution("lava-dl").locate_file("tests/lava/lib/dl/netx")))
"""Ground truth that the lava-dl wheel installs, as a package `tests` that ours hides."""


@dataclass(frozen=True)
class Case:
    """frames: integers [T, *input shape]; T steps are run."""

    network: StockNetwork
    frames: np.ndarray
    reset: Reset | None = None
    states: bool = True


def execute(script: str, arguments: Sequence[str], folder: Path, timeout: float) -> str:
    """Run a script of this folder; its output. Nothing of it outlives the call, also if Lava hangs."""
    hidden = ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    environment.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
    # Lava executes hundreds of files for each network: byte code must be kept, wherever the environment is installed
    environment["PYTHONPYCACHEPREFIX"] = str(folder.parent / "bytecode")
    log = folder / "log.txt"
    with open(log, "wb") as file:
        process = subprocess.Popen(
            [PYTHON, str(Path(__file__).with_name(script)), *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        limit = time.monotonic() + timeout
        # leaves the process a zombie, so that its session's number is not given away yet
        while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            assert time.monotonic() < limit, f"no result after {timeout} s:\n{log.read_text()[-3000:]}"
            time.sleep(0.02)
    finally:
        session.end(process.pid)
        code = process.wait()
    text = log.read_text(encoding="utf-8", errors="replace")
    assert code == 0, text[-3000:]
    return text


def run_stock(cases: Sequence[Case], folder: Path, timeout: float = 120.0) -> list[dict[str, np.ndarray]]:
    """Write each network, run it on stock lava-dl; its series by name."""
    jobs = []
    for index, case in enumerate(cases):
        paths = {key: str(folder / f"{index}.{key}") for key in ("net", "npy", "npz")}
        netx.write_stock(case.network, paths["net"])
        np.save(paths["npy"], case.frames.astype(np.int32))
        jobs.append(
            {
                "file": paths["net"],
                "frames": paths["npy"],
                "result": paths["npz"],
                "message_bits": case.network.input_message_bits,
                "reset": case.reset and [case.reset.interval, case.reset.offset],
                "states": case.states,
            }
        )
    (folder / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
    execute("stock_runner.py", [str(folder / "jobs.json")], folder, timeout)
    return [dict(np.load(job["result"])) for job in jobs]


def run_ours(case: Case) -> StockRun:
    return run(case.network, case.frames[:, None].astype(np.int64), len(case.frames), reset=case.reset)


def process_layers(network: StockNetwork) -> list[int]:
    """Numbers of the layers that are processes in Lava."""
    return [
        index
        for index, layer in enumerate(network.layers)
        if isinstance(layer, (StockConv, StockDense)) or (isinstance(layer, StockInput) and layer.neuron)
    ]


def assert_same(case: Case, stock: dict[str, np.ndarray]) -> None:
    """Every message and every state of every layer in every step is equal."""
    ours = run_ours(case)
    series: dict[str, Any] = {"s": ours.spikes, "u": ours.currents, "v": ours.potentials}
    for position, index in enumerate(process_layers(case.network)):
        for letter, values in series.items():
            if f"{letter}{position}" in stock:
                expected = stock[f"{letter}{position}"]
                np.testing.assert_array_equal(values[index][:, 0], expected, err_msg=f"layer {index}, {letter}")
    np.testing.assert_array_equal(ours.spikes[-1][:, 0], stock["output"])
