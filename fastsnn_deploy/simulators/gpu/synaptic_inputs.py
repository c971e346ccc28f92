"""The synaptic input of each synapse type for many rows at once, in exact integers.

A new synapse type needs nothing here: its primitive form (`Synapse.as_primitive`) is used. A faster form is one
class decorated with `@synaptic input(type)`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from fastsnn_deploy.graph import Conv2d, ConvTranspose2d, Identity, Linear, SumPool2d, Synapse, Upsample
from fastsnn_deploy.simulators.engine import Int64
from fastsnn_deploy.simulators.gpu.products import Product, make_product

WORKSPACE = {"cuda": 1 << 28, "cpu": 1 << 23}
"""Bytes of unrolled windows that one matrix product reads."""


class SynapticInput(ABC):
    """One synapse on a device. payload: greatest |spike| of each source channel, int64 [C]."""

    def __init__(self, synapse: Any, payload: Int64, device: torch.device) -> None:
        self.synapse = synapse
        self.device = device
        self.shift = torch.from_numpy(synapse.exponent.astype(np.int32)).to(device)

    @abstractmethod
    def add(self, rows: Tensor, total: Tensor) -> None:
        """Add the synaptic input of rows, int [N, *inner source], to total, int32 [N, *inner]."""


C = TypeVar("C", bound=type[SynapticInput])

SYNAPTIC_INPUTS: dict[type[Synapse], type[SynapticInput]] = {}
"""Synaptic input classes by synapse type."""


def synaptic_input(synapse: type[Synapse]) -> Callable[[C], C]:
    """Class decorator: register the device form of a synapse type."""

    def decorator(cls: C) -> C:
        SYNAPTIC_INPUTS[synapse] = cls
        return cls

    return decorator


def make_synaptic_input(synapse: Synapse, payload: Int64, device: torch.device) -> SynapticInput:
    """The device form of a synapse, through its primitive form if its type has none of its own."""
    form = synapse if type(synapse) in SYNAPTIC_INPUTS else synapse.as_primitive()
    return SYNAPTIC_INPUTS[type(form)](form, payload, device)


@synaptic_input(Linear)
class LinearSynapticInput(SynapticInput):
    """One matrix product."""

    def __init__(self, synapse: Linear, payload: Int64, device: torch.device) -> None:
        super().__init__(synapse, payload, device)
        self.product = make_product(synapse.weight.T, payload, device)

    def add(self, rows: Tensor, total: Tensor) -> None:
        for some, into in in_parts(rows, total, rows[:1].numel() * self.product.weight.itemsize):
            into += self.product(some) << self.shift


@synaptic_input(Conv2d)
class ConvSynapticInput(SynapticInput):
    """Windows unrolled to rows, then one matrix product for each group."""

    def __init__(self, synapse: Conv2d, payload: Int64, device: torch.device) -> None:
        super().__init__(synapse, payload, device)
        outputs, per_group, kh, kw = synapse.weight.shape
        self.depthwise = per_group == 1 and synapse.groups > 1
        self.products: list[Product] = []
        if self.depthwise:
            taps = synapse.weight.reshape(outputs, kh, kw).astype(np.int32)
            self.taps = torch.from_numpy(taps.transpose(1, 2, 0).copy()).to(device)
            return
        each = outputs // synapse.groups
        for group in range(synapse.groups):
            weight = synapse.weight[group * each : (group + 1) * each].transpose(2, 3, 1, 0)  # kh, kw, I, O
            bound = np.tile(payload[group * per_group : (group + 1) * per_group], kh * kw)
            self.products.append(make_product(weight.reshape(-1, each), bound, device))

    def add(self, rows: Tensor, total: Tensor) -> None:
        conv = self.synapse
        taps = conv.kernel[0] * conv.kernel[1] * rows.shape[-1]
        width = 4 if self.depthwise else max(4, *(p.weight.itemsize for p in self.products))
        per_row = conv.shape[1] * conv.shape[2] * taps * width
        for some, into in in_parts(rows, total, per_row):
            if self.depthwise:
                self._add_depthwise(some, into)
            else:
                self._add_groups(some, into)

    def _add_groups(self, rows: Tensor, total: Tensor) -> None:
        conv = self.synapse
        inputs, outputs = rows.shape[-1] // conv.groups, conv.shape[0] // conv.groups
        view = windows(rows, conv.kernel, conv.stride, conv.padding, conv.dilation)
        for group, product in enumerate(self.products):
            channels = slice(group * outputs, (group + 1) * outputs)
            some = view[..., group * inputs : (group + 1) * inputs]
            columns = some.reshape(-1, conv.kernel[0] * conv.kernel[1] * inputs)
            synaptic_input = product(columns) << self.shift[channels]
            total[..., channels] += synaptic_input.reshape(*total.shape[:-1], outputs)

    def _add_depthwise(self, rows: Tensor, total: Tensor) -> None:
        conv = self.synapse
        view = windows(rows, conv.kernel, conv.stride, conv.padding, conv.dilation)
        for y in range(conv.kernel[0]):
            for x in range(conv.kernel[1]):
                some = view[:, :, :, y, x].to(torch.int32).repeat_interleave(conv.shape[0] // rows.shape[-1], -1)
                total += (some * self.taps[y, x]) << self.shift


@synaptic_input(ConvTranspose2d)
class ConvTransposeSynapticInput(SynapticInput):
    """One matrix product for each group, from channels to channels and taps; then every tap to its positions."""

    def __init__(self, synapse: ConvTranspose2d, payload: Int64, device: torch.device) -> None:
        super().__init__(synapse, payload, device)
        outputs, inputs = synapse.channels // synapse.groups, synapse.weight.shape[1]
        self.products: list[Product] = []
        for group in range(synapse.groups):
            weight = synapse.weight[group * outputs : (group + 1) * outputs].transpose(1, 2, 3, 0)  # I, kh, kw, O
            bound = payload[group * inputs : (group + 1) * inputs]
            self.products.append(make_product(weight.reshape(inputs, -1), bound, device))

    def add(self, rows: Tensor, total: Tensor) -> None:
        conv = self.synapse
        made = rows.shape[1] * rows.shape[2] * conv.kernel[0] * conv.kernel[1] * (conv.channels // conv.groups)
        for some, into in in_parts(rows, total, 4 * made):
            for group, product in enumerate(self.products):
                self._add_group(some, into, group, product)

    def _add_group(self, rows: Tensor, total: Tensor, group: int, product: Product) -> None:
        conv = self.synapse
        inputs, outputs = conv.weight.shape[1], conv.channels // conv.groups
        channels = slice(group * outputs, (group + 1) * outputs)
        columns = rows[..., group * inputs : (group + 1) * inputs].reshape(-1, inputs)
        made = product(columns).reshape(*rows.shape[:3], *conv.kernel, outputs) << self.shift[channels]
        for y in range(conv.kernel[0]):
            for x in range(conv.kernel[1]):
                (read, to), (read_x, to_x) = (self._lines(i, tap, rows.shape[1 + i]) for i, tap in ((0, y), (1, x)))
                total[:, to, to_x, channels] += made[:, read, read_x, y, x]

    def _lines(self, axis: int, tap: int, size: int) -> tuple[slice, slice]:
        """The lines of the source whose tap falls on the map, and the lines of the map where it does."""
        conv = self.synapse
        step, place = conv.stride[axis], tap * conv.dilation[axis] - conv.padding[axis]
        first = max(0, -(place // step))
        last = min(size, (conv.shape[1 + axis] - 1 - place) // step + 1)
        count = max(0, last - first)
        start = place + first * step if count else 0
        return slice(first, first + count), slice(start, start + count * step, step)


class ChannelwiseSynapticInput(SynapticInput):
    """One weight for each channel."""

    def __init__(self, synapse: Synapse, payload: Int64, device: torch.device) -> None:
        super().__init__(synapse, payload, device)
        self.weight = torch.from_numpy(synapse.effective_weight.astype(np.int32)).to(device)


@synaptic_input(Identity)
class IdentitySynapticInput(ChannelwiseSynapticInput):
    """Weight times spike."""

    def add(self, rows: Tensor, total: Tensor) -> None:
        total += rows * self.weight


@synaptic_input(SumPool2d)
class SumPoolSynapticInput(ChannelwiseSynapticInput):
    """The window's taps one after another."""

    def add(self, rows: Tensor, total: Tensor) -> None:
        pool = self.synapse
        view = windows(rows, pool.kernel, pool.stride, pool.padding, (1, 1))
        for y in range(pool.kernel[0]):
            for x in range(pool.kernel[1]):
                total += view[:, :, :, y, x] * self.weight


