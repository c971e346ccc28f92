"""What all plots share. Matplotlib is imported when a plot is asked for."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fastsnn_deploy.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INSTALL = "Install it with `pip install matplotlib`"

POSITIVE, NEGATIVE, NEUTRAL = "#1f5fa8", "#c1432e", "#8a8a8a"
"""Colours that stay apart in grey and for the colour-blind."""


def axes(ax: Axes | None, size: tuple[float, float] = (6.4, 3.6)) -> Axes:
    """The given axes, or those of a new pyplot figure, which notebooks show by themselves."""
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot
    except ModuleNotFoundError as error:
        raise InputError(f"plots need Matplotlib, which is not there ({error}). {INSTALL}") from error
    return pyplot.subplots(figsize=size, layout="constrained")[1]


def over_steps(ax: Axes, first: int, last: int, label: str) -> None:
    """Axis of time from step `first` to `last`: whole numbers only. label: whether it is a step, or steps so far."""
    from matplotlib.ticker import MaxNLocator

    ax.set_xlabel(label)
    ax.set_xlim(first - 0.5, max(last, first) + 0.5)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(alpha=0.3)


def picture(draw: Callable[..., object], size: tuple[float, float], heights: Sequence[float], kind: str) -> bytes:
    """A figure as a file's bytes.

    Args:
        draw: Called with the axes, one below the other.
        size: Width and height, inches.
        heights: Of the axes, in relation to each other.
        kind: "png" or "svg".

    Raises:
        InputError: Matplotlib is missing.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise InputError(f"a picture needs Matplotlib. {INSTALL}") from error
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    draw(*figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0])
    image = io.BytesIO()
    figure.savefig(image, format=kind, dpi=150)
    return image.getvalue()
