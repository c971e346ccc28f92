"""Run a network over a data set, one batch in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.analysis.evaluation import Evaluation, TopK, nothing
from fastsnn_deploy.analysis.kinds import kind_of
from fastsnn_deploy.analysis.structure import Network
from fastsnn_deploy.errors import InputError, require_progress, whole_number
from fastsnn_deploy.graph.images import labels_of, sliceable
from fastsnn_deploy.graph.schedule import MOST_STEPS
from fastsnn_deploy.simulators import BatchRun, Engine, StockEngine, open_engine

Int64 = npt.NDArray[np.int64]


def evaluate(
    network: Network,
    levels: Any,
    labels: Any,
    *,
    engine: Engine | StockEngine | str = "cpu",
    batch: int | None = None,
    steps: int | None = None,
    topk: Sequence[int] = (1, 5),
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Classify images and count what the network does.

    network: a spiking graph or a stock network. levels: raw images as its `encode` takes them, or Encoded; N may be 0;
    encoded batch by batch. labels: int [N], classes; None if there are none, which leaves accuracy out. engine: an
    engine of this network, or a name for `open_engine`. batch: images at a time, default what keeps the engine busy; it
    never changes a result. steps: run every image for exactly this many steps; default: until it has settled. A stock
    network with leaky neurons needs it; one without memory gives an inference in a single step and refuses it. topk:
    the answer counts as right if the label is among the first k classes; see `ranks`. progress: called with (images
    done, images in all). Raises InputError unless the network has one output [n], and for labels and numbers that do
    not fit.
    """
    levels, labels = checked(network, levels, labels, batch, steps, topk, progress, events=True)
    opened = engine if isinstance(engine, (Engine, StockEngine)) else open_engine(network, engine)
    if opened.graph is not network:
        raise InputError("the engine was opened for another network. Open one for this network")
    size = batch or opened.batch_size
    ks = tuple(topk) if labels is not None else ()
    total = nothing(network, ks, steps)
    for start in range(0, len(levels), size):
        part = slice(start, start + size)
        emitted = kind_of(network).encode(network, levels[part])
        run = opened.run(emitted, steps)
        total += evaluation_of(network, run, None if labels is None else labels[part], ks, steps)
        if progress is not None:
            progress(start + len(emitted), len(levels))
    return total


def checked(
    network: Network, levels: Any, labels: Any, batch: Any, steps: Any, topk: Sequence[Any], progress: Any,
    events: bool = False,
) -> tuple[Any, Int64 | None]:  # fmt: skip
    """Images, or events, that can be sliced and labels int64 [N], or InputError, as `evaluate` says."""
    classes = _classes(network)
    levels = sliceable(levels, len(network.input.shape), events)
    labels = None if labels is None else labels_of(labels, len(levels), "the network")
    _check(labels, classes, batch, steps, topk)
    require_progress(progress)
    return levels, labels


def ranks(scores: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]) -> Int64:
    """Classes that come before the label when classes are sorted by falling score: int64 [N], 0 if the label wins.

    scores: float [N, classes]; labels: int [N]. Of classes with equal scores the lowest comes first, so that rank 0
    is where NumPy's argmax finds the label.
    """
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    lower = np.arange(scores.shape[1]) < labels[:, None]
    before = (scores > own) | ((scores == own) & lower)
    return np.asarray(before.sum(axis=1, dtype=np.int64))


def evaluation_of(
    network: Network,
    run: BatchRun,
    labels: npt.NDArray[np.integer] | None = None,
    topk: tuple[int, ...] = (),
    steps: int | None = None,
) -> Evaluation:
    """The evaluation of one batch that an engine ran."""
    return Evaluation(
        network=network,
        images=len(run.settle_steps),
        steps=steps,
        settled=np.bincount(run.settle_steps, minlength=1).astype(np.int64),
        topk=() if labels is None else _topk(network, run, labels, topk),
        activity=run.activity,
    )


def _topk(network: Network, run: BatchRun, labels: npt.NDArray[np.integer], topk: tuple[int, ...]) -> tuple[TopK, ...]:
    (output,) = run.outputs.values()
    score = kind_of(network).logits
    placed, answered = np.zeros((2, *output.shape[:2]), dtype=np.int64)
    for step, values in enumerate(output):  # the logits of all steps would be as large as the run
        scores = score(network, values)
        placed[step], answered[step] = ranks(scores, labels), np.ptp(scores, axis=1) > 0
    # a network that never changes answers with the zeros it started from
    final = placed[-1] if len(placed) else ranks(np.zeros(output.shape[1:]), labels)
    return tuple(_top(k, final, placed < k, answered.astype(np.bool_)) for k in topk)


def _top(k: int, final: Int64, right: npt.NDArray[np.bool_], answered: npt.NDArray[np.bool_]) -> TopK:
    """final: rank of each label at the end. right, answered: bool [T, N]."""
    first = right & answered
    steps = first.argmax(0)[first.any(0)] + 1 if len(first) else np.zeros(0, dtype=np.int64)
    return TopK(
        k=k,
        correct=int(np.count_nonzero(final < k)),
        curve=right.sum(1, dtype=np.int64),
        first=np.bincount(steps, minlength=1).astype(np.int64),
    )


def _classes(network: Network) -> int:
    """Classes of a classification network. Raises InputError for any other."""
    outputs = kind_of(network).outputs(network)
    shapes = list(outputs.values())
    if len(shapes) != 1 or len(shapes[0]) != 1:
        found = ", ".join(f"'{name}' {list(shape)}" for name, shape in outputs.items())
        raise InputError(
            f"the network has the outputs {found}: accuracy is for one output of shape [classes]. Say what else it "
            "answers with --task, or use profile to count what it does"
        )
    return shapes[0][0]


def known_labels(network: Network, labels: Any, images: int) -> Int64 | None:
    """Labels of a classification network as int64 [N]; None without any, and for other networks.

    Raises InputError for labels that do not fit.
    """
    shapes = list(kind_of(network).outputs(network).values())
    if labels is None or len(shapes) != 1 or len(shapes[0]) != 1:
        return None
    found = labels_of(labels, images, "the network")
    _check(found, shapes[0][0], None, None, ())
    return found


def _check(labels: Int64 | None, classes: int, batch: int | None, steps: int | None, topk: Sequence[int]) -> None:
    for name, value in [("batch", batch), ("steps", steps), *(("topk", k) for k in topk)]:
        if value is not None:
            whole_number(name, value, 1, MOST_STEPS if name == "steps" else None)
    if labels is not None and len(labels) and (labels.min() < 0 or labels.max() >= classes):
        raise InputError(
            f"labels reach from {labels.min()} to {labels.max()}, but the network has {classes} classes. "
            "Use the data set that it was trained on"
        )
