"""Further measurements of our engine: the steps beyond T, scaling in T, a whole test set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from networks import BITS, build_graph, images_for
from peers.base import Int64, Options
from peers.ours import Ours
from rounds import Sample, in_turns, stopwatch

Progress = Callable[[str], None]


def beyond(ours: Ours, emitted: Int64, repeat: int, progress: Progress) -> dict[str, object]:
    """Cost of settling: T + depth steps, in which every first message has arrived, against running until settled."""
    fixed = ours.steps + ours.graph.depth
    samples = in_turns(
        {
            "fixed": lambda: stopwatch(lambda: ours.run_for(emitted, fixed)),
            "settled": lambda: stopwatch(lambda: ours.run_for(emitted, None)),
        },
        repeat,
        progress=progress,
    )
    settled = max(ours.run_for(emitted, None), default=0)
    return {
        "fixed_steps": fixed,
        "settled_steps": settled,
        "fixed_seconds": samples["fixed"].seconds,
        "settled_seconds": samples["settled"].seconds,
        "ratio": samples["settled"].median / samples["fixed"].median,
    }


def scaling(
    network: str, images: int, repeat: int, options: Options, data_root: Path | None, progress: Progress
) -> dict[str, object]:
    """Images a second of our engine for every T of `BITS`."""
    result: dict[str, object] = {}
    for steps in BITS:
        ours, emitted = _prepared(network, steps, images, options, data_root)
        samples = in_turns({f"T={steps}": _timer(ours, emitted)}, repeat, progress=progress)
        result[str(steps)] = rate(samples[f"T={steps}"], images)
    return result


def full(network: str, images: int, steps: int, options: Options, data_root: Path | None) -> dict[str, object]:
    """One run over many images."""
    ours, emitted = _prepared(network, steps, images, options, data_root)
    ours.run(emitted[: ours.engine.batch_size])  # compiles
    sample = Sample([stopwatch(lambda: ours.run(emitted))])
    return {"network": network, "steps": steps, "images": images, **rate(sample, images)}


def rate(sample: Sample, images: int) -> dict[str, object]:
    """A sample as plain data."""
    return {"seconds": sample.seconds, "images_per_second": images / sample.median}


def _prepared(network: str, steps: int, images: int, options: Options, data_root: Path | None) -> tuple[Ours, Int64]:
    graph = build_graph(network, steps, data_root)
    ours = Ours(graph, steps, options)
    emitted = graph.input.encode(images_for(network, images, data_root))
    ours.run(emitted[:2])  # compiles
    return ours, emitted


def _timer(ours: Ours, emitted: Int64) -> Callable[[], float]:
    return lambda: stopwatch(lambda: ours.run(emitted))
