"""Peak memory of one contender, in a process of its own: python memory.py FILE, with a pickle-free job in FILE."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

MEBI = 2**20


def peaks(graph_file: Path, emitted: np.ndarray, steps: int, names: list[str], options: dict) -> dict[str, dict]:
    """MiB of each contender before its first image and at its peak."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="benchmark_") as name:
        folder = Path(name)
        np.save(folder / "emitted.npy", emitted)
        for each in names:
            job = {"graph": str(graph_file), "steps": steps, "contender": each, "options": options}
            (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
            command = [sys.executable, str(Path(__file__)), str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            found[each] = json.loads(done.stdout) if done.returncode == 0 else {"failure": done.stderr[-500:]}
    return found


def main(folder: Path) -> None:
    """The job of one contender; prints its figures as JSON."""
    from peers import base

    from fastsnn_deploy.graph import load

    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    plain = job["options"]
    folders = {name: Path(value) for name, value in plain.pop("folders").items()}
    fast_snn = plain.pop("fast_snn")
    options = base.Options(**plain, folders=folders, fast_snn=Path(fast_snn) if fast_snn else None)
    contender = base.CONTENDERS[job["contender"]](load(job["graph"]), job["steps"], options)
    before = _peak()
    contender.run(np.load(folder / "emitted.npy"))
    print(json.dumps({"before_mib": before, "peak_mib": _peak()}))


def _peak() -> float:
    """Peak resident memory of this process in MiB.

    Linux's resource usage counts what the process that started this one had, too; its status does not.
    """
    status = Path("/proc/self/status")
    peak = next((line for line in status.read_text().splitlines() if "VmHWM" in line), "") if status.exists() else ""
    if peak:
        return int(peak.split()[1]) / 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / MEBI if sys.platform == "darwin" else most / 1024


if __name__ == "__main__":
    main(Path(sys.argv[1]))
