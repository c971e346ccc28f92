"""The proof: the spiking network settles to the integer network, and a backend does what the reference does."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.analysis.differences import Differences, compare_runs, compare_settled, settling
from fastsnn_deploy.backends import lava
from fastsnn_deploy.errors import InputError, Problem, known_name, real_number, require_progress, whole_number
from fastsnn_deploy.formats import netx
from fastsnn_deploy.graph import Encoded, Input, MaxPool2d, Population, Readout, SpikeTrains, SpikingGraph
from fastsnn_deploy.graph.images import sliceable
from fastsnn_deploy.graph.integer_network import integer_values, logits
from fastsnn_deploy.simulators import Engine, open_engine
from fastsnn_deploy.simulators.engine import Tallies
from fastsnn_deploy.simulators.recorded import recorded_run
from fastsnn_deploy.simulators.reference import simulate
from fastsnn_deploy.tables import Result, Table, one_line, percent

Backend = Literal["reference", "cpu", "gpu", "lava"]
Models = Literal["fast", "stock"]
Progress = Callable[[int, int], None]

AT_ONCE = 2**26
"""Counts of all layers that an engine keeps at a time."""


@dataclass(frozen=True)
class Agreement:
    """How far two forms of a network answer alike. what: the things that are compared, in the plural; how: by what."""

    what: str
    compared: int
    differing: int
    how: str = ""


@dataclass(frozen=True, eq=False)
class Verification(Result):
    """settled: integer network against settled spiking network. backend: reference against backend, step by step.

    outputs: float64 [N, *output shape], answer of the integer network, in real units; settle_steps: int64 [N]. scope:
    what of the network the backend lets one see. rounded: images whose largest output a target's coarser integers
    changed. quantised: the integer network's answers against the quantised model's, in what the task counts. figures:
    how good both are, by name. data: name of the images. None, {} and "" where they are not known.
    unsettled: of a network that stops after its window, integer network against its counts then, which may differ and
    is no part of the proof; `settled` is empty then.
    """

    images: int
    settled: Differences
    backend: Mapping[str, Differences] = field(default_factory=dict)
    outputs: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 1)))
    settle_steps: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    scope: str = "every neuron"
    rounded: int = 0
    quantised: Agreement | None = None
    figures: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    data: str = ""
    unsettled: Differences | None = None
    stepped: int | None = None

    def __repr__(self) -> str:
        verdict = "exact" if self.exact else f"NOT EXACT, {self.total.differing:,} differ"
        backends = f" on {', '.join(self.backend)}" if self.backend else ""
        return one_line(f"Verification({verdict}, {self.total.compared:,} integers, {self.images} images{backends})")

    @property
    def predictions(self) -> npt.NDArray[np.int64]:
        """Class of the integer network, int64 [N]; of a map, the place of its largest value."""
        return np.asarray(self.outputs.reshape(len(self.outputs), -1).argmax(1), dtype=np.int64)

    @property
    def total(self) -> Differences:
        """Both comparisons together."""
        return sum(self.backend.values(), self.settled)

    @property
    def exact(self) -> bool:
        """True if nothing differs."""
        return self.total.exact

    def report(self) -> tuple[Table | str, ...]:
        """What was compared, the verdict of each comparison, accuracies, and the verdict in the last line."""
        images = f"{self.images} images" + (f" ({self.data})" if self.data else "")
        rows = {}
        if self.unsettled is None:
            rows[f"integer network against settled spiking network, {images}"] = str(self.settled)
        for name, comparison in self.backend.items():
            first = "" if self.stepped is None else f" of the first {self.stepped}"
            rows[f"reference against {name}, {self.scope} at every step{first}"] = str(comparison)
        lines = [f"{heading}:\n  {verdict}" for heading, verdict in rows.items()]
        return *lines, *self._lines(), str(self.total)

    def _lines(self) -> list[str]:
        """Latency, accuracy and differing predictions."""
        plain = self.to_dict()
        lines = []
        if self.unsettled is not None and self.unsettled.compared:
            wrong, counts = self.unsettled.differing, self.unsettled.compared
            share = percent(wrong / max(counts, 1))
            lines.append(f"stopped after the window: {wrong:,} of {counts:,} counts ({share}) are not yet right")
        if self.images:
            steps = plain["settle_steps"]
            lines.append(f"settled after {steps['mean']:.1f} steps on average, {steps['max']} at most")
        metrics = next(iter(self.figures.values()), {})
        for metric in metrics:
            both = ", ".join(f"{name} {percent(figures[metric])}" for name, figures in self.figures.items())
            lines.append(f"{metric}: {both}")
        if (found := self.quantised) is not None:
            how = f" ({found.how})" if found.how else ""
            lines.append(
                f"{found.differing:,} of {found.compared:,} {found.what} differ from the quantised model's{how}"
            )
        if self.scope != "every neuron":
            lines.append(f"rounding to the target's ranges changed {self.rounded} of {self.images} predictions")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """The verification as plain values; figures only where labels and the quantised model are known."""
        steps = self.settle_steps
        plain: dict[str, Any] = {
            "exact": self.exact,
            "integers_compared": self.total.compared,
            "integers_differing": self.total.differing,
            "images": self.images,
            "data": self.data,
            "settled": self.settled.to_dict(),
            "unsettled": None if self.unsettled is None else self.unsettled.to_dict(),
            **{name: comparison.to_dict() for name, comparison in self.backend.items()},
            "settle_steps": {"mean": float(steps.mean()), "max": int(steps.max())} if self.images else None,
            "predictions_changed_by_rounding": self.rounded,
        }
        if self.quantised is not None:
            plain[f"{self.quantised.what}_differing_from_quantised"] = self.quantised.differing
            plain[f"{self.quantised.what}_compared"] = self.quantised.compared
        for form, figures in self.figures.items():
            plain |= {f"{form.split()[0]}_{metric}": value for metric, value in figures.items()}
        return plain

    def joined(self, later: Verification) -> Verification:
        """This verification and that of the images after it."""
        mine, theirs, none = self.backend, later.backend, Differences()
        return Verification(
            images=self.images + later.images,
            settled=self.settled + later.settled.shifted(self.images),
            backend={
                name: mine.get(name, none) + theirs.get(name, none).shifted(self.images)
                for name in sorted(mine.keys() | theirs.keys())
            },
            outputs=np.concatenate([self.outputs, later.outputs]) if self.images else later.outputs,
            settle_steps=np.concatenate([self.settle_steps, later.settle_steps]),
            scope=later.scope,
            rounded=self.rounded + later.rounded,
            unsettled=_joined(self.unsettled, later.unsettled, self.images),
            stepped=later.stepped if self.stepped is None else self.stepped,
        )


def _joined(mine: Differences | None, theirs: Differences | None, images: int) -> Differences | None:
    return mine if theirs is None else (mine or Differences()) + theirs.shifted(images)


def verify(
    graph: SpikingGraph,
    images: Any,
    *,
    truth: SpikingGraph | None = None,
    backend: Backend = "reference",
    net: str | Path | None = None,
    batch: int = 100,
    models: Models = "fast",
    timeout: float = 600.0,
    progress: Progress | None = None,
) -> Verification:
    """Compare every neuron of every layer on raw images [N, *input shape], or SpikeTrains.

    truth: the graph whose integer network is the right answer, if it is not `graph` itself (a file against the
    network it was made from). Raises InputError if the two have different layers.
    backend: what spikes. "reference": the definition. "cpu", "gpu": that engine, for many images; of the first one also
    every neuron at every step is compared with the reference. "lava": run all images of a batch in one Lava run of the
    exported file `net` (a temporary export if None) and compare every neuron at every step with the reference. models:
    the Lava process models of the convolution. timeout: seconds for one Lava run.
    SpikeTrains are compared with the integer network of their frames, and the reference, step by step, with the engine
    "cpu" besides. A network that stops after its window need not reach the integer network: there the reference is
    compared, every neuron at every step, with the engine "cpu" or with Lava, and the counts that are not yet right are
    only reported.
    """
    require_options(images, backend, batch, models, timeout, progress)
    truth = truth or graph
    _require_same_layers(truth, graph)
    images = sliceable(images, len(graph.input.shape), events=True)
    total = Verification(0, Differences())
    stopped = graph.schedule.stop == "window"
    engine = open_engine(graph, backend) if backend in ("cpu", "gpu") and not stopped else None
    if engine is not None:
        batch = max(1, min(batch, AT_ONCE // sum(node.size for node in graph.nodes)))
    with tempfile.TemporaryDirectory(prefix="fastsnn-deploy-") as folder:
        if backend == "lava" and net is None:
            net = Path(folder) / "model.net"
            netx.write(graph, net)
        for start in range(0, len(images), batch):
            chunk = images[start : start + batch]
            emitted = graph.encode(chunk)
            if engine is not None:
                part = _verify_settled(engine, truth, truth.encode(chunk), emitted, first=not start)
            else:
                values = integer_values(truth, truth.encode(chunk))
                part = _verify_batch(graph, values, emitted, backend, net, models, timeout)
            total = total.joined(part)
            if progress is not None:
                progress(total.images, len(images))
    return total


def require_options(
    images: Any, backend: Backend, batch: int, models: Models, timeout: float, progress: Progress | None
) -> None:
    """Raise InputError for options of a proof that cannot be used, and for a proof of nothing."""
    known_name("backend", backend, get_args(Backend))
    known_name("models", models, get_args(Models))
    whole_number("batch", batch, 1)
    real_number("timeout", timeout)
    require_progress(progress)
    if getattr(images, "ndim", 1) != 0 and hasattr(images, "__len__") and not len(images):
        raise InputError("there is no image; a proof needs at least one")


def _verify_batch(
    graph: SpikingGraph,
    values: Mapping[str, npt.NDArray[np.int64]],
    emitted: Encoded | SpikeTrains,
    backend: Backend,
    net: str | Path | None,
    models: Models,
    timeout: float,
) -> Verification:
    run = simulate(graph, emitted)
    settled = compare_settled(graph, values, run.final)
    stopped = graph.schedule.stop == "window"
    outputs = logits(graph, values)
    backends: dict[str, Differences] = {}
    if backend == "lava":
        assert net is not None
        steps = int(run.settle_steps.max(initial=0)) + 1  # one silent step shows that it stays settled
        expected = simulate(graph, emitted, steps)
        found = lava.run(net, emitted, steps, models=models, timeout=timeout)
        backends["lava"] = compare_runs(graph, expected, found)
    if isinstance(emitted, SpikeTrains) or (stopped and backend != "lava"):
        found = recorded_run(open_engine(graph, "cpu"), emitted, max(run.steps, 1))
        backends["engine cpu"] = compare_runs(graph, run, found)
    proof, unsettled = (Differences(), settled) if stopped else (settled, None)
    if graph.schedule.gain != 1:  # counts of another window mean something else
        unsettled = Differences()
    return Verification(len(emitted), proof, backends, outputs, run.settle_steps, unsettled=unsettled)


def _verify_settled(
    engine: Engine, truth: SpikingGraph, wanted: Encoded | SpikeTrains, emitted: Encoded | SpikeTrains, first: bool
) -> Verification:
    """The settled counts of an engine; of the first image by the definitions, too. wanted: what `truth` emits."""
    from fastsnn_deploy.simulators.integer import layer_values

    graph = engine.graph
    nodes = settling(graph)
    nothing = {name: np.zeros((0, size), dtype=np.int64) for name, size in _sources(graph).items()}
    run = engine.run(emitted, None, (), Tallies(nothing, tuple(nothing)))
    frames = wanted.total() if isinstance(wanted, SpikeTrains) else wanted
    values = layer_values(truth, frames, [node.name for node in nodes])

    def reached(name: str) -> npt.NDArray[np.integer]:
        if isinstance(graph[name], Readout):
            return run.final(name) if run.steps else np.zeros_like(values[name])
        net = run.activity[name].net
        assert net is not None
        return net

    settled, backends = compare_settled(graph, values, reached), {}
    if first:
        alone = emitted[:1] if isinstance(emitted, SpikeTrains) else Encoded(emitted[:1])
        expected = simulate(graph, alone)
        settled += compare_settled(graph, integer_values(truth, Encoded(frames[:1])), expected.final)
        backends[f"engine {engine.name}"] = compare_runs(graph, expected, recorded_run(engine, alone, expected.steps))
    return Verification(len(emitted), settled, backends, logits(graph, values), run.settle_steps, stepped=1)


def _sources(graph: SpikingGraph) -> dict[str, int]:
    """Neurons of everything that sends spikes of its own."""
    return {node.name: node.size for node in graph.nodes if isinstance(node, (Input, Population, MaxPool2d))}


def _require_same_layers(truth: SpikingGraph, graph: SpikingGraph) -> None:
    ours, theirs = ({(type(n).__name__, n.name, n.shape) for n in g.nodes} for g in (truth, graph))
    problems = [
        Problem(f"{kind} '{name}' {shape}", "is only in the " + where)
        for where, only in (("network", ours - theirs), ("exported file", theirs - ours))
        for kind, name, shape in sorted(only, key=str)
    ]
    if problems:
        raise InputError("the exported file does not hold this network's layers", problems)
