"""Run a graph over a data set, one batch in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.analysis.evaluation import Evaluation, TopK, nothing
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.graph.integer_network import logits
from fastsnn_deploy.simulators import BatchRun, Engine, open_engine

Int64 = npt.NDArray[np.int64]


def evaluate(
    graph: SpikingGraph,
    levels: npt.NDArray[np.generic],
    labels: npt.NDArray[np.integer] | None,
    *,
    engine: Engine | str = "cpu",
    batch: int | None = None,
    steps: int | None = None,
    topk: Sequence[int] = (1, 5),
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Classify images and count what the network does.

    levels: images [N, *input shape] as `graph.input.encode` takes them, N may be 0; encoded batch by batch. labels:
    int [N], classes; None if there are none, which leaves accuracy out. engine: an engine of this graph, or a name for
    `open_engine`. batch: images at a time, default what keeps the engine busy; it never changes a result. steps: run
    every image for exactly this many steps; default: until it has settled. topk: the answer counts as right if the
    label is among the first k classes; see `ranks`. progress: called with (images done, images in all).
    Raises InputError unless the graph has one output [n], and for labels and numbers that do not fit.
    """
    classes = _classes(graph)
    _check(len(levels), labels, classes, batch, steps, topk)
    if isinstance(engine, str):
        engine = open_engine(graph, engine)
    if engine.graph is not graph:
        raise InputError("the engine was opened for another graph. Open one for this graph")
    size = batch or engine.batch_size
    ks = tuple(topk) if labels is not None else ()
    total = nothing(graph, ks, steps)
    for start in range(0, len(levels), size):
        part = slice(start, start + size)
        emitted = graph.input.encode(levels[part])
        run = engine.run(emitted, steps)
        total += _evaluation(graph, run, None if labels is None else labels[part], ks, steps)
        if progress is not None:
            progress(start + len(emitted), len(levels))
    return total


def ranks(scores: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]) -> Int64:
    """Classes that come before the label when classes are sorted by falling score: int64 [N], 0 if the label wins.

    scores: float [N, classes]; labels: int [N]. Of classes with equal scores the lowest comes first, so that rank 0
    is where NumPy's argmax finds the label.
    """
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    lower = np.arange(scores.shape[1]) < labels[:, None]
    before = (scores > own) | ((scores == own) & lower)
    return np.asarray(before.sum(axis=1, dtype=np.int64))


def _evaluation(
    graph: SpikingGraph,
    run: BatchRun,
    labels: npt.NDArray[np.integer] | None,
    topk: tuple[int, ...],
    steps: int | None,
) -> Evaluation:
    """Of one batch."""
    return Evaluation(
        graph=graph,
        images=len(run.settle_steps),
        steps=steps,
        settled=np.bincount(run.settle_steps, minlength=1).astype(np.int64),
        topk=() if labels is None else _topk(graph, run, labels, topk),
        activity=run.activity,
    )


def _topk(
    graph: SpikingGraph, run: BatchRun, labels: npt.NDArray[np.integer], topk: tuple[int, ...]
) -> tuple[TopK, ...]:
    name = graph.outputs[0]
    output = run.outputs[name]
    # one step at a time: the logits of all steps would be as large as the run
    placed = [ranks(logits(graph, {name: values}), labels) for values in output]
    # a network that never changes answers with the zeros it started from
    final = placed[-1] if placed else ranks(np.zeros(output.shape[1:]), labels)
    return tuple(
        TopK(
            k=k,
            correct=int(np.count_nonzero(final < k)),
            curve=np.array([np.count_nonzero(rank < k) for rank in placed], dtype=np.int64),
        )
        for k in topk
    )


def _classes(graph: SpikingGraph) -> int:
    """Classes of a classification network. Raises InputError for any other."""
    shapes = [graph[name].shape for name in graph.outputs]
    if len(shapes) != 1 or len(shapes[0]) != 1:
        found = ", ".join(f"'{name}' {list(shape)}" for name, shape in zip(graph.outputs, shapes, strict=True))
        raise InputError(
            f"the network has the outputs {found}: evaluate is for classification, one output of shape [classes]. "
            "Use profile to count what other networks do"
        )
    return shapes[0][0]


def _check(
    images: int,
    labels: npt.NDArray[np.integer] | None,
    classes: int,
    batch: int | None,
    steps: int | None,
    topk: Sequence[int],
) -> None:
    numbers = [("batch", batch), ("steps", steps), *(("topk", k) for k in topk)]
    for name, value in numbers:
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}, must be at least 1")
    if labels is None:
        return
    if labels.shape != (images,) or labels.dtype.kind not in "iu":
        raise InputError(f"labels are {labels.dtype} {labels.shape}, needs integers ({images},), one for each image")
    if images and (labels.min() < 0 or labels.max() >= classes):
        raise InputError(
            f"labels reach from {labels.min()} to {labels.max()}, but the network has {classes} classes. "
            "Use the data set that it was trained on"
        )
