"""Accuracy after each step, as rows, CSV and a drawing."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from fastsnn_deploy.analysis.evaluation import Evaluation


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
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(curve_rows(evaluation))
    return text.getvalue()


def draw_curve(evaluation: Evaluation, path: Path, title: str = "") -> None:
    """Write a PNG: accuracy and settled images in percent over steps, spikes for one image in each step."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    rows = curve_rows(evaluation)
    images = max(evaluation.images, 1)
    steps = [row["steps"] for row in rows]
    figure = Figure(figsize=(7, 5), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    for entry in evaluation.topk:
        above.plot(steps, [100 * row[f"top{entry.k}"] for row in rows], label=f"top-{entry.k}", drawstyle="steps-post")
    settled = [100 * row["settled"] / images for row in rows]
    above.plot(steps, settled, ":", color="grey", label="images settled", drawstyle="steps-post")
    above.set(ylabel="% of images", ylim=(0, 102), title=title)
    above.grid(alpha=0.3)
    above.legend(loc="upper left")
    below.bar(steps, [row["spikes"] / images for row in rows])
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    below.set(xlabel="steps", ylabel="spikes per image")
    figure.savefig(path, format="png", dpi=150)
