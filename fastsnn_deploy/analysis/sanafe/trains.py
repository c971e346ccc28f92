"""What each neuron sends in each step of a run: the stimulus of SANA-FE, and what it must find."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import singledispatch

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.analysis.structure import Network
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph import Encoded, SpikingGraph
from fastsnn_deploy.lava_dl import Lif, StockDense, StockNetwork
from fastsnn_deploy.lava_dl.presentation import present
from fastsnn_deploy.lava_dl.simulate import run
from fastsnn_deploy.simulators import open_engine
from fastsnn_deploy.simulators.recorded import recorded_run

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Trains:
    """sent: whether each neuron sends a spike, of any sign and payload, in each step, bool [T, neurons] by layer.
    computed: layers whose spikes SANA-FE finds itself from those that it receives, with their neurons; an accumulator
    has None. The others are replayed."""

    steps: int
    sent: Mapping[str, Bools]
    computed: Mapping[str, Lif | None]


@singledispatch
def trains_of(network: Network, emitted: Encoded) -> Trains:
    """Run images one after the other. emitted: `encode(images)`, int64 [N, *input shape]."""
    raise TypeError(f"{type(network).__name__} is no network")


@trains_of.register
def _of_graph(network: SpikingGraph, emitted: Encoded) -> Trains:
    """Each image takes the steps until it has settled, as in a profile. All spikes are replayed: SANA-FE's neurons send
    none of -1 and stop at no ceiling."""
    found = recorded_run(open_engine(network, "cpu"), emitted)
    sent = {
        name: np.concatenate(
            [spikes[:settled, image].reshape(settled, -1) != 0 for image, settled in enumerate(found.settle_steps)]
        )
        for name, spikes in found.spikes.items()
    }
    return Trains(int(found.settle_steps.sum()), sent, {})


@trains_of.register
def _of_stock(network: StockNetwork, emitted: Encoded) -> Trains:
    """An image a step, until the last has passed all layers. The input and the layer that reads its levels are
    replayed: SANA-FE's spikes carry none."""
    if not network.forgets:
        raise InputError(
            "the network has stock neurons with memory, whose rounding SANA-FE's neurons do not have. Export with "
            "--target stock-lif, or a spiking graph"
        )
    shown = present(network, np.asarray(emitted), stream=True)
    series = run(network, shown.frames, shown.steps).spikes
    sent = {}
    for index in sorted(network.senders):
        spikes = series[index]
        assert spikes is not None
        sent[network.names[index]] = spikes.reshape(shown.steps, -1) != 0
    computed: dict[str, Lif | None] = {}
    if all(getattr(layer, "delay", None) is None for layer in network.layers if isinstance(layer, StockDense)):
        for index in network.weighted[1:]:
            neuron = getattr(network.layers[index], "neuron", None)
            assert neuron is None or isinstance(neuron, Lif)
            computed[network.names[index]] = neuron
    return Trains(shown.steps, sent, computed)
