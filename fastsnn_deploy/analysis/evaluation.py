"""What a network did on a data set, in integers that add up over batches and processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.analysis.curve import draw_accuracy, draw_settling, facts, steps_table
from fastsnn_deploy.analysis.structure import Layer, Network, layers_of
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.simulators.engine import Activity, activity_of
from fastsnn_deploy.tables import Result, Table, one_line, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class TopK:
    """How many images had their label among the k classes with the greatest logits.

    correct: with the answer at the end. curve: int64 [T], with the answer after each step; after the last one it stays
    at `correct`, because nothing changes in a settled network. Of classes with equal logits the lowest comes first.
    first: int64 [F], images by the number of steps after which that was so for the first time; a network whose logits
    are all equal has not answered yet.
    """

    k: int
    correct: int
    curve: Int64
    first: Int64

    def extended(self, steps: int) -> Int64:
        """The curve over `steps` >= T steps: int64 [steps]."""
        return np.concatenate([self.curve, np.full(steps - len(self.curve), self.correct, dtype=np.int64)])

    def __add__(self, other: TopK) -> TopK:
        if self.k != other.k:
            raise ValueError(f"top-{self.k} and top-{other.k} do not add up")
        steps = max(len(self.curve), len(other.curve))
        curve = self.extended(steps) + other.extended(steps)
        return TopK(self.k, self.correct + other.correct, curve, added(self.first, other.first))


@dataclass(frozen=True, eq=False)
class Evaluation(Result):
    """A network on `images` images; add those of several batches, or of several processes, with `+`.

    steps: steps that each image ran, or None if each ran until it settled. settled: int64 [S], images by the number
    of steps after which nothing changed any more; S - 1 is the largest. topk: one entry a k, in the order asked for,
    empty without labels. activity: spikes of every input, population and max pool, by name.
    """

    network: Network
    images: int
    steps: int | None
    settled: Int64
    topk: tuple[TopK, ...]
    activity: Mapping[str, Activity]

    def __repr__(self) -> str:
        right = "".join(f", top-{entry.k} {percent(self.accuracy(entry.k))}" for entry in self.topk)
        settled = (
            f", settled after {self.mean_settle_steps:.1f} steps" if self.steps is None else f", {self.steps} steps"
        )
        if self.latency is not None:
            settled = f", answer after {self.latency} steps"
        each = f"{self.synaptic_operations / max(self.images, 1):,.0f} synaptic operations per image"
        return one_line(f"Evaluation({self.images:,} images{right}{settled}, {each})")

    def __add__(self, other: Evaluation) -> Evaluation:
        """Raises ValueError unless both are of the same network, number of steps and values of k."""
        alike = self.steps == other.steps and [t.k for t in self.topk] == [t.k for t in other.topk]
        if not alike or self.network != other.network:
            raise ValueError("evaluations of different networks, steps or top-k do not add up")
        return Evaluation(
            network=self.network,
            images=self.images + other.images,
            steps=self.steps,
            settled=added(self.settled, other.settled),
            topk=tuple(a + b for a, b in zip(self.topk, other.topk, strict=True)),
            activity={name: self.activity[name] + other.activity[name] for name in self.activity},
        )

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The layers of the network and what delivers spikes to them."""
        return layers_of(self.network)

    @property
    def classes(self) -> int:
        """Elements of the output."""
        network = self.network
        shape = network[network.outputs[0]].shape if isinstance(network, SpikingGraph) else network.output_shape
        return int(np.prod(shape))

    @property
    def latency(self) -> int | None:
        """Steps from an image to its answer where a new image enters at every step; None where each runs alone."""
        network = self.network
        return None if isinstance(network, SpikingGraph) or not network.forgets else network.depth

    @property
    def length(self) -> int:
        """T: steps of the longest image, the length of every curve."""
        return self.steps if self.steps is not None else len(self.settled) - 1

    @property
    def counted_steps(self) -> int:
        """Steps of all images together: until each settled, or the fixed number for each."""
        if self.steps is not None:
            return self.steps * self.images
        return int(self.settled @ np.arange(len(self.settled)))

    @property
    def mean_settle_steps(self) -> float:
        """Steps until an image settled, mean."""
        return int(self.settled @ np.arange(len(self.settled))) / max(self.images, 1)

    @property
    def max_settle_steps(self) -> int:
        """Steps until the slowest image settled."""
        return len(self.settled) - 1

    def settle_percentile(self, percent: int) -> int:
        """Least number of steps after which at least `percent` of 100 images had settled."""
        return percentile(self.settled, percent)

    @property
    def first_right(self) -> Mapping[str, float]:
        """Steps until the answer of an image is its label for the first time: mean, p99 and max of the images that get
        there; empty without labels, or if none does."""
        found = next((entry.first for entry in self.topk if entry.k == 1), np.zeros(0, dtype=np.int64))
        right = int(found.sum())
        if not right:
            return {}
        mean = int(found @ np.arange(len(found))) / right
        return {"mean": mean, "p99": percentile(found, 99), "max": int(np.flatnonzero(found)[-1])}

    @property
    def never_right(self) -> int:
        """Images whose answer never is their label; 0 without labels."""
        return next((self.images - int(entry.first.sum()) for entry in self.topk if entry.k == 1), 0)

    def accuracy(self, k: int = 1) -> float:
        """Fraction of images whose label is among the first k classes at the end.

        Raises KeyError without labels and for a k that was not asked for.
        """
        found = {entry.k: entry.correct for entry in self.topk}
        return found[k] / max(self.images, 1)

    @property
    def spikes(self) -> int:
        """Spikes of all inputs, populations and max pools on all images, of either sign and any payload."""
        return sum(activity.positive + activity.negative for activity in self.activity.values())

    @property
    def spikes_per_step(self) -> Int64:
        """Spikes of all sources and images in each step: int64 [T]."""
        total = np.zeros(self.length, dtype=np.int64)
        for activity in self.activity.values():
            total[: len(activity.per_step)] += activity.per_step
        return total

    @cached_property
    def operations(self) -> Mapping[str, int]:
        """Synaptic operations on all images by connection (synapse or max pool), as `profile` counts them.

        One for each connection that a spike reaches, counted when it is sent. Where a fixed number of steps ends
        before an image settled, spikes still in flight are included: profile's delivered plus undelivered.
        """
        counts = {}
        for layer in self.layers:
            for connection in layer.incoming:
                sent = np.concatenate([self.activity[name].spikes.reshape(-1) for name, _ in connection.sources])
                counts[connection.name] = int(sent @ connection.fan)
        return counts

    @property
    def synaptic_operations(self) -> int:
        """Synaptic operations of all connections on all images."""
        return sum(self.operations.values())

    @property
    def neuron_updates(self) -> int:
        """Neurons times steps, summed over images; inputs, max pools and readouts included."""
        return sum(layer.neurons for layer in self.layers) * self.counted_steps

    @property
    def exact(self) -> bool:
        """True if the answer of each image is certain to be the integer network's: every neuron ran until settled."""
        graph = self.network
        if not isinstance(graph, SpikingGraph):
            return self.latency is not None
        settling = all(population.settles for population in graph.populations)
        return self.steps is None and settling and graph.schedule.stop == "settled"

    def report(self) -> tuple[Table | str, ...]:
        """Accuracy, spikes and operations; then accuracy after each step."""
        table = Table.facts("Evaluation", facts(self))
        return (table, steps_table(self)) if self.length and self.latency is None else (table,)

    def plot_accuracy(self, integer: float | None = None, ax: Axes | None = None) -> Axes:
        """Accuracy over steps, with the integer network's accuracy as a line.

        Args:
            integer: Accuracy of the integer network, a fraction. None: where every neuron ran until it settled, the
                accuracy at the end, which equals it; otherwise no line.
            ax: Axes to draw on; a new figure if None.
        """
        return draw_accuracy(self, integer, ax)

    def plot_settling(self, ax: Axes | None = None) -> Axes:
        """How many images had settled after each step (percent), and how many settled in it."""
        return draw_settling(self, ax)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `json.dumps`. Keys are listed in docs/evaluate.md."""
        images = max(self.images, 1)
        return {
            "images": self.images,
            "steps": self.steps,
            **({} if self.latency is None else {"latency": self.latency}),
            "accuracy": {f"top{entry.k}": entry.correct / images for entry in self.topk},
            "correct": {f"top{entry.k}": entry.correct for entry in self.topk},
            "correct_per_step": {f"top{entry.k}": entry.extended(self.length).tolist() for entry in self.topk},
            "settle_steps": {
                "mean": self.mean_settle_steps,
                "p99": self.settle_percentile(99),
                "max": self.max_settle_steps,
                "histogram": self.settled.tolist(),
            },
            "first_right_steps": dict(self.first_right) | {"never": self.never_right} if self.first_right else None,
            "spikes": self.spikes,
            "spikes_per_step": self.spikes_per_step.tolist(),
            "synaptic_operations": self.synaptic_operations,
            "neuron_updates": self.neuron_updates,
            "per_image": {
                "spikes": self.spikes / images,
                "synaptic_operations": self.synaptic_operations / images,
                "neuron_updates": self.neuron_updates / images,
            },
            "sources": {name: _plain(activity) for name, activity in self.activity.items()},
            "connections": dict(self.operations),
        }


def added(a: Int64, b: Int64) -> Int64:
    """The sum of two histograms."""
    total = np.zeros(max(len(a), len(b)), dtype=np.int64)
    for part in (a, b):
        total[: len(part)] += part
    return total


def percentile(histogram: Int64, percent: int) -> int:
    """Least value that at least `percent` of 100 do not exceed."""
    return int(np.argmax(np.cumsum(histogram) * 100 >= histogram.sum() * percent))


def nothing(network: Network, topk: Sequence[int] = (), steps: int | None = None) -> Evaluation:
    """The evaluation of no image, which changes no other when added."""
    length = steps or 0
    return Evaluation(
        network=network,
        images=0,
        steps=steps,
        settled=np.zeros(1, dtype=np.int64),
        topk=tuple(TopK(k, 0, *np.zeros((2, length), dtype=np.int64)) for k in topk),
        activity={
            layer.name: activity_of(np.zeros((length, 0, *layer.shape), dtype=np.int32))
            for layer in layers_of(network)
            if layer.sends
        },
    )


def _plain(activity: Activity) -> dict[str, int]:
    return {
        "positive_spikes": activity.positive,
        "negative_spikes": activity.negative,
        "payload": int(activity.payload.sum()),
        "max_spikes_in_step": activity.most_in_step,
        "max_payload": activity.largest,
    }
