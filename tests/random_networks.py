"""Random quantised models whose scales are powers of two, so that lowering them loses nothing, and their float64
reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from fastsnn_deploy.quantisation.capture import canonicalise
from fastsnn_deploy.quantisation.layers import (
    PadChannels,
    QuantActivation,
    QuantConv2d,
    QuantInput,
    QuantLinear,
    Subsample,
    weight_limit,
)


class Program(nn.Module):
    """A network given as a list of steps: (layer name or "add" or "cat", indices of the values it reads)."""

    def __init__(self, layers: dict[str, nn.Module], steps: list[tuple[str, tuple[int, ...]]]) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self.steps = tuple(steps)

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for kind, sources in self.steps:
            operands = [values[i] for i in sources]
            if kind == "add":
                total = operands[0]
                for term in operands[1:]:
                    total = total + term
                values.append(total)
            else:
                values.append(torch.cat(operands, 1) if kind == "cat" else self.layers[kind](operands[0]))
        return values[-1]


@dataclass(frozen=True)
class Value:
    """index into the program's values; data for sample images; step: of its grid, None before rounding."""

    index: int
    data: Tensor
    step: float | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.data.shape[1:])


def power_of_two(x: float) -> float:
    """The nearest power of two (in the logarithm), 1 for 0."""
    return float(2.0 ** np.round(np.log2(x))) if x > 0 else 1.0


