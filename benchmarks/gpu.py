"""The engine "gpu" on a GPU: the reference's integers on random networks, then images a second.

    python benchmarks/gpu.py check --networks 100 --workers 8 --out check.json
    python benchmarks/gpu.py build vgg16 --folder graphs [--data-root DATA]
    python benchmarks/gpu.py speed vgg16 resnet18 --folder graphs --out speed.json

`check` compares every integer of settled runs, of window runs and of runs cut short with the reference simulator, in
every kind of neuron. `build` makes a graph and what the engine "cpu" makes of it, so that `speed` needs the GPU only;
`speed` compares with that before it times. The share of the peak is that of the int8 products that carry spikes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import pickle
import sys
import time
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import networks
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fastsnn_deploy.graph import Conv2d, Linear, Schedule, SpikingGraph
from fastsnn_deploy.simulators import BatchRun, Engine, open_engine
from fastsnn_deploy.simulators.batched import ReferenceEngine
from fastsnn_deploy.simulators.gpu import GpuEngine
from tests.random_graphs import random_graph, random_images
from tests.test_engine_gpu import assert_same, names_of

NEURONS = ("unary", "graded", "unsigned", "burst2")
STEPS = {"vgg11": 7}
"""T of a network, 3 for others."""

PEAK = 1979e12
"""Dense int8 operations a second of an H100 and an H200 with SXM, by NVIDIA's datasheet; one MAC is two."""


def cases(count: int) -> list[tuple[int, str, str, int | None]]:
    """(seed, neurons, stop, steps): each network settled and by window; a third cut short or drawn out."""
    return [
        (seed, NEURONS[seed % 4], stop, None if seed % 3 else (7 if stop == "settled" else 60))
        for seed in range(count)
        for stop in ("settled", "window")
    ]


def check(case: tuple[int, str, str, int | None], device: str | None) -> tuple[int, bool]:
    """Integers compared, with records and without, and whether Triton's kernels ran. AssertionError if one differs."""
    seed, neurons, stop, steps = case
    rng = np.random.default_rng(10_000 + seed)
    schedule = Schedule(
        window=int(rng.integers(1, 5)), input=rng.choice(["once", "spread"]),
        bias=rng.choice(["wave", "spread", "initial"]), stop=stop,
    )  # fmt: skip
    graph = replace(random_graph(7000 + seed, neurons=neurons, balance=bool(rng.integers(4))), schedule=schedule)
    emitted = graph.input.encode(random_images(graph, seed, 3))
    engine, compared = GpuEngine(graph, device=device), 0
    for record in ([], names_of(graph)):
        expected = ReferenceEngine(graph).run(emitted, steps, record)
        assert_same(engine.run(emitted, steps, record), expected)
        compared += sum(array.size for array in arrays(expected))
    return compared, engine.plan.kernels is not None


def arrays(run: BatchRun) -> list[np.ndarray]:
    """Every array of a run."""
    found = [run.settle_steps, *run.outputs.values()]
    for part in (*run.activity.values(), *run.recorded.values()):
        found += [value for field in fields(part) if isinstance(value := getattr(part, field.name), np.ndarray)]
    return found


def digest(run: BatchRun) -> str:
    """Of everything that a run reports."""
    parts = hashlib.sha256()
    for array in arrays(run):
        parts.update(np.ascontiguousarray(array))
    return parts.hexdigest()


def _check_one(task: tuple[Any, str | None]) -> tuple[Any, int, bool, str]:
    torch.set_num_threads(1)
    case, device = task
    try:
        return case, *check(case, device), ""
    except Exception as error:
        return case, 0, False, f"{type(error).__name__}: {str(error)[-800:]}"


def check_command(given: argparse.Namespace) -> dict[str, Any]:
    """All cases, in several processes."""
    todo, begin = cases(given.networks), time.perf_counter()
    rows = []
    with multiprocessing.get_context("spawn").Pool(given.workers) as pool:
        for row in pool.imap_unordered(_check_one, [(case, given.device) for case in todo]):
            rows.append(row)
            if time.perf_counter() - begin > given.seconds:
                break
    wrong = [row for row in rows if row[3]]
    by = Counter(f"{case[1]} {case[2]}" for case, _, _, error in rows if not error)
    for case, _, _, error in wrong[:3]:
        print(case, error, file=sys.stderr)
    return {
        "networks": len({row[0][0] for row in rows}), "runs": 2 * len(rows), "wrong": len(wrong),
        "cases_equal": dict(sorted(by.items())),
        "integers": sum(row[1] for row in rows), "with_triton": sum(row[2] for row in rows),
        "seconds": round(time.perf_counter() - begin, 1),
    }  # fmt: skip


