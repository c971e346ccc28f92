"""What the synapses of a layer stand for in the network they were made from.

Conversion folds an average pool into the linear layer behind it, holds what 8 bits cannot in a second synapse (`.fine`)
and moves channels by convolutions of one weight each. None of that is work of the network itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.analysis.counting import connections_of, fan_out, has_multipliers
from fastsnn_deploy.graph import Conv2d, Flatten, Linear, Node, SpikingGraph, Synapse

Int64 = npt.NDArray[np.int64]
Pair = tuple[int, int]

FINE = re.compile(r"\.fine(\.\d+)?$")
"""End of the name of a synapse that holds the rest of another's weights."""

EVIDENCE = 16
"""Weights other than 0 that must repeat before a linear layer is taken for one behind a pool: fewer may by chance."""


@dataclass(frozen=True)
class Work:
    """One synapse: reads of `source` by fan-out, int64 of its shape. pool: the windows of an average pool that was
    folded into a linear layer, on a map of the shape `fan` has."""

    module: str
    source: str
    multiplies: bool
    fan: Int64
    padded: int
    parameters: int
    pool: Pair | None = None

    def amounts(self, images: int, values: Mapping[str, Int64]) -> dict[str, int]:
        """Counts by key of `AnnLayerCounts`, over all images. values: int64 [N, ...] by node name."""
        read = values[self.source].reshape(images, *self.fan.shape) != 0
        if self.pool is None:
            kind = "macs" if self.multiplies else "additions"
            nonzero = int((read.sum(0) * self.fan).sum())
            return {
                kind: images * int(self.fan.sum()),
                f"{kind}_with_padding": images * self.padded,
                f"{kind}_nonzero": nonzero,
            }
        channels, height, width = self.fan.shape
        outputs = int(self.fan.flat[0])
        windows = read.reshape(images, channels, height // self.pool[0], self.pool[0], width // self.pool[1], -1)
        pooled = windows.any((3, 5))
        macs, added = outputs * pooled.size, images * self.fan.size
        return {
            "macs": macs, "macs_with_padding": macs, "macs_nonzero": outputs * int(pooled.sum()),
            "additions": added, "additions_with_padding": added, "additions_nonzero": int(read.sum()),
        }  # fmt: skip


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
    if isinstance(synapse, Linear) and (found := _folded(graph, synapse, macs)) is not None:
        shape, pool = found
        parameters = synapse.parameters // (pool[0] * pool[1])
        return Work(synapse.module, source, True, fan.reshape(shape), padded, parameters, pool)
    if isinstance(synapse, Conv2d) and _moves(synapse):
        return Work(synapse.module, source, False, np.zeros_like(fan), 0, 0)
    return Work(synapse.module, source, has_multipliers(synapse), fan, padded, synapse.parameters)


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
