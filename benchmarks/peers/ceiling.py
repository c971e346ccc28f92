"""What the machine allows: the network's convolutions alone, for T * B images, without a neuron in between.

Operands are random and stay in place; the output of each layer is thrown away. Each layer has several ways (memory
layouts, or a matrix product for linear layers), of which the fastest is taken.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import torch
from rounds import stopwatch
from torch.nn import functional as F

from fastsnn_deploy.graph import Conv2d, Linear, SpikingGraph, Synapse
from peers.base import Contender, Int64, NotAvailableError, Options, contender

Call = Callable[[], object]


class Products(Contender):
    """One product after another, each for `steps` times the images of a batch."""

    def __init__(self, graph: SpikingGraph, steps: int, options: Options) -> None:
        super().__init__(graph, steps, options)
        self.synapses = [_as_conv(node, graph) for node in graph.synapses if isinstance(node, (Conv2d, Linear))]
        self.calls: dict[int, list[Call]] = {}

    def run(self, emitted: Int64) -> object:
        torch.set_num_threads(self.options.threads)
        size = self.options.batch
        for first in range(0, len(emitted), size):
            for call in self._prepared(len(emitted[first : first + size])):
                call()
        return None

    def _prepared(self, images: int) -> list[Call]:
        if images not in self.calls:
            rows = images * self.steps
            self.calls[images] = [_fastest(self.ways(conv, source, rows)) for conv, source in self.synapses]
        return self.calls[images]

    @abstractmethod
    def ways(self, conv: Conv2d, source: tuple[int, ...], rows: int) -> list[Call]:
        """Calls that compute one layer for `rows` maps of shape `source`."""


def _fastest(ways: list[Call]) -> Call:
    """The way that takes least time, each in its best of three runs."""
    best = [min(stopwatch(way) for _ in range(3)) for way in ways]
    return ways[best.index(min(best))]


def _as_conv(synapse: Synapse, graph: SpikingGraph) -> tuple[Conv2d, tuple[int, ...]]:
    """The synapse as a convolution, a linear layer as one of a single pixel, and the shape that it reads."""
    source = graph[synapse.inputs[0]].shape
    if isinstance(synapse, Conv2d):
        return synapse, source
    weight = synapse.weight[:, :, None, None]
    shape = (synapse.channels, 1, 1)
    return Conv2d(name=synapse.name, shape=shape, weight=weight, exponent=synapse.exponent), (source[0], 1, 1)


@contender("ceiling")
class Int8(Products):
    """int8 convolutions of oneDNN, through the operator of PyTorch's quantised inference; output uint8."""

    title = "int8 convolutions alone"

    def __init__(self, graph: SpikingGraph, steps: int, options: Options) -> None:
        super().__init__(graph, steps, options)
        if not hasattr(torch.ops.onednn, "qconv2d_pointwise"):
            raise NotAvailableError("this PyTorch lacks onednn.qconv2d_pointwise: install the CPU build for x86")

    def ways(self, conv: Conv2d, source: tuple[int, ...], rows: int) -> list[Call]:
        weight = torch.from_numpy(conv.weight.copy())
        scales, zeros = torch.ones(conv.channels), torch.zeros(conv.channels, dtype=torch.int32)
        geometry = [list(conv.stride), list(conv.padding), list(conv.dilation), conv.groups]
        spikes = torch.randint(0, 2, (rows, *source), dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
        packed = torch.ops.onednn.qconv_prepack(weight, scales, 1.0, 0, *geometry, list(spikes.shape))
        end = (1.0, 0, torch.uint8, "none", [], "")

        def convolution() -> object:
            return torch.ops.onednn.qconv2d_pointwise(spikes, 1.0, 0, packed, scales, zeros, None, *geometry, *end)

        if source[1:] != (1, 1) or conv.kernel != (1, 1) or conv.groups > 1:
            return [convolution]
        flat = spikes.flatten(1)
        matrix = torch.ops.onednn.qlinear_prepack(weight.flatten(1), list(flat.shape))

        def product() -> object:
            return torch.ops.onednn.qlinear_pointwise(flat, 1.0, 0, matrix, scales, zeros, None, *end)

        return [convolution, product]


@contender("float")
class Float32(Products):
    """float32 convolutions of PyTorch."""

    title = "float32 convolutions alone"

    def ways(self, conv: Conv2d, source: tuple[int, ...], rows: int) -> list[Call]:
        weight = torch.from_numpy(conv.effective_weight).float()
        spikes = torch.randint(0, 2, (rows, *source)).float()
        geometry = (conv.stride, conv.padding, conv.dilation, conv.groups)
        last = [x.contiguous(memory_format=torch.channels_last) for x in (spikes, weight)]
        ways: list[Call] = [
            lambda: F.conv2d(spikes, weight, None, *geometry),
            lambda: F.conv2d(*last, None, *geometry),
        ]
        if source[1:] == (1, 1) and conv.kernel == (1, 1) and conv.groups == 1:
            flat, matrix = spikes.flatten(1), weight.flatten(1)
            ways.append(lambda: F.linear(flat, matrix))
        return ways
