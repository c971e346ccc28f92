"""Random float networks as a user might write them: branches, operations in place, norms in any order, odd names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

NAMES = ("conv", "class", "relu-1", "a b", "graph", "x/y", "layer", "training_", "image", "0")
Step = tuple[str, Any, tuple[int, ...]]


class Walked(nn.Module):
    """A network given as steps: (kind, layer name or setting, indices of the values it reads)."""

    def __init__(self, layers: dict[str, nn.Module], steps: list[Step]) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.steps = tuple(steps)

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for kind, setting, sources in self.steps:
            values.append(FUNCTIONS[kind](self, setting, *(values[i] for i in sources)))
        return values[-1]


def _add_in_place(x: Tensor, y: Tensor) -> Tensor:
    x += y
    return x


FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "layer": lambda net, name, x: net.get_submodule(name)(x),
    "relu": lambda net, _, x: F.relu(x),
    "relu_": lambda net, _, x: F.relu_(x),
    "relu6": lambda net, _, x: F.relu6(x),
    "clamp": lambda net, top, x: x.clamp(0, top),
    "add": lambda net, _, x, y: x + y,
    "add_": lambda net, _, x, y: _add_in_place(x, y),
    "sub": lambda net, _, x, y: torch.sub(x, y, alpha=0.5),
    "cat": lambda net, _, *xs: torch.cat(xs, 1),
    "scale": lambda net, factor, x: x * factor,
    "half": lambda net, _, x: x.chunk(2, 1)[1],
    "shuffle": lambda net, _, x: x.view(len(x), 2, x.shape[1] // 2, *x.shape[2:]).transpose(1, 2).reshape(x.shape),
    "pad": lambda net, sides, x: F.pad(x, sides),
    "training": lambda net, _, x: x * 0.5 if net.training else x,
    "silu": lambda net, _, x: F.silu(x),
    "square": lambda net, _, x: x * x,
    "mean": lambda net, _, x: x.mean((2, 3)),
    "flatten": lambda net, _, x: x.view(x.shape[0], -1),
}


class Builder:
    """Grows a network step by step; shapes follow by running it."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        torch.manual_seed(seed % 2**31)
        self.layers: dict[str, nn.Module] = {}
        self.steps: list[Step] = []
        self.values: list[Tensor] = [torch.rand(2, self.pick(1, 3), 8, 8)]

    def pick(self, *choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def step(self, kind: str, setting: Any, *sources: int) -> int:
        self.steps.append((kind, setting, sources))
        with torch.no_grad():
            copies = [self.values[i].clone() for i in sources]
            self.values.append(FUNCTIONS[kind](Walked(self.layers, []).eval(), setting, *copies))
        return len(self.values) - 1

    def layer(self, layer: nn.Module, source: int) -> int:
        name = f"{self.pick(*NAMES)}{len(self.layers) if self.layers else ''}"
        self.layers[name] = layer
        return self.step("layer", name, source)

    def conv(self, source: int, outputs: int | None = None) -> int:
        channels = self.values[source].shape[1]
        kernel = self.pick(1, 3, 3)
        layer = nn.Conv2d(
            channels, outputs or self.pick(2, 4), kernel, padding=kernel // 2, bias=self.pick(True, False)
        )
        return self.layer(layer, source)

    def norm(self, source: int) -> int:
        norm = nn.BatchNorm2d(self.values[source].shape[1])
        for tensor in (norm.running_mean, norm.weight, norm.bias):
            nn.init.normal_(tensor)  # type: ignore[arg-type]
        nn.init.uniform_(norm.running_var, 0.1, 2)  # type: ignore[arg-type]
        norm.train(self.pick(True, False))
        return self.layer(norm, source)

    def activate(self, source: int) -> int:
        kind = self.pick("relu", "relu", "relu_", "relu6", "clamp", "layer", "leave")
        if kind == "layer":
            return self.layer(nn.ReLU(inplace=self.pick(True, False)), source)
        return source if kind == "leave" else self.step(kind, self.pick(0.5, 2.0), source)

    def block(self, source: int) -> int:
        made = self.conv(self.norm(source) if self.pick(True, False, False) else source)
        made = self.norm(made) if self.pick(True, False) else made
        return self.activate(made)

    def grow(self, source: int) -> int:
        channels = self.values[source].shape[1]
        rare = ("silu", "square") if self.rng.random() < 0.15 else ()
        kind = self.pick(
            "block", "block", "residual", "cat", "pool", "average", "scale", "half", "shuffle", "pad", "training",
            "dropout", "twice", *rare,
        )  # fmt: skip
        if kind == "residual":
            kept = self.layer(self.pick(nn.Identity(), nn.Dropout()), source)
            made = self.conv(self.block(source), channels)
            return self.activate(self.step(self.pick("add", "add_", "sub"), None, made, kept))
        if kind == "cat":
            return self.step("cat", None, self.block(source), self.pick(source, self.block(source)))
        if kind == "pool":
            return self.layer(nn.MaxPool2d(2, self.pick(1, 2)), source) if self.values[source].shape[-1] > 3 else source
        if kind == "average":
            return self.layer(nn.AvgPool2d(2), source) if self.values[source].shape[-1] > 3 else source
        if kind == "half":
            return self.step("half", None, source) if channels > 1 else source
        if kind == "shuffle":
            return self.step("shuffle", None, source) if channels % 2 == 0 else source
        if kind == "dropout":
            return self.layer(self.pick(nn.Dropout(), nn.Dropout2d()), source)
        if kind == "twice":
            layer = nn.Conv2d(channels, channels, 3, padding=1)
            self.layers[name := f"shared{len(self.layers)}"] = layer
            once = self.step("relu", None, self.step("layer", name, source))
            return self.step("relu", None, self.step("layer", name, once))
        if kind == "block":
            return self.block(source)
        return self.step(
            kind, {"scale": self.pick(0.5, 2.0, 3), "pad": self.pick((1, 0, 1, 0), (0, 2, 0, 1))}.get(kind), source
        )

    def network(self) -> Walked:
        source = 0
        for _ in range(int(self.rng.integers(2, 6))):
            source = self.grow(source)
        ending = self.pick("mean", "flatten", "maps")
        if ending == "maps":
            self.conv(source)
        else:
            flat = self.step(ending, None, source)
            self.layer(nn.Linear(self.values[flat].shape[1], 3), flat)
        network = Walked(self.layers, self.steps)
        network.training = bool(self.pick(True, False))
        return network


def random_torch_network(seed: int) -> tuple[nn.Module, Tensor]:
    """(float network, raw images [8, C, 8, 8] on the 8-bit grid)."""
    builder = Builder(seed)
    network = builder.network()
    generator = torch.Generator().manual_seed(seed % 2**31)
    return network, (torch.rand(8, builder.values[0].shape[1], 8, 8, generator=generator) * 255).round() / 255
