"""Random sequential networks of everything that stock NetX holds."""

from __future__ import annotations

import numpy as np

from fastsnn_deploy.graph.synapses.conv2d import output_size
from fastsnn_deploy.lava_dl import (
    Lif,
    Neuron,
    Reset,
    Sdnn,
    StockConv,
    StockDense,
    StockFlatten,
    StockInput,
    StockLayer,
    StockNetwork,
)
from tests.conformance.stock import Case


class Builder:
    """Grows a network layer by layer from a seeded generator."""

    def __init__(self, seed: int, *, sigma_delta: bool = False) -> None:
        self.rng = np.random.default_rng(seed)
        self.sigma_delta = sigma_delta
        self.layers: list[StockLayer] = []

    def integer(self, low: int, high: int) -> int:
        """Uniform integer in [low, high]."""
        return int(self.rng.integers(low, high + 1))

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def weight(self, *shape: int) -> np.ndarray:
        limit = self.integer(1, 20) if self.chance(0.7) else 127
        weight = self.rng.integers(-limit, limit + 1, shape)
        weight.flat[0], weight.flat[-1] = -limit, limit  # lava-dl changes some matrices without both signs
        return weight

    def bias(self, outputs: int) -> np.ndarray | None:
        return self.rng.integers(-60, 61, outputs) if self.chance(0.7) else None

    def neuron(self) -> Neuron:
        if self.sigma_delta:
            return Sdnn(threshold=self.integer(0, 5) if self.chance(0.6) else 0)
        memoryless = self.chance(0.4)
        decays = (4096, 4096) if memoryless else (self.integer(0, 4096), self.integer(0, 4096))
        return Lif(threshold=self.integer(-3, 120), i_decay=decays[0], v_decay=decays[1])

    def conv(self, source: tuple[int, ...]) -> StockConv | None:
        """A random convolution, None if its window does not fit."""
        groups = self.integer(1, 3) if source[0] % 6 == 0 else source[0] if self.chance(0.2) else 1
        kernel, stride, dilation = ((self.integer(1, 3), self.integer(1, 3)) for _ in range(3))
        padding = (self.integer(0, 2), self.integer(0, 2))
        outputs = groups * self.integer(1, 3)
        axes = zip(source[1:], kernel, stride, padding, dilation, strict=True)
        shape = (outputs, *(output_size(*axis) for axis in axes))
        if min(shape) < 1:
            return None
        weight = self.weight(outputs, source[0] // groups, *kernel)
        geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        return StockConv(shape=shape, weight=weight, bias=self.bias(outputs), neuron=self.neuron(), **geometry)

    def dense(self, inputs: int, *, last: bool) -> StockDense:
        outputs = self.integer(1, 8)
        neuron = self.neuron()
        bias = self.bias(outputs)
        if last and self.sigma_delta and self.chance(0.7):
            neuron, bias = Sdnn(sigma_output=True), None
        elif last and not self.sigma_delta and self.chance(0.4):
            neuron = None
        delay = None
        if self.chance(0.3):
            shape = (outputs, inputs) if self.chance(0.3) else (outputs,)
            delay = self.rng.integers(0, 6, shape)
        weight = self.weight(outputs, inputs)
        return StockDense(shape=(outputs,), weight=weight, bias=bias, neuron=neuron, delay=delay)


def random_case(seed: int, *, sigma_delta: bool = False) -> Case:
    """A network with its frames: input blocks, binary and graded spikes, LIF or sigma-delta neurons, resets."""
    builder = Builder(seed, sigma_delta=sigma_delta)
    steps = builder.integer(8, 14)
    shape = (builder.integer(1, 3), builder.integer(3, 9), builder.integer(3, 9))
    neuron = builder.neuron() if builder.chance(0.8 if sigma_delta else 0.3) else None
    bits = 0 if neuron or (builder.chance(0.5) and not sigma_delta) else 24
    builder.layers.append(StockInput(shape=shape, neuron=neuron))
    for _ in range(builder.integer(0, 3)):
        layer = builder.conv(builder.layers[-1].shape)
        builder.layers += [layer] if layer else []
    dense = builder.integer(0 if len(builder.layers) > 1 else 1, 2)
    for index in range(dense):
        if index == 0:
            builder.layers.append(StockFlatten(shape=(int(np.prod(builder.layers[-1].shape)),)))
        builder.layers.append(builder.dense(builder.layers[-1].shape[0], last=index == dense - 1))
    low, high = (0, 1) if not bits and neuron is None else (-9, 9) if neuron is None else (-60, 60)
    frames = builder.rng.integers(low, high + 1, (steps, *shape))
    if isinstance(neuron, Lif):
        frames = np.repeat(frames[:1], steps, axis=0)  # lava-dl takes one bias for a whole run
    reset = Reset(builder.integer(3, 6), builder.integer(-1, 2)) if builder.chance(0.4) and not sigma_delta else None
    return Case(StockNetwork(tuple(builder.layers), input_message_bits=bits), frames, reset)