def build_command(given: argparse.Namespace) -> dict[str, Any]:
    """A graph of each network, its input, and digests of what the engine "cpu" makes of the first images."""
    given.folder.mkdir(parents=True, exist_ok=True)
    done = {}
    for name in given.names:
        begin, big = time.perf_counter(), name == "resnet50"
        graph = networks.build_graph(name, STEPS.get(name, 3), given.data_root)
        emitted = graph.input.encode(networks.images_for(name, 64 if big else 512, given.data_root))
        checked = min(given.images, 2 if big else given.images)
        right = {kind: digest(open_engine(g, "cpu").run(emitted[:checked])) for kind, g in forms(graph).items()}
        file = given.folder / f"{Path(name).stem}.pickle"
        file.with_suffix(".part").write_bytes(pickle.dumps((graph, np.asarray(emitted, np.int16), checked, right)))
        file.with_suffix(".part").rename(file)
        done[name] = round(time.perf_counter() - begin, 1)
    return done


def forms(graph: SpikingGraph) -> dict[str, SpikingGraph]:
    """T steps a layer, as published, and until settled."""
    window = Schedule(window=graph.schedule.window, input="spread", bias="spread", stop="window")
    return {"window": replace(graph, schedule=window), "settled": graph}


def macs(graph: SpikingGraph) -> int:
    """Multiply-accumulates of one pass over one image."""
    total = 0
    for node in graph.synapses:
        if isinstance(node, Linear):
            total += node.weight.size
        elif isinstance(node, Conv2d):
            total += node.weight.size * node.shape[1] * node.shape[2]
    return total


def timed(engine: Engine, emitted: np.ndarray, repeat: int) -> tuple[BatchRun, list[float]]:
    """A run and the seconds of `repeat` more."""
    run, samples = engine.run(emitted), []
    for _ in range(repeat):
        begin = time.perf_counter()
        run = engine.run(emitted)  # results lie on the host: nothing is left to wait for
        samples.append(time.perf_counter() - begin)
    return run, samples


def speed_command(given: argparse.Namespace) -> dict[str, Any]:
    """Images a second of built networks."""
    end, results = time.perf_counter() + given.seconds, {}
    for name in given.names:
        if time.perf_counter() > end:
            break
        graph, emitted, checked, right = pickle.loads((given.folder / f"{name}.pickle").read_bytes())  # ours
        count = given.images or (512 if name == "resnet50" else 10_000)
        many = np.concatenate([emitted] * (count // len(emitted) + 1))[:count]
        for kind, form in forms(graph).items():
            engine = GpuEngine(form, device=given.device)
            begin = time.perf_counter()
            same = digest(engine.run(emitted[:checked])) == right[kind]
            first = time.perf_counter() - begin
            run, samples = timed(engine, many, given.repeat)
            median = float(np.median(samples))
            sums = 2 * macs(graph) * count * graph.schedule.window
            results[f"{name} {kind}"] = one = {
                "T": graph.schedule.window, "images": count, "steps": run.steps, "batch": engine.batch_size,
                "equal_to_cpu_engine": same, "images_checked": checked, "first_run_seconds": round(first, 2),
                "seconds": [round(sample, 4) for sample in samples], "images_per_second": round(count / median, 1),
                "share_of_int8_peak": round(sums / median / PEAK, 4),
            }  # fmt: skip
            print(name, kind, json.dumps(one), file=sys.stderr, flush=True)
    return results


def main() -> None:
    """Parse and run; results are printed and written to --out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["check", "build", "speed"])
    parser.add_argument("names", nargs="*", help="networks of networks.py, or exported files")
    parser.add_argument("--networks", type=int, default=100, help="random networks of `check`")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--folder", type=Path, default=Path("graphs"))
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--images", type=int, default=0)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=600, help="no new network after so long")
    parser.add_argument("--device", help="as torch names it; cuda if left out")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    result = {"check": check_command, "build": build_command, "speed": speed_command}[given.command](given)
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    text = json.dumps({"command": given.command, "card": card, "torch": torch.__version__, "result": result}, indent=1)
    print(text)
    if given.out is not None:
        given.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
