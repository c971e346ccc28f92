"""Train a small network on event frames and run it on the events: the record behind docs/events.md.

    python scripts/events.py --data-root FOLDER [--model MODEL.pt] [--recordings N] [--lava N]

FOLDER holds mnist.npz. Without --model the recipe moving-mnist-2bit is trained first. Everything that docs/events.md
quotes is in docs/records/events.json: accuracy on frames and on events over time, latency, the proof on the reference,
the CPU engine and Lava, and the settled counts of the same events in other orders.
"""

from __future__ import annotations

import argparse
import datetime
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import fastsnn_deploy as fd
from fastsnn_deploy.files import write_file
from fastsnn_deploy.graph import MaxPool2d, Population, Readout, SpikeTrains, SpikingGraph
from fastsnn_deploy.graph.integer_network import integer_values
from fastsnn_deploy.passes.spike_bounds import with_neurons
from fastsnn_deploy.simulators.reference import simulate
from fastsnn_deploy.training.event_camera import STROKE_US, EventCamera
from fastsnn_deploy.training.images import Images
from fastsnn_deploy.training.recipe import load_recipe
from fastsnn_deploy.training.trainer import Trainer

RECORD = Path(__file__).parents[1] / "docs/records/events.json"
RECIPE = "moving-mnist-2bit"
BIN_US = 3000.0
ORDERS = 10
TIMES_MS = (15, 30, 60, 90, 120, 150, 180, 210, 240, 270, 300)


def trained(model: Path | None, root: Path, folder: Path) -> tuple[Any, dict[str, Any]]:
    """(checkpoint, seconds of its training, if it is made here)."""
    if model is not None:
        return fd.load(model), {}
    start = time.monotonic()
    checkpoint = Trainer(load_recipe(RECIPE), folder / "model.pt", data_root=root, log=print).run()
    return checkpoint, {"training_seconds": round(time.monotonic() - start)}


def orders(graph: SpikingGraph, trains: SpikeTrains) -> dict[str, int]:
    """How many settled counts of the same spikes in other orders are not those of the frame."""
    values = integer_values(graph, trains.total())
    nodes = [node.name for node in graph.nodes if isinstance(node, (Population, MaxPool2d, Readout))]
    compared = differing = 0
    for seed in range(ORDERS):
        run = simulate(graph, trains.shuffled(seed))
        for name in nodes:
            compared += values[name].size
            differing += int((run.final(name) != values[name]).sum())
    return {"orders": ORDERS, "recordings": len(trains), "compared": compared, "differing": differing}


def over_time(found: Any) -> list[dict[str, float]]:
    """Accuracy and share of the events after some milliseconds."""
    curve = found.evaluation.topk[0].extended(found.evaluation.length)
    entered = np.cumsum(found.evaluation.activity["input"].per_step) / found.events
    steps = [min(int(ms * 1000 / found.bin_us), len(curve), len(entered)) for ms in TIMES_MS]
    return [
        {"ms": ms, "events": float(entered[step - 1]), "accuracy": int(curve[step - 1]) / len(found.lengths)}
        for ms, step in zip(TIMES_MS, steps, strict=True)
    ]


def measured(graph: SpikingGraph, data: Images, frames: int) -> dict[str, Any]:
    """A network on frames and on events."""
    of_frames = fd.evaluate(graph, data.select(slice(0, frames)))
    start = time.monotonic()
    found = fd.evaluate_events(graph, data, bin_us=BIN_US)
    seconds = time.monotonic() - start
    plain = found.to_dict()
    evaluation = plain.pop("evaluation")
    same = fd.evaluate(graph, data)
    assert same.topk[0].correct == found.evaluation.topk[0].correct  # settled answers are those of the frames
    return {
        "frames": {"images": frames, "accuracy": of_frames.accuracy(), **_work(of_frames.to_dict())},
        "events": {**plain, **_work(evaluation), "over_time": over_time(found), "seconds": round(seconds, 1)},
    }


def _work(evaluation: dict[str, Any]) -> dict[str, Any]:
    return {"settle_steps": evaluation["settle_steps"]["mean"], **evaluation["per_image"]}


def main() -> None:
    """Train, measure, prove, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--model", type=Path, help="checkpoint of the recipe, in place of training")
    parser.add_argument("--recordings", type=int, default=1000, help="test recordings that are run as events")
    parser.add_argument("--lava", type=int, default=2, help="recordings that run on Lava")
    parser.add_argument("--keep", type=Path, help="also keep the exported network here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, training = trained(options.model, options.data_root, Path(folder))
    unary = fd.convert(checkpoint)
    if options.keep is not None:
        fd.export(unary, options.keep)
    test = fd.load_data("moving-mnist(most=15)", "test", options.data_root)
    some = test.select(slice(0, options.recordings))
    camera = EventCamera()
    record: dict[str, Any] = {
        "date": str(datetime.date.today()), "recipe": RECIPE, **training,
        "camera": {"contrast": camera.contrast, "dark": camera.dark, "stroke_us": STROKE_US},
        "network": {"layers": len(unary.populations), "neurons": sum(node.size for node in unary.populations)},
    }  # fmt: skip
    for code in ("unary", "graded"):
        graph = with_neurons(unary, code)
        print(code, flush=True)
        record[code] = measured(graph, some, options.recordings)
        few = some.spikes(graph.input, BIN_US)[:3]
        record[code]["other_orders"] = orders(graph, few)
        backend = "lava" if options.lava else "reference"
        proof = fd.verify(graph, few[: max(options.lava, 1)], backend=backend)  # type: ignore[arg-type]
        record[code]["proof"] = proof.to_dict()
        print(json.dumps(record[code]), flush=True)
    write_file(RECORD, json.dumps(record, indent=1) + "\n", again=True)


if __name__ == "__main__":
    main()
