"""The links of one target: which parts of the boundary before a stage it reads, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.graph import MaxPool2d, Node, SpikingGraph
from fastsnn_deploy.passes import geometry
from fastsnn_deploy.passes.chain import Copied, Pair, Part, Target, Weighted
from fastsnn_deploy.passes.geometry import Step
from fastsnn_deploy.passes.routes import Routes, matrix, pool_pairs, taps

Int64 = npt.NDArray[np.int64]


class NoTapError(Exception):
    """A source position that an output needs lies in no part that a tap could reach."""


@dataclass(frozen=True)
class GridReader:
    """What a stage can read. own: stride of every source on the grid before, of `size` (None: a vector)."""

    graph: SpikingGraph
    own: Mapping[str, Pair]
    size: Pair | None
    step: Step | None

    def locate(self, source: str, offset: Pair) -> tuple[Part, Pair]:
        """Part and tap through which output y reads source position y * stride * own + offset."""
        assert self.size is not None
        assert self.step is not None
        own, size = self.own[source], geometry.map_size(self.graph, source)
        found = [
            geometry.pick(offset[i], own[i], size[i], self.size[i], self.step.stride[i], self.step.size[i])
            for i in (0, 1)
        ]
        rows, columns = found
        if rows is None or columns is None:
            raise NoTapError
        return self._part(source, (rows[0], columns[0])), (rows[1], columns[1])

    def elements(self, source: str) -> list[tuple[Part, Int64]]:
        """Parts that together hold a source; for each, the source's element at [channel, position], -1 outside."""
        node = self.graph[source]
        if self.size is None:
            return [(Part(source, node.size), np.arange(node.size, dtype=np.int64)[:, None])]
        return [
            (self._part(source, offset), self._held(source, offset))
            for offset in geometry.covering(self.own[source], geometry.map_size(self.graph, source), self.size)
        ]

    def _part(self, source: str, offset: Pair) -> Part:
        return Part(source, self.graph[source].channels, offset, self.own[source])

    def _held(self, source: str, offset: Pair) -> Int64:
        assert self.size is not None
        channels, height, width = self.graph[source].shape
        y = np.arange(self.size[0]) * self.own[source][0] + offset[0]
        x = np.arange(self.size[1]) * self.own[source][1] + offset[1]
        inside = ((y >= 0) & (y < height))[:, None] & ((x >= 0) & (x < width))
        element = (np.arange(channels)[:, None, None] * height + y[:, None]) * width + x
        return np.asarray(np.where(inside, element, -1)).reshape(channels, -1)


def map_target(routes: Routes, reader: GridReader, part: Part, unit: Node | None) -> Target:
    """A part computed (`unit`) or relayed (None) by a convolution."""
    if unit is None:
        return Target(part, False, (_relay(reader, part),))
    links: list[Weighted | Copied] = []
    for node in routes.readers(unit):
        for source, channels in routes.blocks(node):
            for offset, weight in taps(node, part.offset, channels):
                if weight is not None and not weight.any():
                    continue
                found, tap = reader.locate(source, offset)
                if weight is None:
                    target = np.arange(channels.start, channels.stop)
                    links.append(Copied(found, target, target - channels.start, tap))
                else:
                    links.append(Weighted(found, weight, tap))
    return Target(part, True, tuple(links))


def _relay(reader: GridReader, part: Part) -> Copied:
    found, tap = reader.locate(part.source, part.offset)
    every = np.arange(part.channels)
    return Copied(found, every, every, tap)


def dense_target(routes: Routes, reader: GridReader, part: Part, unit: Node | None) -> Target:
    """A vector computed (`unit`) or relayed (None) by a dense stage."""
    links: list[Weighted | Copied] = []
    if unit is None:
        for found, held in reader.elements(part.source):
            channel, position = np.nonzero(held >= 0)
            links.append(Copied(found, held[channel, position], channel, None, position))
    elif isinstance(unit, MaxPool2d):
        links = _dense_pool(routes, reader, unit)
    else:
        for node in routes.readers(unit):
            assert not isinstance(node, MaxPool2d)
            full = matrix(node, routes.graph[node.inputs[0]].shape)
            for source, columns in _element_blocks(routes, node.inputs[0]):
                links += _dense_weights(reader, source, full[:, columns])
    return Target(part, unit is not None, tuple(links))


def _element_blocks(routes: Routes, name: str) -> list[tuple[str, slice]]:
    blocks, start = [], 0
    for piece in routes.pieces(name):
        size = routes.graph[piece].size
        blocks.append((piece, slice(start, start + size)))
        start += size
    return blocks


def _dense_weights(reader: GridReader, source: str, weight: Int64) -> list[Weighted | Copied]:
    """weight: int64 [targets, elements of the source]."""
    links: list[Weighted | Copied] = []
    for found, held in reader.elements(source):
        spread = np.where(held >= 0, weight[:, held], 0)
        links.append(Weighted(found, spread))
    return links


def _dense_pool(routes: Routes, reader: GridReader, pool: MaxPool2d) -> list[Weighted | Copied]:
    made, read = pool_pairs(pool, routes.graph[pool.inputs[0]].shape)
    links: list[Weighted | Copied] = []
    for source, elements in _element_blocks(routes, pool.inputs[0]):
        mine = (read >= elements.start) & (read < elements.stop)
        for found, held in reader.elements(source):
            channel, position = np.nonzero(held >= 0)
            where = np.full(elements.stop - elements.start, -1, dtype=np.int64)
            where[held[channel, position]] = np.arange(len(channel))
            entry = where[read[mine] - elements.start]
            known = entry >= 0
            links.append(Copied(found, made[mine][known], channel[entry[known]], None, position[entry[known]]))
    return links
