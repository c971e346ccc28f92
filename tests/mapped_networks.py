"""Networks of public tables, small chips, and brute force, for the tests of the core mapper."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np

from fastsnn_deploy.analysis.chip import Limit
from fastsnn_deploy.analysis.hardware import Hardware, load_hardware
from fastsnn_deploy.analysis.mapping.grid import Grid
from fastsnn_deploy.analysis.mapping.sites import Site, sites_of
from fastsnn_deploy.graph import Concat, Flatten, MaxPool2d, SpikingGraph, Synapse
from fastsnn_deploy.lava_dl import Lif, Sdnn, StockConv, StockDense, StockFlatten, StockInput, StockNetwork

# --- Intel's tables, as mapping of public notebooks of lava-dl

YOLO = [
    # size, channels, kernel, stride, inputs, bits; tile W, H, C; % neurons, SynMem, AxonMap, AxonMem, total; cores
    (224, 16, 3, 2, 3, 6, (8, 28, 16), (87.52, 0.34, 1.40, 0.70, 19.88), 224),
    (112, 32, 3, 2, 16, 6, (8, 14, 32), (87.52, 3.60, 0.70, 0.35, 21.65), 112),
    (56, 64, 3, 2, 32, 5, (4, 14, 64), (87.52, 10.80, 0.35, 0.17, 26.99), 56),
    (28, 128, 3, 2, 64, 5, (4, 7, 128), (87.52, 39.60, 0.17, 0.35, 50.03), 28),
    (28, 256, 3, 1, 128, 5, (4, 7, 128), (87.52, 79.20, 0.17, 0.17, 81.57), 56),
    (14, 256, 3, 2, 256, 4, (8, 7, 64), (87.52, 72.00, 0.35, 2.80, 78.05), 16),
    (14, 512, 3, 1, 256, 5, (8, 7, 64), (87.52, 86.40, 0.35, 0.35, 87.61), 32),
    (14, 256, 1, 1, 512, 5, (2, 7, 256), (87.52, 67.20, 0.09, 0.35, 72.04), 14),
    (14, 512, 3, 1, 256, 5, (8, 7, 64), (87.52, 86.40, 0.35, 0.17, 87.47), 32),
    (14, 48, 1, 1, 512, 7, (4, 14, 48), (65.64, 19.20, 16.80, 0.00, 42.26), 4),
]
"""YOLO-KP as the compiler of 2024 printed it. The bits are not printed: they are those that give the printed SynMem."""

PILOTNET = [
    # (C, H, W), greatest weight LIF / SDNN; tile W, H, C; SynMem LIF / SDNN; cores
    ((24, 32, 99), (20, 34), (4, 32, 24), (81, 81), 25),
    ((36, 15, 49), (12, 22), (4, 15, 36), (864, 864), 13),
    ((48, 7, 24), (10, 16), (8, 7, 48), (1620, 1620), 3),
    ((64, 4, 22), (8, 16), (8, 4, 64), (2160, 2592), 3),
    ((64, 2, 20), (8, 14), (16, 2, 64), (2880, 2880), 2),
    ((100,), (6, 12), (9,), (7253, 7253), 12),
    ((50,), (14, 36), (50,), (1300, 1500), 1),
    ((10,), (24, 16), (10,), (150, 150), 1),
    ((1,), (42, 12), (1,), (10, 10), 1),
]
"""PilotNet as the compiler of 2023 printed it, which gives means over cores where the mapper gives each core."""

STRIDES = (((2, 2), 0), ((2, 2), 0), ((2, 2), 0), ((2, 1), (1, 0)), ((1, 1), 0))


def full(shape: tuple[int, ...], greatest: int) -> np.ndarray:
    return np.full(shape, greatest, dtype=np.int64)


def conv(shape: tuple[int, ...], inputs: int, kernel: int, greatest: int, neuron: Lif | Sdnn, **geometry) -> StockConv:
    weight = full((shape[0], inputs, kernel, kernel), greatest)
    return StockConv(shape=shape, weight=weight, bias=None, neuron=neuron, **geometry)


def dense(outputs: int, inputs: int, greatest: int, neuron: Lif | Sdnn) -> StockDense:
    return StockDense(shape=(outputs,), weight=full((outputs, inputs), greatest), bias=None, neuron=neuron)


def yolo() -> StockNetwork:
    layers = [
        conv((c, s, s), i, k, 2 ** (bits - 1) - 1, Sdnn(), stride=(st, st), padding=(k // 2, k // 2))
        for s, c, k, st, i, bits, *_ in YOLO
    ]
    return StockNetwork((StockInput(shape=(3, 448, 448)), *layers))


def pilotnet(which: int) -> StockNetwork:
    neuron: Lif | Sdnn = (Lif(threshold=25), Sdnn())[which]
    layers = [StockInput(shape=(3, 66, 200), neuron=neuron)]
    inputs = 3
    for (shape, greatest, *_), (stride, padding) in zip(PILOTNET, STRIDES, strict=False):
        pair = (padding, padding) if isinstance(padding, int) else padding
        layers.append(conv(shape, inputs, 3, greatest[which], neuron, stride=stride, padding=pair))
        inputs = shape[0]
    layers.append(StockFlatten(shape=(2560,)))
    inputs = 2560
    for shape, greatest, *_ in PILOTNET[5:]:
        layers.append(dense(shape[0], inputs, greatest[which], neuron))
        inputs = shape[0]
    return StockNetwork(tuple(layers))


def refused(*, outputs: int = 1000, channels: int = 8, bits: int = 8) -> StockNetwork:
    """The network that the compiler of 2023 gave up on: "Partitioning could not converge"."""
    greatest, strided = 2 ** (bits - 1) - 1, {"stride": (2, 2), "padding": (2, 2), "dilation": (2, 2)}
    return StockNetwork(
        (
            StockInput(shape=(1, 260, 344)),
            conv((4, 130, 172), 1, 3, greatest, Sdnn(), stride=(2, 2), padding=(1, 1)),
            conv((8, 65, 86), 4, 3, greatest, Sdnn(), **strided),
            conv((channels, 33, 43), 8, 3, greatest, Sdnn(), **strided),
            StockFlatten(shape=(channels * 33 * 43,)),
            dense(outputs, channels * 33 * 43, greatest, Sdnn()),
            dense(250, outputs, greatest, Sdnn()),
            dense(6, 250, greatest, Sdnn()),
        )
    )


# --- small chips and brute force


def with_limits(hardware: Hardware, **limits: int) -> Hardware:
    chip = hardware.limits
    given = {
        key: getattr(chip.core, key) or Limit(value=1, unit="words", status="assumed", source="t") for key in limits
    }
    core = chip.core.model_copy(
        update={key: limit.model_copy(update={"value": limits[key]}) for key, limit in given.items()}
    )
    return hardware.model_copy(update={"chip": chip.model_copy(update={"core": core})})


def small(seed: int) -> Hardware:
    """A chip so small that every layer needs several cores, in one of three forms."""
    rng = np.random.default_rng(seed)
    name = ("loihi2", "loihi2-2023", "loihi1-davies2018")[seed % 3]
    limits = {"neurons": int(rng.integers(30, 90)), "synapse_words": int(rng.integers(300, 900))}
    if name == "loihi2":
        limits["total_words"] = int(rng.integers(400, 1200))
    return with_limits(load_hardware(name), **limits)


def elements(grid: Grid) -> list[list[tuple[int, int, int]]]:
    """Every element of every core, by three loops."""
    cores = []
    for corner in itertools.product(*(range(0, n, t) for n, t in zip(grid.shape, grid.tile, strict=True))):
        ranges = (range(a, min(a + t, n)) for a, t, n in zip(corner, grid.tile, grid.shape, strict=True))
        cores.append(list(itertools.product(*ranges)))
    return cores


def core_numbers(grid: Grid) -> np.ndarray:
    """The core of each element, int64 of the layer's shape."""
    found = np.full(grid.shape, -1)
    for number, places in enumerate(elements(grid)):
        for place in places:
            assert found[place] == -1, "a neuron on two cores"
            found[place] = number
    assert (found >= 0).all(), "a neuron on no core"
    return found


