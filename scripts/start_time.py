"""What a start takes: seconds and memory of commands in processes of their own, beside `import torch`.

    python scripts/start_time.py --data-root data --record docs/records/start_time.json
    python scripts/start_time.py --data-root data --beside ../an-earlier-checkout

Every case runs in turns, in this checkout and in the one beside it; of the turns the median counts, of the processors'
seconds too, which other programs on the machine change less. Bytecode is kept, as `pip install` keeps it; the loops of
the simulator are, but for the case `first ever`. Each turn has its own `import torch`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
EXPORTED, DIGITS = (ROOT / "netx_exports" / f"{name}.net" for name in ("resnet20-2bit-unary", "digits-2bit-unary"))
LIMIT = 300
"""Seconds after which a case is given up."""

SMALL = """
import sys, torch, fastsnn_deploy as fd
torch.manual_seed(0)
network = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(8, 16, 3, stride=2),
                              torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 10))
model = fd.prepare(network, input_shape=(1, 8, 8), input_step=1 / 16, input_levels=(0, 16))
fd.calibrate(model, torch.rand(50, 1, 8, 8))
fd.save(model, sys.argv[1])
"""

TINY = """
import torch, fastsnn_deploy as fd
torch.manual_seed(0)
network = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(8, 16, 3, stride=2),
                              torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 10))
model = fd.prepare(network, input_shape=(1, 8, 8), input_step=1 / 16, input_levels=(0, 16))
fd.fit(model, fd.load_data("digits", "train"), epochs=3, progress=False)
"""

BUSY = "while True: pass"

PARTS = ("cases", "tiny", "large")
TINY_NAME, LARGE_NAME = "tiny training beside two busy processes", "ResNet-50 at 224x224, 4-bit weights"

LARGE = """
import json, os, resource, sys, time, warnings
import torch, torchvision, fastsnn_deploy as fd
warnings.simplefilter("ignore")
torch.manual_seed(0)
network, images = torchvision.models.resnet50(weights=None), torch.rand(2, 3, 224, 224)
found, made = {}, {}
def step(name, work):
    wall, processors = time.perf_counter(), time.process_time()
    result = work()
    found[name] = {"wall_s": time.perf_counter() - wall, "processors_s": time.process_time() - processors,
                   "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}
    return result
model = step("prepare", lambda: fd.prepare(network, 2, 4, input_shape=(3, 224, 224), **json.loads(sys.argv[2])))
fd.calibrate(model, images)
graph = step("convert", lambda: fd.convert(model))
step("export", lambda: fd.export(graph, sys.argv[1]))
found["file_mib"] = os.path.getsize(sys.argv[1]) / 2**20
assert step("read", lambda: fd.read(sys.argv[1])) == graph
print(json.dumps(found))
"""

LARGE_OPTIONS: dict[str, dict[str, Any]] = {"classifier of 8 bits": {}}


def run(root: Path, arguments: Sequence[str], kept: Path, **changes: str) -> tuple[dict[str, float], str]:
    """Seconds, memory and output of `python ARGUMENTS` with the package of a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONPYCACHEPREFIX": str(kept / "bytecode")}
    environment |= {"NUMBA_CACHE_DIR": str(kept / f"loops-{root.name}"), **changes}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    try:
        done = subprocess.run([sys.executable, *arguments], cwd=kept, env=environment, capture_output=True, text=True,
                              timeout=LIMIT, check=False)  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"gave_up_after_s": LIMIT}, ""
    wall = time.perf_counter() - wall
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{root}: python {' '.join(arguments)[:200]} failed:\n{done.stderr[-2000:]}")
    processors = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_s": wall, "processors_s": processors}, done.stdout


def cases(root: Path, kept: Path, data: Path) -> dict[str, tuple[list[str], dict[str, str]]]:
    """Arguments of Python and changes of the environment, by name."""
    command, cold = ["-m", "fastsnn_deploy"], kept / f"cold-{root.name}"
    shutil.rmtree(cold, ignore_errors=True)
    files = root / "netx_exports"
    evaluate = [*command, "evaluate", str(files / EXPORTED.name), "--samples", "1", "--data-root", str(data)]
    profile = [*command, "profile", str(files / DIGITS.name), "--samples", "20", "--data-root", str(data)]
    return {
        "import torch": (["-c", "import torch"], {}),
        "import fastsnn_deploy": (["-c", "import fastsnn_deploy"], {}),
        "info of an exported file": ([*command, "info", str(files / EXPORTED.name)], {}),
        "evaluate, ResNet-20, one image": (evaluate, {}),
        "evaluate, first ever": (evaluate, {"NUMBA_CACHE_DIR": str(cold)}),
        "export of a small network": ([*command, "export", str(kept / "small.pt"), "-o", str(kept / "small.net")], {}),
        "profile of a small network": (profile, {}),
    }


def tiny(root: Path, kept: Path) -> dict[str, float]:
    """Training of a tiny network beside two busy processes, with as many threads as PyTorch takes by itself."""
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(2)]
    try:
        environment = {} if "OMP_NUM_THREADS" not in os.environ else {"OMP_NUM_THREADS": str(os.cpu_count())}
        return run(root, ["-c", TINY], kept, **environment)[0]
    finally:
        for each in busy:
            each.kill()
            each.wait()


def starts(roots: dict[str, Path], kept: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The cases, in turns."""
    run(ROOT, ["-c", SMALL, str(kept / "small.pt")], kept)
    turns: dict[str, dict[str, list[dict[str, float]]]] = {}
    for turn in range(-1, options.turns):  # the first one fills what is kept
        for label, root in roots.items():
            for name, (arguments, changes) in cases(root, kept, options.data_root.resolve()).items():
                found = run(root, arguments, kept, **changes)[0]
                if turn >= 0:
                    turns.setdefault(name, {}).setdefault(label, []).append(found)
                print(turn, label, name, {key: round(value, 2) for key, value in found.items()}, flush=True)
    return {name: {label: _median(each) for label, each in by.items()} for name, by in turns.items()}


def large(root: Path, kept: Path, more: dict[str, Any]) -> dict[str, Any]:
    """ResNet-50, step by step."""
    found, printed = run(root, ["-c", LARGE, str(kept / "large.net"), json.dumps(more)], kept)
    return _rounded(json.loads(printed) if printed else found)


def _median(turns: list[dict[str, float]]) -> dict[str, float]:
    return _rounded({key: median(turn[key] for turn in turns) for key in turns[0]})


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {key: _rounded(v) if isinstance(v, dict) else round(v, 2) for key, v in values.items()}


def main() -> None:
    """Measure, print, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--beside", type=Path, help="Another checkout of this project, measured in the same run.")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="What to measure anew in the record.")
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    roots = {"now": ROOT} | ({} if options.beside is None else {"before": options.beside.resolve()})
    known = options.record is not None and options.record.exists()
    record: dict[str, Any] = json.loads(options.record.read_text()) if known else {}
    record |= {"date": date.today().isoformat(), "cores": os.cpu_count()}
    for part in options.parts:
        with tempfile.TemporaryDirectory() as folder:
            kept = Path(folder)
            if part == "cases":
                record[part] = {"turns": options.turns} | starts(roots, kept, options)
            elif part == "tiny":
                record[TINY_NAME] = {label: _rounded(tiny(root, kept)) for label, root in roots.items()}
            else:
                record[LARGE_NAME] = {
                    name: {label: large(root, kept, more) for label, root in roots.items()}
                    for name, more in LARGE_OPTIONS.items()
                }
        if options.record is not None:
            options.record.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
