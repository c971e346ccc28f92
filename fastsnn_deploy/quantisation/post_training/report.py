"""What post-training quantisation found out, stage by stage."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from torch import fx

from fastsnn_deploy.tables import Column, Result, Table, one_line, percent, words


@dataclass(frozen=True)
class StageResult:
    """The quantised model after one stage.

    error: mean squared difference between its answers and the float network's on images held out from the others, as
    a share of the variance of the latter. agreement: fraction of these images (of a map: of its places) that both
    classify alike. accuracy: fraction of the test images that are right, or the figure of merit of another task; None
    without any. kept: whether the stage stayed, because the error fell; the stages after one that did not stay start
    from what was before it.
    """

    name: str
    error: float
    agreement: float
    accuracy: float | None
    kept: bool


@dataclass(frozen=True, eq=False)
class PostTraining(Result):
    """A network that was quantised without training.

    model: the quantised model, in evaluation mode. teacher: the float network as it takes raw images, for
    `fit(..., teacher=)`. bits, weight_bits: of activations and of inner weights. images: how many taught, and how many
    judged each stage. float_accuracy: of the float network on the test images, None without any.
    """

    model: fx.GraphModule
    teacher: fx.GraphModule
    bits: int
    weight_bits: int
    images: tuple[int, int]
    float_accuracy: float | None
    stages: tuple[StageResult, ...]

    @property
    def last(self) -> StageResult:
        """The stage whose result the model is."""
        return [stage for stage in self.stages if stage.kept][-1]

    def __repr__(self) -> str:
        right = "" if self.last.accuracy is None else f", accuracy {percent(self.last.accuracy)}"
        floating = "" if self.float_accuracy is None else f" (float {percent(self.float_accuracy)})"
        what = f"{self.bits}-bit activations, {self.weight_bits}-bit weights, error {self.last.error:.3g}"
        return one_line(f"PostTraining({what}{right}{floating})")

    def report(self) -> tuple[Table]:
        """A line for each stage."""
        tested = self.float_accuracy is not None
        columns = [words("stage"), Column("error"), Column("as float")]
        rows: list[tuple[Any, ...]] = [("float", "0", percent(1.0))]
        for stage in self.stages:
            name = stage.name if stage.kept else f"{stage.name} (undone)"
            rows.append((name, f"{stage.error:.4g}", percent(stage.agreement)))
        if tested:
            columns.append(Column("test accuracy"))
            found = (self.float_accuracy, *(stage.accuracy for stage in self.stages))
            rows = [(*row, percent(accuracy)) for row, accuracy in zip(rows, found, strict=True)]
        taught, judged = self.images
        note = f"{taught:,} images taught, {judged:,} others judged (error, as float); no labels were used"
        title = f"Quantised to {self.bits}-bit activations and {self.weight_bits}-bit weights"
        return (Table(title, tuple(columns), tuple(rows), notes=(note,)),)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `json.dumps`; the networks are left out."""
        return {
            "bits": self.bits, "weight_bits": self.weight_bits, "images": list(self.images),
            "float_accuracy": self.float_accuracy, "stages": [asdict(stage) for stage in self.stages],
        }  # fmt: skip
