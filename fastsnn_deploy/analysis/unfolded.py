"""What the synapses of a layer stand for in the network they were made from.

Conversion folds an average pool into the linear layer behind it, holds what 8 bits cannot in a second synapse (`.fine`)
and moves channels by convolutions of one weight each. None of that is work of the network itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.analysis.counting import connections_of, fan_out, has_multipliers
from fastsnn_deploy.analysis.mapping.kinds.base import weight_bits
from fastsnn_deploy.graph import Conv2d, Flatten, Input, Linear, Node, Population, Readout, SpikingGraph, Synapse
from fastsnn_deploy.graph.ranges import STATE_BITS

Int64 = npt.NDArray[np.int64]
Pair = tuple[int, int]

FINE = re.compile(r"\.fine(\.\d+)?$")
"""End of the name of a synapse that holds the rest of another's weights."""

EVIDENCE = 16
"""Weights other than 0 that must repeat before a linear layer is taken for one behind a pool: fewer may by chance."""


@dataclass(frozen=True)
class Work:
    """One synapse: reads of `source` by fan-out, int64 of its shape. bits, weight_bits: of what it reads, and of a
    weight. pool: the windows of an average pool folded into a linear layer, on a map of the shape `fan` has."""

    name: str
    module: str
    source: str
    multiplies: bool
    fan: Int64
    padded: int
    parameters: int
    bits: int
    weight_bits: int
    pool: Pair | None = None

    def amounts(self, images: int, nonzero: Int64, windows: int) -> dict[str, int]:
        """Counts by key of `AnnLayerCounts`, over all images.

        nonzero: int64 of the source's shape, images in which each value is not 0. windows: of the pool that hold one,
        on all images.
        """
        if self.pool is None:
            kind, number = "macs" if self.multiplies else "additions", images * int(self.fan.sum())
            found = {
                kind: number,
                f"{kind}_with_padding": images * self.padded,
                f"{kind}_nonzero": int(nonzero.reshape(-1) @ self.fan.reshape(-1)),
            }
        else:
            outputs, added = int(self.fan.flat[0]), images * self.fan.size
            number = outputs * added // (self.pool[0] * self.pool[1])
            found = {
                "macs": number, "macs_with_padding": number, "macs_nonzero": outputs * windows,
                "additions": added, "additions_with_padding": added, "additions_nonzero": int(nonzero.sum()),
            }  # fmt: skip
        return found | {"mac_bits": self.bits * self.weight_bits * found.get("macs", 0)}

    def windows(self, values: Int64) -> int:
        """Windows of the pool that hold a value other than 0. values: int64 [N, *shape of the source]."""
        assert self.pool is not None
        channels, height, width = self.fan.shape
        rows, columns = self.pool
        maps = values.reshape(len(values), channels, height // rows, rows, width // columns, columns) != 0
        return int(maps.any((3, 5)).sum())


def works_of(graph: SpikingGraph, node: Node, macs: Mapping[str, int]) -> tuple[Work, ...]:
    """The work behind each synapse of a layer, parts of another synapse left out.

    macs: of an image by module, where they are known: they say how large the windows of a folded pool were.
    """
    synapses = [synapse for synapse in connections_of(graph, node) if isinstance(synapse, Synapse)]
    return tuple(
        _work(graph, synapse, macs.get(synapse.module)) for synapse in synapses if not _is_part(synapse, synapses)
    )


def _is_part(synapse: Synapse, beside: list[Synapse]) -> bool:
    """It ends in `.fine` and stands beside the synapse it completes."""
    return FINE.search(synapse.name) is not None and any(
        other.inputs == synapse.inputs and type(other) is type(synapse) and not FINE.search(other.name)
        for other in beside
    )


def _work(graph: SpikingGraph, synapse: Synapse, macs: int | None) -> Work:
    source = synapse.inputs[0]
    fan, padded = fan_out(graph, synapse), synapse.padded_fan_in(graph[source].shape)
    work = Work(
        synapse.name, synapse.module, source, has_multipliers(synapse), fan, padded, synapse.parameters,
        bits_of(graph, graph[source]), weight_bits(synapse.weight),
    )  # fmt: skip
    if isinstance(synapse, Linear) and (found := _folded(graph, synapse, macs)) is not None:
        shape, pool = found
        parameters = synapse.parameters // (pool[0] * pool[1])
        return replace(work, multiplies=True, fan=fan.reshape(shape), parameters=parameters, pool=pool)
    if isinstance(synapse, Conv2d) and _moves(synapse):
        return replace(work, multiplies=False, fan=np.zeros_like(fan), padded=0, parameters=0)
    return work


def bits_of(graph: SpikingGraph, node: Node) -> int:
    """Bits of a value that a node hands on."""
    if isinstance(node, Input):
        return int(np.max(node.high - node.low)).bit_length()
    if isinstance(node, Population):
        return int(node.ceiling - node.floor).bit_length()
    if isinstance(node, Readout):
        return STATE_BITS
    return max(bits_of(graph, graph[name]) for name in node.inputs)


def _folded(graph: SpikingGraph, synapse: Linear, macs: int | None) -> tuple[tuple[int, int, int], Pair] | None:
    """Shape of the map and windows of the pool behind which the layer stood; None if its weights do not repeat.

    macs: what the layer multiplied, if that is known.
    """
    flat = graph[synapse.inputs[0]]
    shape = graph[flat.inputs[0]].shape if isinstance(flat, Flatten) else ()
    if len(shape) != 3:
        return None
    weight = synapse.weight.reshape(-1, *shape)
    sizes = [(kh, kw) for kh in _divisors(shape[1]) for kw in _divisors(shape[2]) if kh * kw > 1]
    for kh, kw in sorted(sizes, key=lambda size: -size[0] * size[1]):
        if macs is not None and macs * kh * kw != synapse.weight.size:
            continue
        windows = weight.reshape(*weight.shape[:2], shape[1] // kh, kh, shape[2] // kw, kw)
        first = windows[:, :, :, :1, :, :1]
        repeated = np.count_nonzero(first) * (kh * kw - 1)
        if (macs is not None or repeated >= EVIDENCE) and (windows == first).all():
            return (shape[0], shape[1], shape[2]), (kh, kw)
    return None


def _divisors(size: int) -> list[int]:
    return [each for each in range(1, size + 1) if size % each == 0]


def _moves(conv: Conv2d) -> bool:
    """It brings channels to other places, as an option-A shortcut does: one tap that is not 0 for each output at most,
    of many inputs."""
    if conv.groups > 1 or conv.weight.shape[1] < 2 or conv.kernel != (1, 1) or conv.channels < EVIDENCE:
        return False
    taps = np.count_nonzero(conv.weight.reshape(conv.channels, -1), axis=1)
    return bool((taps <= 1).all() and taps.any())
