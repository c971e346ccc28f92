"""What a comparison found: one network as float, quantised model, integers and spikes, and the verdict."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import fx

from fastsnn_deploy.analysis.comparison.advice import Advice
from fastsnn_deploy.analysis.comparison.layers import LayerLoss
from fastsnn_deploy.analysis.comparison.verdict import lines, verdict
from fastsnn_deploy.errors import Problem
from fastsnn_deploy.tables import Column, Result, Table, one_line, percent, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STEPS = 12
"""Most lines of the table of steps."""


@dataclass(frozen=True)
class Stage:
    """One form of the network on some images.

    name: "float", "quantised", "integer" or "SNN". accuracy: None without labels. agreement: share of answers (of
    positions in a map) that are those of the form before it; None for the first. error: mean squared difference between
    its answers and the float network's, as a share of the variance of the latter; 0 for the first.
    """

    name: str
    images: int
    accuracy: float | None
    agreement: float | None
    error: float | None


@dataclass(frozen=True)
class Step:
    """The spiking network's answers after some steps. agreement: share that are the integer network's."""

    steps: int
    accuracy: float | None
    agreement: float


@dataclass(frozen=True, eq=False)
class Comparison(Result):
    """Where accuracy goes.

    data, file: names of the images and of the exported network, "" for none. float_form: what the float column is.
    stages: the forms, in order. steps: the spiking network after 1, 2, ... steps. settle_steps: on average. neurons:
    of it. layers: from the image to the answer. advice: what was found to help, in order; tried: how many changed
    models were measured; fitted, judged: images that they were made from, and others that they were measured on.
    advised: whether any could be tried. labels_guide: whether labels judged them, because the float answers are no
    guide. file_differences: where the file's integers are not those of the model's network; converted: that network,
    if so. cause: why integers differ most where they do. why_unsettled, settled, settled_after: of a spiking network
    that ends with other counts, why, what settled neurons answer and after how many steps. notes: what must be known
    to read the numbers. model: the quantised model with the advice taken, ready for `fd.save`.
    """

    images: int
    data: str
    file: str
    float_form: str
    stages: tuple[Stage, ...]
    steps: tuple[Step, ...]
    settle_steps: float | None
    neurons: str
    layers: tuple[LayerLoss, ...]
    advice: tuple[Advice, ...]
    tried: int
    fitted: int
    judged: int
    advised: bool
    labels_guide: bool
    file_differences: tuple[Problem, ...]
    converted: Stage | None
    cause: str
    why_unsettled: str
    settled: Stage | None
    settled_after: float
    notes: tuple[str, ...]
    model: fx.GraphModule = field(repr=False)

    def __repr__(self) -> str:
        def shown(stage: Stage) -> str:
            return f"{stage.name} {percent(stage.accuracy if stage.accuracy is not None else stage.agreement or 1.0)}"

        return one_line(f"Comparison({self.images:,} images, {', '.join(map(shown, self.stages))})")

    def stage(self, name: str) -> Stage | None:
        """A form of the network, None if it was not run."""
        return next((stage for stage in self.stages if stage.name == name), None)

    def layer(self, name: str) -> LayerLoss:
        """A layer by its name."""
        return next(layer for layer in self.layers if layer.layer == name)

    @property
    def same(self) -> bool:
        """Whether the file holds the network of the model, as far as both can be compared."""
        return not self.file_differences

    @cached_property
    def verdict(self) -> tuple[str, ...]:
        """What is lost where, and what helps, in sentences: the most important first."""
        return verdict(self)

    def report(self) -> tuple[Table | str, ...]:
        """Accuracies, the first steps, the layers, and the verdict in the last lines."""
        parts: list[Table | str] = [self._stages()]
        if self.steps:
            parts.append(self._steps())
        return (*parts, self._layers(), lines(self.verdict))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `json.dumps`. Keys are listed in docs/compare.md."""
        return {
            "images": self.images, "data": self.data, "file": self.file, "float": self.float_form,
            "verdict": list(self.verdict), "stages": [asdict(stage) for stage in self.stages],
            "steps": [asdict(step) for step in self.steps], "settle_steps": self.settle_steps, "neurons": self.neurons,
            "layers": [asdict(layer) for layer in self.layers],
            "advice": [asdict(advice) for advice in self.advice], "tried": self.tried,
            "images_fitted": self.fitted, "images_judged": self.judged, "labels_guide": self.labels_guide,
            "same_network": self.same, "differences": [str(problem) for problem in self.file_differences],
            "converted": None if self.converted is None else asdict(self.converted),
            "settled": None if self.settled is None else asdict(self.settled), "notes": list(self.notes),
        }  # fmt: skip

    def plot(self, ax: tuple[Axes, Axes] | None = None) -> tuple[Axes, Axes]:
        """Accuracy over the forms and steps, and the error of each layer.

        Args:
            ax: Two axes to draw on; a new figure if None.
        """
        from fastsnn_deploy.analysis.comparison.draw import draw

        return draw(self, ax)

    def _stages(self) -> Table:
        columns = [words("network"), Column("images"), Column("accuracy", percent)]
        columns += [Column("as the one before", percent), Column("error of answers", _small)]
        names = {"float": self.float_form, "SNN": f"SNN, {self.neurons}"}
        if self.settle_steps is not None:
            names["SNN"] += f", {self.settle_steps:.1f} steps"
        rows = [(names.get(s.name, s.name), s.images, s.accuracy, s.agreement, s.error) for s in self.stages]
        if self.stages[0].accuracy is None:
            columns, rows = _without(columns, rows, 2)
        title = f"{self.images:,} images" + (f" ({self.data})" if self.data else "")
        return Table(title, tuple(columns), tuple(rows), notes=self.notes)

    def _steps(self) -> Table:
        last = len(self.steps) - 1
        early = [index for index in range(last) if self.steps[index].agreement != self.steps[index + 1].agreement]
        changing = sorted({*early, *(index + 1 for index in early), last})
        places = np.unique(np.linspace(0, len(changing) - 1, min(len(changing), STEPS)).round().astype(int))
        columns = [Column("steps"), Column("accuracy", percent), Column("as the integer network", percent)]
        rows = [(s.steps, s.accuracy, s.agreement) for s in (self.steps[changing[place]] for place in places)]
        if self.steps[0].accuracy is None:
            columns, rows = _without(columns, rows, 1)
        return Table("SNN after each step", tuple(columns), tuple(rows))

    def _layers(self) -> Table:
        columns = [
            words("layer"), Column("bits", lambda bits: "" if bits is None else str(bits)),
            words("weights", drop=2), Column("cosine", lambda x: f"{x:.4f}", drop=4),
            Column("error", percent), Column("made here", percent), Column("of the loss", percent),
            Column("clip", percent), words("dead channels", drop=1), words("saturated", drop=5),
            words("worst channel", drop=3), words("levels", drop=6), Column("counts differ", percent, drop=7),
        ]  # fmt: skip
        rows: list[tuple[Any, ...]] = [_row(layer) for layer in self.layers]
        for index in (12, 6):
            if all(row[index] is None for row in rows):
                columns, rows = _without(columns, rows, index)
        if any(layer.file_differing for layer in self.layers):
            columns.append(Column("file differs", percent))
            rows = [(*row, layer.file_differing) for row, layer in zip(rows, self.layers, strict=True)]
        return Table("Layers", tuple(columns), tuple(rows))


def _row(layer: LayerLoss) -> tuple[Any, ...]:
    return (
        layer.layer, layer.bits, ", ".join(str(bits) for bits in sorted(set(layer.weight_bits))), layer.cosine,
        layer.error, layer.local_error, layer.loss, layer.clipped if layer.bits else None,
        _of(layer.dead_channels, layer.channels) + (f" ({layer.lost_channels} lost)" if layer.lost_channels else ""),
        _of(layer.saturated_channels, layer.channels), f"{layer.worst_channel}: {percent(layer.worst_error)}",
        "" if layer.levels is None else f"{layer.levels_used} of {layer.levels}", layer.counts_differing,
    )  # fmt: skip


def _of(count: int, whole: int) -> str:
    return f"{count} of {whole}" if count else ""


def _small(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _without(columns: list[Column], rows: list[Any], index: int) -> tuple[list[Column], list[Any]]:
    return columns[:index] + columns[index + 1 :], [row[:index] + row[index + 1 :] for row in rows]
