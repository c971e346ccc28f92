"""The results as horizontal bars."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

OURS, PEER, LIMIT = "#1b6ca8", "#9aa5b1", "#e0a458"


def bars(results: Mapping[str, Mapping[str, object]], title: str, file: Path) -> None:
    """Images a second of every contender that ran, on a log scale, fastest on top."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    ran = {name: each for name, each in results.items() if "images_per_second" in each}
    order = sorted(ran, key=lambda name: ran[name]["images_per_second"])
    rates = [ran[name]["images_per_second"] for name in order]
    colours = [OURS if name.startswith("ours") else LIMIT if name in ("ceiling", "float") else PEER for name in order]
    figure, axes = plt.subplots(figsize=(8, 0.5 * len(order) + 1.4), layout="constrained")
    drawn = axes.barh([str(ran[name]["title"]) for name in order], rates, color=colours, height=0.65)
    axes.bar_label(drawn, [_short(rate) for rate in rates], padding=4, fontsize=9)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, place: f"{value:,.10g}")
    axes.xaxis.set_minor_formatter(lambda value, place: "")
    axes.set_xlim(min(rates) / 3, max(rates) * 3)
    axes.set_xlabel("images/s")
    axes.set_title(title, fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.savefig(file, dpi=150)
    plt.close(figure)


def _short(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
