"""What a run of a spiking graph gives, whichever simulator or backend made it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.errors import InputError, unknown
from fastsnn_deploy.plots import NEGATIVE, POSITIVE, axes, over_steps
from fastsnn_deploy.tables import Column, Result, Table, one_line, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

LINES = 10
"""Neurons that `plot_potential` draws if none are named."""


@dataclass(frozen=True, eq=False)
class Run(Result):
    """Time series of a batch of N images over T steps; step 0 is the step in which the input emits.

    spikes: int32 [T, N, *shape] of every input, population and max pool.
    counts: net spikes so far, after each step, of every population and max pool: int32 [T, N, *shape].
    potentials: after each step's reset, of every population and readout: int32 [T, N, *shape].
    settle_steps: int64 [N], steps after which nothing changes any more in the whole network.
    scales: of every output in order, real value of one unit of its integers: float64, broadcasts to [N, *shape].
    A backend that cannot see counts or potentials leaves those mappings empty.
    """

    steps: int
    spikes: Mapping[str, Int32]
    counts: Mapping[str, Int32]
    potentials: Mapping[str, Int32]
    settle_steps: Int64
    scales: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)

    def __repr__(self) -> str:
        answer = f" -> {', '.join(self.scales)}" if self.scales else ""
        return one_line(f"Run({self.images} images, {self.steps} steps, {len(self.spikes)} layers{answer})")

    @property
    def images(self) -> int:
        """N."""
        return len(self.settle_steps)

    def final(self, name: str) -> Int32:
        """Settled value of a node, int32 [N, *shape]: net count, or the potential of a readout."""
        series = self.counts[name] if name in self.counts else self.potentials[name]
        return np.asarray(series[-1])

    @property
    def logits(self) -> npt.NDArray[np.float64]:
        """The answer in real values: the first output's integers times their scale, float64 [N, *shape].

        Raises InputError if the backend did not record the output.
        """
        for name, scale in self.scales.items():
            if name in self.counts or name in self.potentials:
                return np.asarray(self.final(name) * scale, dtype=np.float64)
            break
        raise InputError("the run did not record the output of the network, so it has no logits. Record all layers")

    @property
    def predictions(self) -> Int64:
        """Class of each image, int64 [N]; for maps, of each position [N, H, W]. Of equal logits the lowest class."""
        return np.asarray(self.logits.argmax(1))

    @property
    def spikes_per_image(self) -> float:
        """Spikes of all inputs, populations and max pools, of either sign and any payload."""
        return sum(int(np.count_nonzero(series)) for series in self.spikes.values()) / max(self.images, 1)

    def report(self) -> tuple[Table | str, ...]:
        """Steps, and spikes by layer."""
        rows = [(name, *_sent(series, max(self.images, 1))) for name, series in self.spikes.items()]
        totals = ("total", *(sum(column) for column in list(zip(*rows, strict=True))[1:4]), None)
        columns = (words("layer"), Column("neurons"), Column("spikes per image"), Column("negative"), Column("largest"))
        settle = self.settle_steps
        line = f"{self.images} images, {self.steps} steps"
        if len(settle):
            line += f"; settled after {settle.mean():.1f} steps on average, {settle.max()} at most"
        return line, Table("Spikes", columns, (*rows, totals), totals=1)

    def to_dict(self) -> dict[str, Any]:
        """Steps, answers and spikes by layer as plain values; the series themselves are arrays."""
        answered = any(name in self.counts or name in self.potentials for name in self.scales)
        return {
            "images": self.images,
            "steps": self.steps,
            "settle_steps": self.settle_steps.tolist(),
            "predictions": self.predictions.tolist() if answered else None,
            "logits": self.logits.tolist() if answered else None,
            "spikes": {name: int(np.count_nonzero(series)) for name, series in self.spikes.items()},
        }

    def plot_raster(self, layer: str, image: int = 0, ax: Axes | None = None) -> Axes:
        """Every spike of a layer for one image: steps from left to right, neurons (in C, H, W order) upwards.

        Args:
            layer: Name of an input, population or max pool.
            image: Which of the N images.
            ax: Axes to draw on; a new figure if None.

        Returns:
            The axes. Negative spikes are red.
        """
        series = _series(self.spikes, layer, image, self.images)
        ax = axes(ax)
        for label, colour, chosen in (("spike", POSITIVE, series > 0), ("negative spike", NEGATIVE, series < 0)):
            steps, neurons = np.nonzero(chosen)
            if len(steps):
                ax.scatter(steps, neurons, s=9, marker="|", color=colour, label=label, linewidths=1.2)
        over_steps(ax, 0, self.steps - 1, "step")
        ax.set(ylabel="neuron", title=f"{layer}, image {image}", ylim=(-1, max(series.shape[1], 1)))
        if (series < 0).any():
            ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
        return ax

    def plot_potential(
        self, layer: str, neurons: Sequence[int] | None = None, image: int = 0, ax: Axes | None = None
    ) -> Axes:
        """Potential of neurons after each step, for one image.

        Args:
            layer: Name of a population or readout.
            neurons: Which neurons, in C, H, W order; None for the first ten, or the ten that change most.
            image: Which of the N images.
            ax: Axes to draw on; a new figure if None.

        Returns:
            The axes, in units of synaptic input.
        """
        series = _series(self.potentials, layer, image, self.images)
        ax = axes(ax)
        if neurons is None:
            swing = series.max(0, initial=0) - series.min(0, initial=0)
            neurons = sorted(np.argsort(-swing, kind="stable")[:LINES].tolist())
        for neuron in neurons:
            ax.plot(series[:, neuron], drawstyle="steps-mid", label=str(neuron))
        over_steps(ax, 0, self.steps - 1, "step")
        ax.set(ylabel="potential", title=f"{layer}, image {image}")
        ax.legend(title="neuron", loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
        return ax


def _series(recorded: Mapping[str, Int32], layer: str, image: int, images: int) -> Int32:
    """The series of one image, [T, neurons]."""
    if layer not in recorded:
        raise unknown("layer", layer, recorded)
    if not 0 <= image < images:
        raise InputError(f"image {image}: the run has images 0 to {images - 1}")
    return np.asarray(recorded[layer][:, image].reshape(len(recorded[layer]), -1))


def _sent(series: Int32, images: int) -> tuple[int, float, float, int]:
    """Neurons, spikes and negative spikes for one image, largest payload."""
    neurons = int(np.prod(series.shape[2:], dtype=np.int64))
    largest = int(np.abs(series).max(initial=0))
    return neurons, int(np.count_nonzero(series)) / images, int((series < 0).sum()) / images, largest
