"""`export_sanafe`: a network on its cores, and the spikes of a run, as files of SANA-FE."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastsnn_deploy.analysis.hardware import Hardware, load_hardware
from fastsnn_deploy.analysis.kinds import kind_of
from fastsnn_deploy.analysis.mapping.result import Mapping as CoreMapping
from fastsnn_deploy.analysis.mapping.run import mapping_for
from fastsnn_deploy.analysis.sanafe.architecture import Prices, architecture, prices_of
from fastsnn_deploy.analysis.sanafe.layout import Place, Sent, places_of, sent_by
from fastsnn_deploy.analysis.sanafe.links import Links, links_of
from fastsnn_deploy.analysis.sanafe.network import group_names, network_text
from fastsnn_deploy.analysis.sanafe.result import FOLDER, LayerTotals, SanafeExport
from fastsnn_deploy.analysis.sanafe.trains import Trains, trains_of
from fastsnn_deploy.analysis.structure import layers_of
from fastsnn_deploy.errors import InputError, Problem
from fastsnn_deploy.files import own_files
from fastsnn_deploy.folders import planned_folder, write_folder
from fastsnn_deploy.graph.images import images_and_labels, sliceable

if TYPE_CHECKING:
    from fastsnn_deploy.formats.base import Network

MOST_SYNAPSES = 5_000_000
"""SANA-FE keeps about a kilobyte for each."""


def export_sanafe(
    network: Network | str | Path,
    images: Any,
    path: str | Path,
    hardware: Hardware | str = "loihi2",
    *,
    mapping: CoreMapping | str | Path | None = None,
) -> SanafeExport:
    """Write a network on the cores of a chip, with the spikes of a run, for the simulator SANA-FE.

    A folder with `arch.yaml` (mesh, cores and constants of the profile), `network.yaml` (neurons, every synapse, and
    the core of each neuron) and `expected.json` (what SANA-FE has to count). SANA-FE's neurons send spikes of 1 only
    and have no ceiling, so signed, graded and pooling neurons replay the spikes of this program's own run; stock LIF
    neurons of the target `stock-lif` are given their weights and find them themselves. SANA-FE is a program under the
    GPL that the reader runs; nothing here needs it.

    Args:
        network: What `convert` or `read` gives, or a file; of stock networks those that forget (`stock-lif`).
        images: Raw, or Encoded by `network.encode`; a batch or one, run one after the other.
        path: Folder to write: new, empty, or one of these to be replaced.
        hardware: A hardware profile with energies and limits of a chip, its name, or the path of a .yaml file.
        mapping: What `map_cores` gave for this network and chip, or a file of it; default: the fewest cores.

    Returns:
        What was written, and what SANA-FE has to find: steps, spikes, synaptic operations, messages, hops, energy.

    Raises:
        InputError: what SANA-FE cannot hold, by name: a network that does not fit on the chip, neurons with memory,
            synapses of one layer at several prices, more than five million synapses; images that the network cannot
            take; a folder that holds something else.

    Example:
        >>> import numpy as np
        >>> import fastsnn_deploy as fd
        >>> network = fd.read("model.net")
        >>> images = np.random.default_rng(0).random((2, *network.input.shape))
        >>> made = fd.export_sanafe(network, images, "sanafe")
        >>> made.computed, made.total("messages") > made.total("spikes")
        ((), True)
    """
    from fastsnn_deploy.formats import as_network

    chosen = hardware if isinstance(hardware, Hardware) else load_hardware(hardware)
    chosen.require_prices()
    found = as_network(network)
    placed = _fitting(found, chosen, mapping)
    with own_files():  # a command has planned the folder itself
        folder = planned_folder(path, FOLDER)
    prices = prices_of(placed)
    synapses = sum(each.synapses for layer in layers_of(found) for each in layer.incoming)
    if synapses > MOST_SYNAPSES:
        raise InputError(
            f"the network has {synapses:,} synapses, and SANA-FE keeps each as an object of about a kilobyte. Take one "
            f"with at most {MOST_SYNAPSES:,}"
        )
    batch = sliceable(images_and_labels(found, images)[0], len(found.input.shape))
    if not len(batch):
        raise InputError("there is no image to run. Give at least one")
    trains = trains_of(found, kind_of(found).encode(found, batch[:]))
    places, links = places_of(placed), tuple(links_of(found, placed.sites))
    groups = group_names(places)
    sent = sent_by(places, links, chosen.limits.mesh.rows)
    totals = tuple(
        _totals(name, groups[name], place, links, trains, sent, prices[name]) for name, place in places.items()
    )
    made = SanafeExport(
        folder, chosen.name, len(batch), trains.steps, placed.cores, synapses, tuple(trains.computed), totals
    )
    contents = {
        "arch.yaml": architecture(placed, places, prices, trains.computed),
        "network.yaml": network_text(found, places, links, trains, groups),
        "expected.json": json.dumps(made.to_dict(), indent=1) + "\n",
    }
    write_folder(folder, contents, FOLDER)
    return made


def _fitting(network: Network, hardware: Hardware, mapping: CoreMapping | str | Path | None) -> CoreMapping:
    found = mapping_for(network, hardware, mapping)
    if not found.fits:
        problems = [Problem(each.layer, each.what) for each in found.violations]
        raise InputError(f"the network does not fit on '{hardware.name}'; see `map` for what would help", problems)
    return found


def _totals(
    name: str, group: str, place: Place, links: tuple[Links, ...], trains: Trains, sent: Mapping[str, Sent],
    prices: Prices,
) -> LayerTotals:  # fmt: skip
    """What SANA-FE has to find for one layer."""
    spikes = _spikes(trains, name, len(place.tile))
    operations = sum(
        int(_spikes(trains, each.before, len(sent[each.before].messages))[each.source].sum())
        for each in links
        if each.after == name
    )
    fired, messages, hops = int(spikes.sum()), int(spikes @ sent[name].messages), int(spikes @ sent[name].hops)
    return LayerTotals(
        layer=name,
        group=group,
        neurons=len(spikes),
        spikes=fired,
        synaptic_operations=operations,
        messages=messages,
        hops=hops,
        synapse_pj=operations * prices.synapse,
        soma_pj=len(spikes) * trains.steps * prices.access + fired * prices.spike,
        network_pj=messages * prices.message + hops * prices.hop,
    )


def _spikes(trains: Trains, name: str, neurons: int) -> Any:
    """Spikes of each neuron in all, int64 [neurons]."""
    if name not in trains.sent:
        return np.zeros(neurons, dtype=np.int64)
    return trains.sent[name].sum(0, dtype=np.int64)
