"""An evaluation for people: facts, accuracy after each step as a table, CSV and drawings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastsnn_deploy.plots import NEGATIVE, NEUTRAL, POSITIVE, axes, over_steps, picture
from fastsnn_deploy.tables import Column, Table, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fastsnn_deploy.analysis.evaluation import Evaluation, TopK

LINES = 40
"""Most lines of the table of steps."""


def facts(evaluation: Evaluation) -> dict[str, str]:
    """Names and values of the first table."""
    images = max(evaluation.images, 1)
    rows = {"images": f"{evaluation.images:,}"}
    for entry in telling(evaluation):
        rows[f"top-{entry.k}"] = f"{percent(evaluation.accuracy(entry.k))} ({entry.correct:,} right)"
    if evaluation.latency is not None:
        rows["latency"] = f"{evaluation.latency} steps; a new image in every step"
    else:
        rows["settled after"] = (
            f"{evaluation.mean_settle_steps:.2f} steps on average, 99 % by {evaluation.settle_percentile(99)}, "
            f"{evaluation.max_settle_steps} at most"
        )
    if evaluation.steps is not None:
        rows["stopped after"] = f"{evaluation.steps} steps"
    return rows | {
        "spikes per image": f"{evaluation.spikes / images:,.1f}",
        "synaptic operations per image": f"{evaluation.synaptic_operations / images:,.1f}",
        "neuron updates per image": f"{evaluation.neuron_updates / images:,.1f}",
    }


def telling(evaluation: Evaluation) -> tuple[TopK, ...]:
    """The top-k worth showing: of k or fewer classes every answer would be right."""
    classes = evaluation.classes
    return tuple(entry for entry in evaluation.topk if entry.k < classes)


def curve_rows(evaluation: Evaluation) -> list[dict[str, int | float]]:
    """One row a step: steps run so far, images settled by then, spikes in that step, right answers by top-k.

    Counts are of all images; `topK` is the fraction of images.
    """
    length, images = evaluation.length, max(evaluation.images, 1)
    settled = np.cumsum(evaluation.settled)
    spikes = evaluation.spikes_per_step
    curves = {f"top{entry.k}": entry.extended(length) for entry in evaluation.topk}
    rows: list[dict[str, int | float]] = []
    for step in range(length):
        row: dict[str, int | float] = {
            "steps": step + 1,
            "settled": int(settled[min(step + 1, len(settled) - 1)]),
            "spikes": int(spikes[step]),
        }
        for name, curve in curves.items():
            row |= {f"{name}_correct": int(curve[step]), name: int(curve[step]) / images}
        rows.append(row)
    return rows


def curve_csv(evaluation: Evaluation) -> str:
    """The rows of `curve_rows` as CSV."""
    names = ["steps", "settled", "spikes"]
    for entry in evaluation.topk:
        names += [f"top{entry.k}_correct", f"top{entry.k}"]
    rows = tuple(tuple(row[name] for name in names) for row in curve_rows(evaluation))
    return Table("", tuple(map(Column, names)), rows).csv()


def steps_table(evaluation: Evaluation) -> Table:
    """Accuracy after each step, or after evenly spread ones where there are many; always the last."""
    rows, images, entries = curve_rows(evaluation), max(evaluation.images, 1), telling(evaluation)
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), LINES)).round().astype(int))
    columns = (
        Column("steps"),
        *(Column(f"top-{entry.k}", percent) for entry in entries),
        Column("images settled", percent),
        Column("spikes per image", lambda spikes: f"{spikes:,.1f}"),
    )
    cells = (
        (row["steps"], *(row[f"top{entry.k}"] for entry in entries), row["settled"] / images, row["spikes"] / images)
        for row in (rows[index] for index in chosen)
    )
    return Table("After each step", columns, tuple(cells))


def draw_accuracy(evaluation: Evaluation, integer: float | None, ax: Axes | None) -> Axes:
    """See `Evaluation.plot_accuracy`."""
    ax, steps = axes(ax), np.arange(1, evaluation.length + 1)
    images, entries = max(evaluation.images, 1), telling(evaluation)
    for entry, style in zip(entries, ("-", "--", "-.", ":"), strict=False):
        curve = 100 * entry.extended(evaluation.length) / images
        ax.plot(steps, curve, style, color=POSITIVE, drawstyle="steps-mid", label=f"spiking network, top-{entry.k}")
    if integer is None and evaluation.exact and entries:
        integer = entries[0].correct / images
    if integer is not None:
        ax.axhline(100 * integer, color=NEGATIVE, linewidth=1, label=f"integer network, {percent(integer)}")
    over_steps(ax, 1, evaluation.length, "steps")
    ax.set(ylabel="accuracy, %", ylim=(0, 102), title=f"Accuracy over steps, {evaluation.images:,} images")
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc="best")
    return ax


def draw_settling(evaluation: Evaluation, ax: Axes | None) -> Axes:
    """See `Evaluation.plot_settling`."""
    ax = axes(ax)
    share = 100 * evaluation.settled / max(evaluation.images, 1)
    steps = np.arange(len(share))
    ax.bar(steps, share, color=NEUTRAL, label="settled in this step")
    ax.plot(steps, np.cumsum(share), color=POSITIVE, drawstyle="steps-mid", label="settled so far")
    over_steps(ax, 0, len(share) - 1, "steps")
    ax.set(ylabel="images, %", ylim=(0, 102), title=f"Images settled, {evaluation.images:,} images")
    ax.legend(loc="upper left")
    return ax


def curve_png(evaluation: Evaluation, title: str = "") -> bytes:
    """A PNG: accuracy, images settled, and spikes per image, over steps."""

    def draw(above: Axes, middle: Axes, below: Axes) -> None:
        draw_accuracy(evaluation, None, above).set_title(title)
        draw_settling(evaluation, middle).set_title("")
        spikes = evaluation.spikes_per_step / max(evaluation.images, 1)
        below.bar(np.arange(1, len(spikes) + 1), spikes, color=POSITIVE)
        below.set_ylabel("spikes per image")
        for ax in (above, middle, below):
            over_steps(ax, 0, evaluation.length, "steps")

    return picture(draw, (7, 8), (3, 2, 2), "png")