@synaptic_input(Upsample)
class UpsampleSynapticInput(ChannelwiseSynapticInput):
    """Every spike into a block of positions."""

    def add(self, rows: Tensor, total: Tensor) -> None:
        height, width = self.synapse.factor
        synaptic_input = rows * self.weight
        for y in range(height):
            for x in range(width):
                total[:, y::height, x::width] += synaptic_input


def windows(
    rows: Tensor, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], dilation: tuple[int, int]
) -> Tensor:
    """Every window of rows [N, H, W, C] as a view [N, OH, OW, kh, kw, C]; positions outside hold 0."""
    (ph, pw), (dh, dw) = padding, dilation
    if ph or pw:
        rows = torch.nn.functional.pad(rows, (0, 0, pw, pw, ph, ph))
    view = rows.unfold(1, dh * (kernel[0] - 1) + 1, stride[0]).unfold(2, dw * (kernel[1] - 1) + 1, stride[1])
    return view[..., ::dh, ::dw].permute(0, 1, 2, 4, 5, 3)


def in_parts(rows: Tensor, total: Tensor, row_bytes: int) -> list[tuple[Tensor, Tensor]]:
    """Pieces of both along the first axis whose unrolled rows fit the workspace."""
    count = max(1, WORKSPACE[rows.device.type] // max(1, row_bytes))
    return list(zip(torch.split(rows, count), torch.split(total, count), strict=True)) if len(rows) else []
