"""A comparison as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastsnn_deploy.analysis.comparison.verdict import CLIPS
from fastsnn_deploy.plots import NEGATIVE, NEUTRAL, POSITIVE, axes, over_steps, picture
from fastsnn_deploy.tables import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fastsnn_deploy.analysis.comparison.result import Comparison

STYLES = {"float": (NEUTRAL, "-"), "quantised": (POSITIVE, "--"), "integer": (NEGATIVE, ":")}


def draw(found: Comparison, ax: tuple[Axes, Axes] | None) -> tuple[Axes, Axes]:
    """See `Comparison.plot`."""
    above, below = ax or (axes(None), axes(None))
    _over_steps(found, above)
    _by_layer(found, below)
    return above, below


def drawn(found: Comparison, kind: str, title: str) -> bytes:
    """The picture as "png" or "svg"."""
    width = max(7.0, 2.5 + 0.32 * len(found.layers))
    return picture(lambda above, below: draw(found, (above, below))[0].set_title(title), (width, 8), (1, 1), kind)


def _over_steps(found: Comparison, ax: Axes) -> None:
    right = found.stages[0].accuracy is not None
    for stage in found.stages:
        value = stage.accuracy if right else stage.agreement
        if stage.name in STYLES and value is not None:
            colour, style = STYLES[stage.name]
            ax.axhline(
                100 * value, color=colour, linestyle=style, linewidth=1.3, label=f"{stage.name}, {percent(value)}"
            )
    steps = [step.steps for step in found.steps]
    curve = [100 * (step.accuracy if step.accuracy is not None else step.agreement) for step in found.steps]
    if steps:
        last = found.steps[-1]
        value = last.accuracy if last.accuracy is not None else last.agreement
        ax.plot(steps, curve, color=POSITIVE, drawstyle="steps-mid", label=f"SNN, {percent(value)} at the end")
        over_steps(ax, 1, steps[-1], "steps of the spiking network")
    ax.set(ylabel="accuracy, %" if right else "as the form before, %", ylim=(0, 102))
    ax.legend(loc="center left")


def _by_layer(found: Comparison, ax: Axes) -> None:
    places = range(len(found.layers))
    ax.bar(places, [100 * layer.error for layer in found.layers], color=NEUTRAL, alpha=0.5, label="error")
    ax.bar(places, [100 * layer.local_error for layer in found.layers], width=0.4, color=POSITIVE, label="made here")
    clipping = [(place, 100 * layer.clipped) for place, layer in enumerate(found.layers) if layer.clipped >= CLIPS]
    if clipping:
        ax.plot(*zip(*clipping, strict=True), "v", color=NEGATIVE, label="values that clip")
    ax.set_xticks(list(places), [layer.layer for layer in found.layers], rotation=60, ha="right", fontsize=8)
    ax.set(ylabel="% of the layer", xlim=(-0.7, len(found.layers) - 0.3))
    ax.grid(axis="y", alpha=0.3)
    ax.legend(loc="upper left")
