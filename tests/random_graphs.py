"""Random valid spiking graphs for property tests: every layer type, odd shapes, residual and concat branches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from fastsnn_deploy.graph import (
    Concat,
    Conv2d,
    ConvTranspose2d,
    Flatten,
    Identity,
    Input,
    Linear,
    MaxPool2d,
    Node,
    Population,
    Readout,
    Schedule,
    SpikingGraph,
    SumPool2d,
    Synapse,
    Upsample,
)
from fastsnn_deploy.graph.neurons import spike_bounds
from fastsnn_deploy.passes.balance import balanced


class Builder:
    """Grows a graph node by node from a seeded generator. transposed: half of the convolutions are."""

    def __init__(self, seed: int, *, max_size: int = 9, max_channels: int = 4, transposed: bool = False) -> None:
        self.transposed = transposed
        self.rng = np.random.default_rng(seed)
        self.max_channels = max_channels
        self.nodes: list[Node] = []
        self.signed_input = bool(self.rng.integers(2))
        shape = (self.integer(1, 3), self.integer(2, max_size), self.integer(2, max_size))
        offset = self.rng.integers(0, 8, shape[0]) if self.signed_input else np.zeros(shape[0])
        image = Input(
            name="image",
            shape=shape,
            step=1 / 15,
            low=0,
            high=15,
            offset=offset.astype(np.int64),
            scale=1 / 15,
        )
        self.sources: list[Node] = [self.add(image)]

    def integer(self, low: int, high: int) -> int:
        """Uniform integer in [low, high]."""
        return int(self.rng.integers(low, high + 1))

    def add(self, node: Node) -> Node:
        self.nodes.append(node)
        return node

    def name(self, kind: str) -> str:
        return f"{kind}{len(self.nodes)}"

    def weight(self, shape: tuple[int, ...], bits: int | None = None) -> np.ndarray:
        limit = 2 ** ((bits or self.integer(2, 8)) - 1) - 1
        return self.rng.integers(-max(limit, 1), max(limit, 1) + 1, shape).astype(np.int8)

    def exponent(self, channels: int) -> np.ndarray:
        return self.rng.integers(0, 3, channels) if self.rng.random() < 0.3 else np.zeros(channels, dtype=np.int64)

    def common(self, kind: str, source: Node, outputs: int) -> dict:
        return {"name": self.name(kind), "inputs": (source.name,), "exponent": self.exponent(outputs)}

    def sized(self, cls: type[Synapse], source: Node, **fields) -> Synapse | None:
        """Construct with the shape that follows from the source; None if the window does not fit."""
        try:
            shape = cls(shape=source.shape, **fields).output_shape(source.shape)
        except ValueError:
            return None
        return self.add(cls(shape=shape, **fields))

    def pair(self, low: int, high: int) -> tuple[int, int]:
        return self.integer(low, high), self.integer(low, high)

    def conv(self, source: Node, outputs: int | None = None, same: bool = False) -> Synapse | None:
        channels = source.shape[0]
        depthwise = self.rng.random() < 0.25 and (outputs is None or outputs % channels == 0)
        groups = channels if depthwise else 1
        outputs = outputs or (channels * self.integer(1, 2) if depthwise else self.integer(1, self.max_channels))
        if same:
            kernel, padding, stride, dilation = (3, 3), (1, 1), (1, 1), (1, 1)
        else:
            kernel, stride, dilation = self.pair(1, 3), self.pair(1, 2), self.pair(1, 2)
            padding = self.pair(0, 2)
        return self.sized(
            Conv2d,
            source,
            **self.common("conv", source, outputs),
            weight=self.weight((outputs, channels // groups, *kernel)),
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
        )

    def conv_transpose(self, source: Node) -> Synapse | None:
        stride, dilation = self.pair(1, 3), self.pair(1, 2)
        groups = source.shape[0] if self.rng.random() < 0.25 else 1
        outputs = groups * self.integer(1, 2)
        return self.sized(
            ConvTranspose2d,
            source,
            **self.common("up", source, outputs),
            weight=self.weight((outputs, source.shape[0] // groups, *self.pair(1, 4))),
            stride=stride,
            padding=self.pair(0, 2),
            output_padding=tuple(self.integer(0, max(stride[i], dilation[i]) - 1) for i in (0, 1)),
            dilation=dilation,
            groups=groups,
        )

    def linear(self, source: Node, outputs: int | None = None) -> Synapse | None:
        if len(source.shape) == 3:
            source = self.add(
                Flatten(name=self.name("flat"), inputs=(source.name,), shape=(int(np.prod(source.shape)),))
            )
        outputs = outputs or self.integer(1, 8)
        return self.sized(
            Linear,
            source,
            **self.common("linear", source, outputs),
            weight=self.weight((outputs, source.shape[0])),
        )

    def channelwise(self, cls: type[Synapse], source: Node, **fields) -> Synapse | None:
        weight = self.weight((source.shape[0],))
        return self.sized(cls, source, **self.common("arm", source, source.shape[0]), weight=weight, **fields)

    def population(self, *synapses: Synapse, ceiling: int | None = None) -> Node:
        shape = synapses[0].shape
        channels = shape[0]
        high = int(10 ** self.rng.uniform(0, 3))
        threshold = self.rng.integers(1, high + 1, channels)
        population = Population(
            name=self.name("pop"),
            inputs=tuple(synapse.name for synapse in synapses),
            shape=shape,
            threshold=threshold,
            bias=self.rng.integers(-high, high + 1, channels),
            initial=threshold // 2 if self.rng.random() < 0.8 else self.rng.integers(0, threshold),
            input_scale=np.ones(channels),
            ceiling=ceiling or 2 ** self.integer(1, 4) - 1,
            floor=0 if self.rng.random() < 0.9 else -self.integer(1, 3),
            scale=0.25,
        )
        self.sources.append(self.add(population))
        return population

    def grow(self) -> None:
        """Add one block after a recent source."""
        source = self.sources[-1] if self.rng.random() < 0.8 else self.sources[self.integer(0, len(self.sources) - 1)]
        blocks: list[Callable[[Node], None]] = [self._linear_block]
        if len(source.shape) == 3:
            blocks = [self._conv_block] * 4 + [
                self._residual, self._residual, self._concat, self._max_pool, self._sum_pool, self._upsample
            ]  # fmt: skip
        blocks[self.integer(0, len(blocks) - 1)](source)

    def _conv_block(self, source: Node) -> None:
        turned = self.transposed and self.rng.random() < 0.5
        synapse = self.conv_transpose(source) if turned else self.conv(source)
        if synapse is not None:
            self.population(synapse)

    def _linear_block(self, source: Node) -> None:
        synapse = self.linear(source)
        assert synapse is not None
        self.population(synapse)

    def _residual(self, source: Node) -> None:
        first = self.conv(source, same=True)
        middle = self.population(first)
        second = self.conv(middle, outputs=source.shape[0], same=True)
        self.population(second, self.channelwise(Identity, source))

    def _concat(self, source: Node) -> None:
        arms = [source]
        for _ in range(self.integer(1, 2)):
            before = arms[-1] if self.rng.random() < 0.5 else source
            arms.append(self.population(self.conv(before, same=True)))
        shape = (sum(arm.shape[0] for arm in arms), *source.shape[1:])
        self.sources.append(
            self.add(
                Concat(
                    name=self.name("cat"),
                    inputs=tuple(a.name for a in arms),
                    shape=shape,
                    delays=(0,) * len(arms),
                )
            )
        )

    def _max_pool(self, source: Node) -> None:
        kernel = self.pair(1, 3)
        pool = {
            "name": self.name("max"),
            "inputs": (source.name,),
            "kernel": kernel,
            "stride": self.pair(1, 3),
            "padding": (self.integer(0, kernel[0] // 2), self.integer(0, kernel[1] // 2)),
            "dilation": self.pair(1, 2) if self.rng.random() < 0.3 else (1, 1),
            "ceil_mode": bool(self.integer(0, 1)),
        }
        try:
            shape = MaxPool2d(shape=source.shape, **pool).output_shape(source.shape)
            positions = np.zeros((1, 1, *source.shape[1:]), dtype=np.int64)
            if MaxPool2d(shape=shape, **pool).apply(positions).min() < 0:
                return  # a window beside the map
        except ValueError:
            return
        self.sources.append(self.add(MaxPool2d(shape=shape, **pool)))

    def _sum_pool(self, source: Node) -> None:
        kernel = self.pair(1, 3)
        synapse = self.channelwise(
            SumPool2d, source, kernel=kernel, stride=self.pair(1, 3), padding=(kernel[0] // 2, 0)
        )
        if synapse is not None:
            self.population(synapse)

    def _upsample(self, source: Node) -> None:
        synapse = self.channelwise(Upsample, source, factor=self.pair(1, 2))
        if synapse is not None:
            self.population(synapse)


def bounds(neurons: str, floor: int, ceiling: int) -> dict[str, int]:
    """Spike bounds of a preset, as keywords of a population."""
    return dict(zip(("min_spike", "max_spike"), spike_bounds(neurons, floor, ceiling), strict=True))


def random_graph(
    seed: int, *, blocks: int = 5, neurons: str = "unary", balance: bool = True, **options
) -> SpikingGraph:
    """A valid random graph of about `blocks` blocks with a readout or a spiking output."""
    builder = Builder(seed, **options)
    for _ in range(builder.integer(1, blocks)):
        builder.grow()
    source = builder.sources[-1]
    final = builder.linear(source, 5)
    if builder.rng.random() < 0.75:
        output = builder.add(
            Readout(
                name="readout",
                inputs=(final.name,),
                shape=(5,),
                bias=builder.rng.integers(-50, 51, 5),
                scale=np.full(5, 0.01),
            )
        )
    else:
        output = builder.population(final, ceiling=7)
    nodes = [
        replace(n, **bounds(neurons, n.floor, n.ceiling)) if isinstance(n, Population) else n for n in builder.nodes
    ]
    modes = ("once", "spread"), ("wave", "spread", "initial")
    schedule = Schedule(
        window=builder.integer(1, 4),
        input=modes[0][builder.integer(0, 1)],
        bias=modes[1][builder.integer(0, 2)],
    )
    graph = SpikingGraph(nodes=tuple(nodes), outputs=(output.name,), schedule=schedule)
    return balanced(graph) if balance else graph


def random_images(graph: SpikingGraph, seed: int, count: int = 2) -> np.ndarray:
    """Integer levels in the range of the graph's input: int64 [count, C, H, W]."""
    rng = np.random.default_rng(seed)
    return rng.integers(graph.input.low, graph.input.high + 1, (count, *graph.input.shape))
