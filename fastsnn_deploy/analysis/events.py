"""A network on the events of a camera themselves: accuracy over time, latency from the first event."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.analysis.curve import LINES, curve_rows, facts
from fastsnn_deploy.analysis.evaluate import evaluation_of, known_labels
from fastsnn_deploy.analysis.evaluation import Evaluation, nothing
from fastsnn_deploy.errors import InputError, require_progress, whole_number, wrong_type
from fastsnn_deploy.formats import Network, as_network
from fastsnn_deploy.graph import Events, SpikeTrains, SpikingGraph
from fastsnn_deploy.graph.spike_trains import BIN_US, NO_EVENTS, SpikeReader, spike_trains
from fastsnn_deploy.plots import POSITIVE, axes
from fastsnn_deploy.simulators import open_engine
from fastsnn_deploy.tables import Column, Result, Table, one_line, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Int64 = npt.NDArray[np.int64]

SHARES = (0.5, 0.9, 0.99, 1.0)
"""Of the accuracy in the end, when it is first reached."""


@dataclass(frozen=True, eq=False)
class EventEvaluation(Result):
    """A network on N recordings. Time begins with the first event of each, which is in step 0.

    evaluation: the same run counted in steps. bin_us: microseconds of a step. events, late, dropped: that entered,
    those of them that entered after their time bin, and those that did not enter (`SpikeTrains`), of all recordings.
    lengths: int64 [N], steps until the last event of a recording has entered. settled: int64 [N], steps until nothing
    changes any more.
    """

    evaluation: Evaluation
    bin_us: float
    events: int
    late: int
    dropped: int
    lengths: Int64
    settled: Int64

    def __repr__(self) -> str:
        right = f", {percent(self.evaluation.accuracy())} right" if self.evaluation.topk else ""
        each = self.events / max(len(self.lengths), 1)
        return one_line(f"EventEvaluation({len(self.lengths):,} recordings, {each:,.0f} events each{right})")

    @property
    def first_right_us(self) -> dict[str, float]:
        """Microseconds from the first event until the answer is the label for the first time: mean, p99, max; empty
        without labels."""
        return {name: steps * self.bin_us for name, steps in self.evaluation.first_right.items()}

    @property
    def after_last(self) -> Int64:
        """Steps from a recording's last event until nothing changes any more: int64 [N]."""
        return self.settled - self.lengths

    def reaches(self, share: float) -> float | None:
        """Microseconds from the first event after which the accuracy is for the first time `share` of that in the end;
        None without labels."""
        found = next((entry for entry in self.evaluation.topk if entry.k == 1), None)
        if found is None:
            return None
        steps = np.flatnonzero(found.extended(self.evaluation.length) >= share * found.correct)
        return (int(steps[0]) + 1) * self.bin_us if len(steps) else None

    def report(self) -> tuple[Table | str, ...]:
        """Events, accuracy and latency; then accuracy over time."""
        return Table.facts("Evaluation on events", self._facts()), self._over_time()

    def _facts(self) -> dict[str, str]:
        recordings = max(len(self.lengths), 1)
        rows = {
            "recordings": f"{len(self.lengths):,}",
            "time bin": f"{self.bin_us:g} us",
            "events per recording": f"{self.events / recordings:,.1f}",
            "entered late": f"{percent(self.late / max(self.events, 1))} of the events, behind another of their pixel",
            "not entered": f"{self.dropped:,} events, beyond what the input counts",
            "first to last event": f"{ms(self.lengths.mean() * self.bin_us if len(self.lengths) else 0)} on average",
        }
        if self.first_right_us:
            found = self.first_right_us
            rows["first right"] = (
                f"{ms(found['mean'])} after the first event on average, 99 % by {ms(found['p99'])}; never: "
                f"{self.evaluation.never_right:,}"
            )
            shares = ", ".join(f"{share:.0%} of it after {ms(self.reaches(share) or 0)}" for share in SHARES[:-1])
            rows["accuracy"] = f"{percent(self.evaluation.accuracy())}; {shares}"
        if len(self.lengths):
            after = self.after_last
            rows["settled"] = f"{after.mean():.1f} steps after the last event on average, {after.max()} at most"
        counted = facts(self.evaluation)
        return rows | {name: counted[name] for name in counted if name.endswith("per image")}

    def _over_time(self) -> Table:
        rows, recordings = curve_rows(self.evaluation), max(len(self.lengths), 1)
        entered = np.cumsum(self.evaluation.activity[self._input].per_step) / max(self.events, 1)
        chosen = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), LINES)).round().astype(int))
        top = [f"top{entry.k}" for entry in self.evaluation.topk if entry.k == 1]
        columns = (
            Column("ms", lambda value: f"{value:,.1f}"), Column("events entered", percent),
            *(Column("accuracy", percent) for _ in top), Column("settled", percent),
        )  # fmt: skip
        cells = []
        for row, share in ((rows[at], entered[min(at, len(entered) - 1)]) for at in chosen):
            cells.append((row["steps"] * self.bin_us / 1000, share, *map(row.get, top), row["settled"] / recordings))
        return Table("Over time, from the first event", columns, tuple(cells))

    @property
    def _input(self) -> str:
        network = self.evaluation.network
        assert isinstance(network, SpikingGraph)
        return network.input.name

    def plot_accuracy(self, ax: Axes | None = None) -> Axes:
        """Accuracy over time from the first event. Raises InputError without labels."""
        found = next((entry for entry in self.evaluation.topk if entry.k == 1), None)
        if found is None:
            raise InputError("accuracy needs labels. Give one class number a recording")
        ax = axes(ax)
        curve = 100 * found.extended(self.evaluation.length) / max(len(self.lengths), 1)
        times = (np.arange(self.evaluation.length) + 1) * self.bin_us / 1000
        ax.plot(times, curve, color=POSITIVE, drawstyle="steps-post")
        ax.set(
            xlabel="ms from the first event",
            ylabel="accuracy, %",
            ylim=(0, 102),
            title=f"{len(self.lengths):,} recordings",
        )
        return ax

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `json.dumps`. Keys are listed in docs/events.md; "evaluation" is as in docs/evaluate.md."""
        after = self.after_last
        return {
            "recordings": len(self.lengths),
            "bin_us": self.bin_us,
            "events": self.events,
            "late": self.late,
            "dropped": self.dropped,
            "event_steps": {"mean": float(self.lengths.mean()), "max": int(self.lengths.max())} if len(after) else None,
            "accuracy": self.evaluation.accuracy() if self.evaluation.topk else None,
            "first_right_us": self.first_right_us or None,
            "never_right": self.evaluation.never_right,
            "accuracy_reached_us": {f"{share:g}": self.reaches(share) for share in SHARES},
            "settled_after_last_event": {"mean": float(after.mean()), "max": int(after.max())} if len(after) else None,
            "evaluation": self.evaluation.to_dict(),
        }


def ms(microseconds: float) -> str:
    """Microseconds in words."""
    return f"{microseconds / 1000:,.1f} ms"


def evaluate_events(
    network: Network | str | Path,
    events: Any,
    labels: Any = None,
    *,
    bin_us: float = BIN_US,
    engine: str = "cpu",
    threads: int | None = None,
    batch: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> EventEvaluation:
    """Classify recordings of an event camera from their events, each of which is one spike in its own time bin.

    Args:
        network: What `convert` or `read` gives, trained on event frames, or an exported file of it.
        events: What `load_data` gives of a data set of events, with its labels; or `Events`, a list of them, or
            `SpikeTrains`.
        labels: int [N]; None leaves accuracy out.
        bin_us: Microseconds of a time step.
        engine: "cpu", "gpu", or "reference".
        threads: Processor cores; default: all.
        batch: Recordings at a time; it never changes a result.
        progress: Called with (recordings done, recordings in all).

    Returns:
        Accuracy over time, latency from the first event, events, spikes and synaptic operations.

    Raises:
        InputError: the network does not count events or is no classifier, or events or labels do not fit.

    Example:
        >>> import fastsnn_deploy as fd, torch
        >>> q = fd.prepare(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(8, 3)), input_shape=(2, 2, 2),
        ...                input_step=1.0, input_levels=(0, 15))
        >>> events = fd.Events(t=[0, 500, 5200], x=[1, 1, 0], y=[0, 0, 1], p=[1, 1, 0])
        >>> found = fd.evaluate_events(fd.convert(q), events)
        >>> found.events, found.lengths.tolist(), found.after_last.tolist()
        (3, [6], [1])
    """
    graph = as_network(network)
    if not isinstance(graph, SpikingGraph):
        raise InputError(NO_EVENTS)
    reader, own = spikes_of(graph, events, bin_us)
    known = _labels(graph, own if labels is None else labels, len(reader))
    require_progress(progress)
    size = None if batch is None else whole_number("batch", batch, 1)
    threads = None if threads is None else whole_number("threads", threads, 1)
    opened = open_engine(graph, engine, threads)
    size, topk = size or opened.batch_size, () if known is None else (1,)
    total, none = nothing(graph, topk), np.zeros(0, dtype=np.int64)
    parts: list[tuple[Int64, ...]] = [(none,) * 4]
    for start in range(0, len(reader), size):
        part = slice(start, start + size)
        trains = reader[part]
        run = opened.run(graph.encode(trains))
        total += evaluation_of(graph, run, None if known is None else known[part], topk)
        parts.append((trains.late, trains.dropped, trains.lengths, run.settle_steps))
        bin_us = trains.bin_us
        if progress is not None:
            progress(min(start + size, len(reader)), len(reader))
    late, dropped, lengths, settled = (np.concatenate(column) for column in zip(*parts, strict=True))
    entered = total.activity[graph.input.name].positive
    return EventEvaluation(total, bin_us, entered, int(late.sum()), int(dropped.sum()), lengths, settled)


def spikes_of(graph: SpikingGraph, events: Any, bin_us: float) -> tuple[SpikeTrains | SpikeReader, Any]:
    """(what a slice takes spikes from, labels or None) of anything that holds events. Raises InputError."""
    if hasattr(events, "spikes") and hasattr(events, "suited"):  # a data set
        suited = events.suited(graph.metadata)
        return suited.spikes(graph.input, bin_us), suited.labels.numpy()
    if isinstance(events, (SpikeTrains, SpikeReader)):
        return events, None
    if isinstance(events, Events) or (isinstance(events, Sequence) and not isinstance(events, (str, bytes))):
        return spike_trains(events, graph.input, bin_us), None
    raise wrong_type("the events", events, "what load_data gives of a data set of events, Events, or SpikeTrains")


def _labels(graph: SpikingGraph, labels: Any, recordings: int) -> Int64 | None:
    shape = graph[graph.outputs[0]].shape
    if len(graph.outputs) != 1 or len(shape) != 1:
        raise InputError(f"the network's output has shape {list(shape)}: accuracy is for one output of shape [classes]")
    return known_labels(graph, labels, recordings)