def reach(graph: SpikingGraph, name: str) -> Iterator[tuple[str, np.ndarray]]:
    """Layers behind the routing in front of a connection, each with where its elements arrive: int64 [elements]."""
    node = graph[name]
    if isinstance(node, Flatten):
        yield from reach(graph, node.inputs[0])
    elif isinstance(node, Concat):
        start = 0
        for arm in node.inputs:
            for layer, places in reach(graph, arm):
                yield layer, places + start
            start += graph[arm].size
    else:
        yield name, np.arange(node.size)


def links(graph: SpikingGraph, connection: Synapse | MaxPool2d) -> np.ndarray:
    """Whether each element that is read reaches each output: bool [read, outputs], one spike at a time."""
    shape = graph[connection.inputs[0]].shape
    spikes = np.eye(int(np.prod(shape)), dtype=np.int64).reshape(-1, *shape)
    if isinstance(connection, MaxPool2d):
        return connection.apply(spikes).reshape(len(spikes), -1) != 0
    ones = dataclasses.replace(
        connection, weight=np.ones_like(connection.weight), exponent=np.zeros_like(connection.exponent)
    )
    return ones.apply(spikes).reshape(len(spikes), -1) != 0


def connections(graph: SpikingGraph, site: Site) -> list[Synapse | MaxPool2d]:
    node = graph[site.name]
    return [node] if isinstance(node, MaxPool2d) else [graph[name] for name in node.inputs]


def targets_of(graph: SpikingGraph, name: str, cores: dict[str, np.ndarray]) -> list[set[int]]:
    """The cores that each neuron of a layer has a synapse on. cores: of the neurons of every layer that takes cores."""
    found: list[set[int]] = [set() for _ in range(graph[name].size)]
    for site in (site for site in sites_of(graph) if site.placed):
        for connection in connections(graph, site):
            for layer, places in reach(graph, connection.inputs[0]):
                for neuron, reached in enumerate(links(graph, connection)[places]) if layer == name else ():
                    found[neuron] |= set(cores[site.name][reached].tolist())
    return found
