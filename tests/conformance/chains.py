"""Random chains of convolutions, average pooling and dense layers as spiking graphs, and one with branches."""

from __future__ import annotations

import numpy as np

from fastsnn_deploy.graph import (
    Conv2d,
    Flatten,
    Input,
    Linear,
    Node,
    Population,
    Readout,
    SpikingGraph,
    SumPool2d,
    Synapse,
)
from tests.random_graphs import random_graph


def population(rng: np.random.Generator, source: Synapse, low: int, high: int) -> Population:
    channels = source.shape[0]
    threshold = rng.integers(low, high, channels)
    return Population(
        name=f"{source.name}_spikes",
        inputs=(source.name,),
        shape=source.shape,
        threshold=threshold,
        bias=rng.integers(-high, high, channels),
        initial=threshold // 2,
        input_scale=np.ones(channels),
        ceiling=15,
        scale=0.1,
    )


def chain(seed: int, levels: int = 31) -> SpikingGraph:
    """Input, convolution, average pool, grouped convolution, dense layer and readout."""
    rng = np.random.default_rng(seed)
    zeros = np.zeros(8, dtype=np.int64)

    def weight(*shape: int) -> np.ndarray:
        return rng.integers(-127, 128, shape)

    offset = rng.integers(0, levels // 2, 2)
    nodes: list[Node] = [
        Input(name="image", shape=(2, 9, 8), step=1 / levels, low=0, high=levels, offset=offset, scale=1 / levels)
    ]
    conv = Conv2d(
        name="conv", inputs=("image",), shape=(4, 9, 8), weight=weight(4, 2, 3, 3), exponent=zeros[:4], padding=(1, 1)
    )
    pool = SumPool2d(
        name="pool", inputs=("conv_spikes",), shape=(4, 4, 4), weight=np.ones(4), exponent=zeros[:4], kernel=(2, 2),
        stride=(2, 2),
    )  # fmt: skip
    grouped = Conv2d(
        name="grouped", inputs=("pool_spikes",), shape=(6, 2, 4), weight=weight(6, 2, 3, 2), exponent=zeros[:6] + 1,
        padding=(1, 1), stride=(2, 1), dilation=(1, 2), groups=2,
    )  # fmt: skip
    synapses: list[tuple[Synapse, int, int]] = [(conv, 1500, 4000), (pool, 4, 5), (grouped, 800, 3000)]
    for synapse, low, high in synapses:
        nodes += [synapse, population(rng, synapse, low, high)]
    dense = Linear(name="dense", inputs=("flat",), shape=(8,), weight=weight(8, 48), exponent=zeros)
    nodes += [
        Flatten(name="flat", inputs=("grouped_spikes",), shape=(48,)),
        dense,
        population(rng, dense, 500, 2000),
        Linear(name="last", inputs=("dense_spikes",), shape=(5,), weight=weight(5, 8), exponent=zeros[:5]),
        Readout(name="out", inputs=("last",), shape=(5,), bias=rng.integers(-900, 900, 5), scale=np.full(5, 0.01)),
    ]
    return SpikingGraph(nodes=tuple(nodes), outputs=("out",))


def residual() -> SpikingGraph:
    """A residual sum and a concat on a 2x2x4 image: 4 of the 6 hidden layers hold relays as well."""
    return random_graph(294, max_size=6, max_channels=3)


def images(graph: SpikingGraph, seed: int, count: int) -> np.ndarray:
    """Emitted integers of random images, int64 [count, *shape]."""
    rng = np.random.default_rng(seed)
    shape = (count, *graph.input.shape)
    return graph.input.encode(rng.integers(graph.input.low, graph.input.high + 1, shape))
