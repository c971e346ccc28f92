"""The network file of SANA-FE: groups of neurons, every synapse, and the core of every neuron."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from fastsnn_deploy.analysis.mapping.grid import Int64
from fastsnn_deploy.analysis.sanafe.architecture import UNIT
from fastsnn_deploy.analysis.sanafe.layout import Place
from fastsnn_deploy.analysis.sanafe.links import Links
from fastsnn_deploy.analysis.sanafe.trains import Trains
from fastsnn_deploy.lava_dl import Lif, StockConv, StockDense, StockNetwork
from fastsnn_deploy.lava_dl.limits import THRESHOLD_MAX


def group_names(layers: Iterable[str]) -> dict[str, str]:
    """A name of letters, digits and _ for each layer: SANA-FE takes a point as the end of a group's name."""
    return {name: f"l{index}_{re.sub('[^A-Za-z0-9]', '_', name)}" for index, name in enumerate(layers)}


def network_text(
    network: object, places: Mapping[str, Place], links: Iterable[Links], trains: Trains, groups: Mapping[str, str]
) -> str:
    """The whole file."""
    lines = ["network:", "  name: network", "  groups:"]
    for name, group in groups.items():
        neurons = len(places[name].tile)
        lines += [f"    - name: {group}", "      attributes: {log_spikes: true}", "      neurons:"]
        if name in trains.computed:
            lines += _computed(network, name, trains, neurons)
        else:
            lines += _replayed(name, trains, neurons)
    lines.append("  edges:")
    for link in links:
        weight = link.weight if link.after in trains.computed else None
        if len(link.source):
            # SANA-FE's replaying neurons take no synaptic input but 0
            weights = np.zeros_like(link.source) if weight is None else weight
            lines += _edges(groups[link.before], groups[link.after], link.source, link.target, weights)
    lines.append("mappings:")
    for name, group in groups.items():
        lines += _mapped(group, places[name], name in trains.computed)
    return "\n".join(lines) + "\n"


def _replayed(name: str, trains: Trains, neurons: int) -> Iterator[str]:
    if name not in trains.sent:  # a readout
        yield f"        - 0..{neurons - 1}: {{log_spikes: true}}"
        return
    for neuron, train in enumerate(trains.sent[name].T):
        if train.any():
            spikes = ", ".join(map(str, train[: int(np.flatnonzero(train)[-1]) + 1].astype(int).tolist()))
            yield f"        - {neuron}: {{soma: {{spikes: [{spikes}]}}}}"
        else:
            yield f"        - {neuron}: {{log_spikes: true}}"


def _computed(network: object, name: str, trains: Trains, neurons: int) -> Iterator[str]:
    """Neurons without memory; an accumulator gets a threshold that it never reaches."""
    assert isinstance(network, StockNetwork)
    layer, neuron = network.layers[network.names.index(name)], trains.computed[name]
    assert isinstance(layer, (StockConv, StockDense))
    threshold = neuron.threshold if isinstance(neuron, Lif) else 2**30 + THRESHOLD_MAX
    bias = np.zeros(layer.shape[0], dtype=np.int64) if layer.bias is None else layer.bias
    each = neurons // layer.shape[0]
    for channel, value in enumerate(bias.tolist()):
        span = f"{channel * each}..{(channel + 1) * each - 1}"
        yield f"        - {span}: {{soma: {{threshold: {threshold}, bias: {value}, leak_decay: 0, reset_mode: hard}}}}"


def _edges(before: str, after: str, source: Int64, target: Int64, weight: Int64) -> Iterator[str]:
    pairs = ",".join(f"[{a},{b}]" for a, b in zip(source.tolist(), target.tolist(), strict=True))
    yield f"    - {before} -> {after}:"
    yield "        type: sparse"
    yield f"        source_target_pairs: [{pairs}]"
    yield f"        weight: [{','.join(map(str, weight.tolist()))}]"


def _mapped(group: str, place: Place, computed: bool) -> Iterator[str]:
    """A replaying neuron has a soma of its own, which holds its spikes; other units hold as many as they can."""
    held: dict[tuple[int, int], int] = {}
    for neuron, core in enumerate(zip(place.tile.tolist(), place.core.tolist(), strict=True)):
        number = held[core] = held.get(core, -1) + 1
        soma = number // UNIT if computed else number
        yield (
            f'  - {group}.{neuron}: {{core: {core[0]}.{core[1]}, soma: "soma[{soma}]", '
            f'dendrite: "dendrite[{number // UNIT}]"}}'
        )
