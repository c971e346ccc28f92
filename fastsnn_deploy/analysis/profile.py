"""Profile a network: run it once on a chip's worth of questions, and count, time and price what happened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.analysis.baseline import INTEGER, baselines
from fastsnn_deploy.analysis.count import Ledger, counted
from fastsnn_deploy.analysis.energy import Placed, Traffic, estimate
from fastsnn_deploy.analysis.evaluate import evaluation_of, known_labels
from fastsnn_deploy.analysis.evaluation import Evaluation
from fastsnn_deploy.analysis.hardware import Hardware, load_hardware
from fastsnn_deploy.analysis.kinds import kind_of
from fastsnn_deploy.analysis.mapping.result import Mapping as CoreMapping
from fastsnn_deploy.analysis.mapping.run import mapping_for
from fastsnn_deploy.analysis.mapping.time import Timing, load_of, timing_of
from fastsnn_deploy.analysis.membranes import MOST_IMAGES, membrane_updates
from fastsnn_deploy.analysis.neurobench import neurobench_of
from fastsnn_deploy.analysis.result import Profile
from fastsnn_deploy.analysis.structure import Network, layers_of
from fastsnn_deploy.errors import InputError, known_name, real_number, require_progress, whole_number
from fastsnn_deploy.graph import Encoded, SpikeTrains
from fastsnn_deploy.graph.images import sliceable
from fastsnn_deploy.graph.spike_trains import Emitted
from fastsnn_deploy.simulators import ABOUT, ENGINES, open_engine
from fastsnn_deploy.simulators.engine import Activity, activity_of

Int64 = npt.NDArray[np.int64]


def profile(
    network: Network,
    images: Any,
    hardware: Hardware | str,
    *,
    labels: Any = None,
    mapping: CoreMapping | str | Path | None = None,
    steps: int | None = None,
    engine: str = "cpu",
    batch: int | None = None,
    step_time_us: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Profile:
    """Run a network on images and count, time and price what happens.

    network: a spiking graph or a stock network. images: raw, or Encoded by the network's `encode`, at least one.
    hardware: a profile, its name, or a path. labels: int [N], for accuracy and the time to the first right answer;
    only classifiers have a use for them. mapping: the network on the cores of the same chip, or a file of it; default:
    as few cores as possible. steps: run every image for exactly this many steps and count them all; default: until each
    image has settled, which a stock network with leaky neurons never does. engine: what runs a graph. batch: images at
    a time; it never changes a result. step_time_us: as measured, instead of the least time. progress: called with
    (images done, images in all) after each batch.
    Raises InputError for no image, a wrong shape, numbers below 1, and where the network needs a number of steps.
    """
    hardware = hardware if isinstance(hardware, Hardware) else load_hardware(hardware)
    hardware.require_prices()
    known_name("engine", engine, ABOUT.keys() | ENGINES.keys())
    require_progress(progress)
    images = sliceable(images, len(network.input.shape), events=True)
    known = known_labels(network, labels, len(images))
    if len(images) < 1:
        raise InputError("there is no image; a profile needs at least one")
    batch = None if batch is None else whole_number("batch", batch, 1)
    steps = None if steps is None else whole_number("steps", steps, 1)
    step_time_us = None if step_time_us is None else real_number("step_time_us", step_time_us)
    placed, unplaced = _placed(network, hardware, mapping)
    session = _Session(network, engine, steps, placed if not unplaced else None)
    size = batch or session.engine.batch_size
    encode = kind_of(network).encode
    for start in range(0, len(images), size):
        part = slice(start, start + size)
        session.add(encode(network, images[part]), None if known is None else known[part])
        if progress is not None:
            progress(min(start + size, len(images)), len(images))
    return session.profile(hardware, placed, unplaced, step_time_us, encode(network, images[:MOST_IMAGES]))


class _Session:
    """Batches of one profile. mapping: one that fits."""

    def __init__(self, network: Network, engine: str, steps: int | None, mapping: CoreMapping | None) -> None:
        self.network, self.fixed, self.mapping = network, steps, mapping
        self.engine = open_engine(network, engine)
        self.without = kind_of(network).conventional(network)
        self.evaluations: list[Evaluation] = []
        self.steps: list[Int64] = []
        layers = layers_of(network)
        self.ledger = Ledger(layers, _far(mapping) if mapping else {}, self.without.net)
        lags = {lag for layer in layers for each in layer.incoming for _, lag in each.sources}
        self.late: dict[int, list[Mapping[str, Activity]]] = {lag: [] for lag in (lags if steps is not None else ())}

    def add(self, emitted: Encoded | SpikeTrains, labels: Int64 | None) -> None:
        """Run a batch. What had been sent some steps before the end of a run of fixed length, a shorter one says."""
        values = emitted if isinstance(emitted, SpikeTrains) else np.asarray(emitted)
        tallies = self.ledger.tallies
        run = self.engine.run(values, self.fixed, (), tallies)
        topk = () if labels is None else (1, 5)
        evaluation = evaluation_of(self.network, run, labels, topk, None if self.fixed is None else run.steps)
        self.evaluations.append(evaluation)
        self.steps.append(run.settle_steps if self.fixed is None else np.full(len(values), run.steps))
        for lag, parts in self.late.items():
            parts.append(self._until(values, run.steps - lag))
        self.without.add(emitted, run if evaluation.exact else None)

    def _until(self, values: Emitted, steps: int) -> Mapping[str, Activity]:
        if steps > 0:
            return self.engine.run(values, steps, (), self.ledger.tallies).activity
        sources = [layer for layer in layers_of(self.network) if layer.sends]
        silent = {layer.name: np.zeros((0, len(values), *layer.shape), dtype=np.int32) for layer in sources}
        return {name: activity_of(series, name, self.ledger.tallies) for name, series in silent.items()}

    def profile(
        self, hardware: Hardware, found: CoreMapping | None, unplaced: str, step_time_us: float | None,
        emitted: Encoded,
    ) -> Profile:  # fmt: skip
        """What all batches together give."""
        total = reduce(add, self.evaluations)
        late = {
            lag: {name: reduce(add, (part[name] for part in parts)) for name in parts[0]}
            for lag, parts in self.late.items()
        }

        def sent(name: str, before: int) -> Activity:
            return late[before][name] if before in late else total.activity[name]

        steps = np.concatenate(self.steps)
        counts = counted(total.layers, steps, sent, self.ledger)
        ann = self.without.counts()
        rivals = baselines(ann) if ann else ()
        timing, placed = self._timed(total)
        updates = membrane_updates(self.engine, emitted, int(steps.max()), self.fixed is not None)
        eight = next((rival for rival in rivals if rival.name == "int8"), None)
        return Profile(
            hardware=hardware,
            counts=counts,
            ann=ann,
            evaluation=total,
            mapping=found,
            unplaced=unplaced,
            timing=timing,
            energy=estimate(
                counts, hardware, placed=placed, unplaced=unplaced, step_time_us=step_time_us, rival=eight
            ),
            arithmetic=estimate(counts, load_hardware(INTEGER), unplaced="arithmetic has no chip"),
            ann_energy=rivals,
            neurobench=neurobench_of(counts, *updates),
        )  # fmt: skip

    def _timed(self, total: Evaluation) -> tuple[Timing | None, Placed | None]:
        mapping = self.mapping
        if mapping is None:
            return None, None
        sent = {name: activity.spikes.reshape(-1) for name, activity in total.activity.items()}
        load = load_of(mapping, total, sent)
        timing = timing_of(mapping, total, load) if load.image_ns(mapping.hardware.numbers("value")) else None
        columns = {
            key: {name: self._column(total, name, key) for name, rows in self.ledger.rows.items() if (key, 0) in rows}
            for key in ("messages", "hops")
        }
        return timing, Placed(mapping, load, Traffic(columns["messages"], columns["hops"]), total.latency)

    def _column(self, total: Evaluation, name: str, key: str) -> Int64:
        column = self.ledger.of(name, total.activity[name], key)
        assert column is not None
        return column


def _placed(
    network: Network, hardware: Hardware, mapping: CoreMapping | str | Path | None
) -> tuple[CoreMapping | None, str]:
    """The network on the chip, and why it cannot be used; empty if it can."""
    if hardware.chip is None:
        if mapping is not None:
            raise InputError(f"hardware profile '{hardware.name}' has no limits of a chip, so no mapping fits it")
        return None, f"the profile '{hardware.name}' has no limits of a chip"
    found = mapping_for(network, hardware, mapping)
    first, others = next(iter(found.violations), None), len(found.violations) - 1
    more = f" and {others} more violation{'s' if others > 1 else ''}" if others > 0 else ""
    return found, "" if first is None else f"the network does not fit ({first}{more}; see `map`)"


def _far(mapping: CoreMapping) -> Mapping[str, Mapping[str, Int64]]:
    """How many cores a spike of each neuron goes to, and how many links it crosses."""
    far = {layer.name: layer.travel for layer in mapping.layers}
    return {
        "messages": {name: each.destinations.astype(np.int64) for name, each in far.items()},
        "hops": {name: each.crossed.astype(np.int64) for name, each in far.items()},
    }