class NetworkBuilder:
    """Grows a program block by block, choosing scales by what sample images do in it."""

    def __init__(self, seed: int, vector: bool = False) -> None:
        self.rng = np.random.default_rng(seed)
        self.layers: dict[str, nn.Module] = {}
        self.steps: list[tuple[str, tuple[int, ...]]] = []
        channels = self.integer(1, 3)
        size = (self.integer(4, 9), self.integer(4, 9))
        self.input_shape = (self.integer(2, 12),) if vector else (channels, *size)
        self.images = torch.from_numpy(self.rng.integers(0, 16, (4, *self.input_shape)) / 16)
        mean = self.rng.integers(0, 12, self.input_shape[0]) / 16
        if len(mean) == 1 or self.chance(0.3):
            mean = mean[:1]
        image = QuantInput(self.input_shape[0], 1 / 16, 0, 15, mean=tuple(mean), std=2.0 ** self.integer(-2, 2))
        self.sources = [self.layer(Value(0, self.images), image, step=image.scale)]

    def integer(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def pair(self, low: int, high: int) -> tuple[int, int]:
        return self.integer(low, high), self.integer(low, high)

    def dyadic(self, size: int, spread: float) -> Tensor:
        """Multiples of 1/64 of a power of two near `spread`."""
        unit = power_of_two(spread) / 64
        return torch.from_numpy(self.rng.integers(-96, 97, size) * unit).float()

    # single steps

    def layer(self, source: Value, module: nn.Module, step: float | None = None) -> Value:
        name = f"l{len(self.steps)}"
        self.layers[name] = module.eval()
        self.steps.append((name, (source.index,)))
        with torch.no_grad():
            return Value(len(self.steps), apply_exactly(module, source.data), step)

    def add(self, *terms: Value) -> Value:
        self.steps.append(("add", tuple(term.index for term in terms)))
        return Value(len(self.steps), torch.stack([term.data for term in terms]).sum(0))

    def cat(self, *parts: Value) -> Value:
        self.steps.append(("cat", tuple(part.index for part in parts)))
        steps = {part.step for part in parts}
        return Value(len(self.steps), torch.cat([p.data for p in parts], 1), steps.pop() if len(steps) == 1 else None)

    def _with_weights(self, module: Any, source: Value, bias: bool, last: bool = False) -> Any:
        limit = weight_limit(module.weight_bits)
        weight = self.rng.integers(-limit, limit + 1, tuple(module.weight.shape))
        steps = 2.0 ** self.rng.integers(-1, 2, len(module.weight_step)).astype(float)
        with torch.no_grad():
            module.weight_step.copy_(torch.from_numpy(steps))
            module.weight.copy_(torch.from_numpy(weight) * module._step())
            if bias and last:  # a readout counts in 1/16 of a weight
                unit = module.weight_step * (source.step or 1.0) / 4
                module.bias.copy_(torch.from_numpy(self.rng.integers(-96, 97, len(module.bias))) * unit)
            elif bias:
                spread = float(apply_exactly(module, source.data).std())
                module.bias.copy_(self.dyadic(len(module.bias), spread))
        return module

    def conv(
        self, source: Value, outputs: int | None = None, same: bool = False, stride: int = 1, last: bool = False
    ) -> Value:
        channels = source.shape[0]
        groups = channels if outputs is None and self.chance(0.25) else 1
        outputs = outputs or (channels * self.integer(1, 2) if groups > 1 else self.integer(1, 4))
        kernel, padding, dilation, strides = (3, 3), (1, 1), (1, 1), (stride, stride)
        if not same:
            kernel, dilation, strides, padding = self.pair(1, 3), self.pair(1, 2), self.pair(1, 2), self.pair(0, 2)
            span = [source.shape[1 + i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) for i in (0, 1)]
            if min(span) < 1:
                kernel = (1, 1)
        bias = self.chance(0.5)
        module = QuantConv2d(
            channels, outputs, kernel, strides, padding, dilation, groups, bias, weight_bits=self.integer(2, 8),
            per_channel=self.chance(0.7),
        )  # fmt: skip
        return self.layer(source, self._with_weights(module, source, bias, last))

    def linear(self, source: Value, outputs: int | None = None, last: bool = False, bits: int | None = None) -> Value:
        if len(source.shape) > 1:
            source = self.layer(source, nn.Flatten(1), source.step)
        bias = last or (bits is None and self.chance(0.5))
        module = QuantLinear(
            source.shape[0], outputs or self.integer(1, 6), bias, weight_bits=bits or self.integer(2, 8),
            per_channel=self.chance(0.5),
        )  # fmt: skip
        return self.layer(source, self._with_weights(module, source, bias, last))

    def norm(self, source: Value) -> Value:
        """Gains over deviations are +- powers of two, now and then 0; the result spreads by about 1."""
        channels = source.shape[0]
        spread = source.data.transpose(0, 1).reshape(channels, -1).std(1)
        deviation = torch.tensor([power_of_two(float(s)) for s in spread])
        deviation = deviation.clamp_min(float(deviation.max()) / 256)
        eps = float(deviation.min()) ** 2 / 4  # deviation**2 - eps has at most 20 bits
        module = (nn.BatchNorm2d if len(source.shape) == 3 else nn.BatchNorm1d)(channels, eps=eps)
        gain = torch.from_numpy(2.0 ** self.rng.integers(-1, 2, channels) * self.rng.choice([-1.0, 1.0], channels))
        gain[torch.from_numpy(self.rng.random(channels) < 0.05)] = 0
        with torch.no_grad():
            module.running_var.copy_(deviation**2 - eps)
            module.running_mean.copy_(self.dyadic(channels, 1.0) * deviation)
            module.weight.copy_(gain)
            module.bias.copy_(self.dyadic(channels, 1.0))
        return self.layer(source, module)

    def activate(self, source: Value, step: float | None = None, signed: bool | None = None) -> Value:
        signed = self.chance(0.25) if signed is None else signed
        module = QuantActivation(self.integer(2 if signed else 1, 8 if self.chance(0.1) else 4), signed)
        spread = power_of_two(float(source.data.std()) * 2 / max(module.high, 1) ** 0.5)
        step = step or spread * 2.0 ** self.integer(-1, 1)
        with torch.no_grad():
            module.step.fill_(step)
            module.initialised.fill_(True)
        value = self.layer(source, module, step)
        if self.chance(0.1):
            value = self.layer(value, nn.Dropout() if self.chance(0.5) else nn.Identity(), step)
        return value

    # blocks

    def grow(self) -> None:
        source = self.sources[-1] if self.chance(0.8) else self.sources[self.integer(0, len(self.sources) - 1)]
        blocks: list[Callable[[Value], Value | None]] = [self._linear_block]
        if len(source.shape) == 3:
            blocks = [
                self._conv_block, self._conv_block, self._residual, self._residual, self._option_a, self._double,
                self._concat, self._raw_concat, self._max_pool, self._average_pool, self._upsample,
            ]  # fmt: skip
        if (made := blocks[self.integer(0, len(blocks) - 1)](source)) is not None:
            self.sources.append(made)

    def _maybe_norm(self, value: Value) -> Value:
        return self.norm(value) if self.chance(0.7) else value

    def _conv_block(self, source: Value) -> Value:
        return self.activate(self._maybe_norm(self.conv(source)))

    def _linear_block(self, source: Value) -> Value:
        return self.activate(self._maybe_norm(self.linear(source)))

    def _residual(self, source: Value) -> Value:
        """conv, act, conv plus identity or a 1x1 convolution, now and then a third term, batch norm after the sum."""
        middle = self.activate(self.norm(self.conv(source, same=True)))
        main = self.norm(self.conv(middle, outputs=source.shape[0], same=True))
        normed = self.activate(self.norm(source), signed=True) if self.chance(0.2) else source
        terms = [main, self.norm(self.conv(normed, source.shape[0], same=True)) if self.chance(0.4) else normed]
        if self.chance(0.3):
            terms.append(self.norm(self.conv(source, source.shape[0], same=True)))
        self.rng.shuffle(terms)  # type: ignore[arg-type]
        total = self.add(*terms)
        return self.activate(self.norm(total) if self.chance(0.2) else total)

    def _option_a(self, source: Value) -> Value:
        before, after = self.pair(0, 2)
        main = self.norm(self.conv(source, source.shape[0] + before + after, same=True, stride=2))
        kept = self.layer(source, Subsample((2, 2)), source.step)
        return self.activate(self.add(main, self.layer(kept, PadChannels(before, after), source.step)))

    def _double(self, source: Value) -> Value:
        return self.activate(self.add(source, source))

    def _concat(self, source: Value) -> Value:
        first = self.activate(self.norm(self.conv(source, same=True)))
        second = self.activate(self.norm(self.conv(source, same=True)), step=first.step)
        return self.cat(first, second)

    def _raw_concat(self, source: Value) -> Value:
        parts = [self.conv(source, same=True), self.norm(self.conv(source, same=True))]
        if self.chance(0.5):
            parts.append(source)
        return self.activate(self._maybe_norm(self.cat(*parts)))

    def _max_pool(self, source: Value) -> Value | None:
        kernel = self.pair(1, 3)
        padding = (self.integer(0, kernel[0] // 2), self.integer(0, kernel[1] // 2))
        dilation = self.pair(1, 2) if self.chance(0.3) else (1, 1)
        if any(source.shape[1 + i] < dilation[i] * (kernel[i] - 1) + 1 for i in (0, 1)):
            return None
        module = nn.MaxPool2d(kernel, self.pair(1, 3), padding, dilation, ceil_mode=self.chance(0.5))
        value = self.layer(source, module, source.step)
        return value if bool(torch.isfinite(value.data).all()) else None

    def _average_pool(self, source: Value) -> Value | None:
        """Read by an activation, by a convolution (relay), or flattened and read by a linear layer (folded)."""
        kernel = (2, 2) if min(source.shape[1:]) > 1 else (1, 1)
        module: nn.Module = nn.AvgPool2d(kernel, self.pair(1, 2), (kernel[0] // 2, 0))
        choice = self.integer(0, 3)
        if choice == 0 and min(source.shape[1:]) > 2:
            module = nn.AvgPool2d((3, 2), (2, 1), (1, 0), divisor_override=4)
        elif choice > 1:
            module = nn.AvgPool2d(kernel)
        pooled = self.layer(source, module)
        reader = self.integer(0, 2)
        if reader == 0:
            return self.activate(self.norm(pooled))
        return self.activate(self.norm(self.conv(pooled) if reader == 1 else self.linear(pooled)))

    def _upsample(self, source: Value) -> Value | None:
        if max(source.shape[1:]) > 8:
            return None
        value = self.layer(source, nn.Upsample(scale_factor=self.pair(1, 2), mode="nearest"), source.step)
        return self.activate(self._maybe_norm(self.conv(value)))

    def finish(self) -> None:
        """A linear readout, a sum, a flattened pool, or the spikes themselves."""
        source = self.sources[-1]
        endings: list[Callable[[], Any]] = [
            lambda: self.linear(source, last=True),
            lambda: self.add(self.linear(source, 3, last=True, bits=4), self.linear(source, 3, bits=4)),
            lambda: self.layer(source, nn.Identity(), source.step),
            lambda: self.activate(self.linear(source)),
            lambda: self.layer(source, nn.Flatten(1), source.step) if len(source.shape) > 1 else None,
        ]
        if len(source.shape) == 3 and min(source.shape[1:]) > 1:
            endings.append(lambda: self.layer(self.layer(source, nn.AvgPool2d(2)), nn.Flatten(1)))
            endings.append(lambda: self.layer(self.conv(source, last=True), nn.Flatten(1)))
        endings[self.integer(0, len(endings) - 1)]()

    def network(self) -> Program:
        return Program(self.layers, self.steps).eval()


def random_network(seed: int, blocks: int = 3) -> tuple[Program, tuple[int, ...], np.ndarray]:
    """(quantised model, input shape, raw images [4, ...] on the input's grid); about one in eight reads vectors."""
    builder = NetworkBuilder(seed, vector=seed % 8 == 7)
    for _ in range(builder.integer(1, blocks)):
        builder.grow()
    builder.finish()
    return builder.network(), builder.input_shape, builder.images.numpy()


# reference


def _count(module: QuantActivation, x: Tensor) -> Tensor:
    return torch.floor(x / module.step.double() + 0.5).clamp(module.low, module.high)


def apply_exactly(module: nn.Module, x: Tensor) -> Tensor:
    """The module's inference form in float64, from its parameters."""
    x = x.double()
    if isinstance(module, QuantInput):
        level = torch.floor(x / module.step + 0.5).clamp(module.low, module.high)
        return (level - module.offset.view(-1, *[1] * (x.dim() - 2))) * module.scale
    if isinstance(module, QuantActivation):
        return _count(module, x) * module.step.double()
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
        whole, scale = module.integer_weight()  # type: ignore[operator]
        weight = whole.double() * scale.view(-1, *[1] * (whole.dim() - 1))
        bias = None if module.bias is None else module.bias.double()
        if isinstance(module, nn.Linear):
            return F.linear(x, weight, bias)
        if isinstance(module, nn.ConvTranspose2d):
            outputs, per_group, *kernel = weight.shape
            grouped = weight.view(module.groups, outputs // module.groups, per_group, *kernel).transpose(1, 2)
            weight, sizes = grouped.reshape(-1, outputs // module.groups, *kernel), (module.stride, module.padding)
            return F.conv_transpose2d(x, weight, bias, *sizes, module.output_padding, module.groups, module.dilation)
        return F.conv2d(x, weight, bias, module.stride, module.padding, module.dilation, module.groups)
    if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm1d)):
        shape = (1, -1, *[1] * (x.dim() - 2))
        mean, variance, gain, bias = (
            t.double().view(shape) for t in (module.running_mean, module.running_var, module.weight, module.bias)
        )
        return (x - mean) / torch.sqrt(variance + module.eps) * gain + bias
    return module(x)


class Reference(fx.Interpreter):
    """Runs a canonical quantised model in float64 and keeps the value of every node, float64 [N, ...], by name."""

    def __init__(self, quantised: nn.Module) -> None:
        super().__init__(canonicalise(quantised), garbage_collect_values=False)
        self.values: dict[str, np.ndarray] = {}
        self.activations: dict[str, QuantActivation] = {}

    def call_module(self, target: Any, args: tuple, kwargs: dict) -> Any:
        return apply_exactly(self.fetch_attr(target), *args)

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        self.values[n.name] = result.detach().numpy()
        if n.op == "call_module" and isinstance(layer := self.fetch_attr(str(n.target)), QuantActivation):
            self.activations[n.name] = layer
        return result

    def counts(self, name: str) -> np.ndarray:
        """Integers of an activation, int64 [N, ...]; exact because its values are integers times the step."""
        step = float(self.activations[name].step.detach().double().abs())
        return np.rint(self.values[name] / step).astype(np.int64)


def reference(quantised: nn.Module, images: np.ndarray) -> tuple[np.ndarray, Reference]:
    """(answer float64 [N, ...], every value) for raw images."""
    run = Reference(quantised)
    with torch.no_grad():
        answer = run.run(torch.from_numpy(images).double())
    return answer.numpy(), run
