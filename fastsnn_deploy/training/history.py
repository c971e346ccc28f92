"""What `fit` did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from fastsnn_deploy.plots import axes
from fastsnn_deploy.tables import Column, Result, Table, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class History(Result):
    """What `fit` did, one entry an epoch.

    loss: mean loss of the training images, before each step: cross entropy, mixed with a teacher's if there is one, and
    the price of synaptic operations if they have one.
    accuracy: fraction of the test images that are right after the epoch; without test images, of the training images
    before each step.
    operations: where they have a price, mean synaptic operations of a training image, as counts alone make them.
    """

    loss: tuple[float, ...]
    accuracy: tuple[float, ...]
    tested: bool
    operations: tuple[float, ...] = ()

    def __repr__(self) -> str:
        kind = "test" if self.tested else "training"
        return (
            f"History({len(self.loss)} epochs, loss {self.loss[0]:.4f} -> {self.loss[-1]:.4f}, {kind} accuracy "
            f"{100 * self.accuracy[-1]:.2f} %)"
        )

    def report(self) -> tuple[Table]:
        """A line for each epoch."""
        columns: dict[str, Sequence[Any]] = {
            "epoch": range(1, len(self.loss) + 1),
            "loss": [f"{loss:.4f}" for loss in self.loss],
            "test accuracy" if self.tested else "training accuracy": [percent(each) for each in self.accuracy],
        }
        if self.operations:
            columns["synaptic operations an image"] = [round(each) for each in self.operations]
        rows = zip(*columns.values(), strict=True)
        return (Table("Training", tuple(map(Column, columns)), tuple(rows)),)

    def plot_accuracy(self, ax: Axes | None = None) -> Axes:
        """Accuracy after each epoch, in percent; returns the axes."""
        ax = axes(ax)
        ax.plot(range(1, len(self.accuracy) + 1), [100 * each for each in self.accuracy], marker="o")
        ax.set(xlabel="epoch", ylabel="accuracy (%)")
        return ax

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
