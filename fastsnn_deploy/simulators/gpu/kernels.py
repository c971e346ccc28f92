"""Launching the Triton kernels, and finding out whether they run here."""

from __future__ import annotations

import importlib
import os
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastsnn_deploy.graph import Conv2d, Linear, MaxPool2d, Synapse
from fastsnn_deploy.simulators.engine import Int64
from fastsnn_deploy.simulators.gpu.neurons import Cell, Drive, State, rest

BLOCK = 1024
BLOCK_M = 64
WIDE = 64
"""Neurons of one program of the neuron kernel; positions, and most channels, of one of the convolution kernel."""

WARPS = 4
"""Of one program of the convolution kernel."""

TOGETHER = 64
"""Images of one program that counts."""

Counted = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""int64 [T, B] events of each image and row; int64 [*inner] events, and sum of magnitudes unless ternary; int64 [1]
positive events; int32 [1] greatest magnitude unless ternary."""

TWO_DIGITS = 127 * 128 + 63
"""Largest payload of the convolution kernel."""

NARROWEST_DOT = 32
"""Fewest columns that an int8 tensor core product takes at once."""


@dataclass(frozen=True)
class Beside:
    """An identity arm for the convolution kernel.

    weight: int32 [O]. rows: int [S, B, *inner], arriving from row `first` on.
    """

    weight: Tensor
    rows: Tensor
    first: int


@dataclass(frozen=True)
class FusedConv:
    """A convolution or linear synapse as the convolution kernel reads it.

    weight: int8 [O, K'], row o the weights of channel o in the order (tap y, tap x, channel), zeros up to a multiple
    of `columns`. shift: int32 [O]. Pairs are (height, width). digits: 1 for an int8 source, 2 for int16.
    """

    weight: Tensor
    shift: Tensor
    channels: int
    taps: int
    kernel_width: int
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    digits: int
    columns: int


def fuse(synapse: Synapse, payload: Int64, device: torch.device) -> FusedConv | None:
    """The form of a synapse for the convolution kernel; None if it has groups, no dense weights, or large payloads."""
    largest = int(payload.max(initial=0))
    if largest > TWO_DIGITS:
        return None
    if isinstance(synapse, Linear):
        weight, kernel, stride, padding, dilation = synapse.weight[:, :, None, None], (1, 1), (1, 1), (0, 0), (1, 1)
    elif isinstance(synapse, Conv2d) and synapse.groups == 1:
        weight, kernel, stride = synapse.weight, synapse.kernel, synapse.stride
        padding, dilation = synapse.padding, synapse.dilation
    else:
        return None
    rows = weight.transpose(0, 2, 3, 1).reshape(len(weight), -1)
    columns = 64 if rows.shape[1] > NARROWEST_DOT else NARROWEST_DOT
    padded = np.pad(rows, ((0, 0), (0, -rows.shape[1] % columns)))
    return FusedConv(
        weight=torch.from_numpy(padded.copy()).to(device),
        shift=torch.from_numpy(synapse.exponent.astype(np.int32)).to(device),
        channels=weight.shape[1],
        taps=rows.shape[1],
        kernel_width=kernel[1],
        stride=stride,
        padding=padding,
        dilation=dilation,
        digits=1 if largest <= 127 else 2,
        columns=columns,
    )


class Kernels:
    """The loaded kernels. source: the module `triton_source`."""

    def __init__(self, source: Any) -> None:
        self.source = source

    def _rule(self, cell: Cell) -> Any:
        return self.source.single if cell.single else self.source.general

    def advance(self, cell: Cell, state: State, drive: Drive | None, spikes: Tensor) -> bool:
        """Neurons through the steps of `spikes`; an `Advance` as in `neurons`."""
        size = state.potential.numel()
        if not size or not len(spikes):
            return bool(cell.emit(state.potential, state.count).any())
        pending = torch.zeros(1, dtype=torch.int32, device=spikes.device)
        synaptic_input = None if drive is None else drive.synaptic_input
        self.source.advance_neurons[(-(-size // BLOCK),)](
            state.count if synaptic_input is None else synaptic_input,
            cell.threshold if drive is None else drive.bias,
            cell.threshold, spikes, state.potential, state.count, pending,
            size, len(cell.threshold), len(spikes),
            0 if synaptic_input is None else len(synaptic_input), 0 if drive is None else len(drive.bias), cell.floor,
            cell.ceiling, cell.min_spike, cell.max_spike, EMIT=self._rule(cell), BLOCK=BLOCK, num_warps=4,
        )  # fmt: skip
        return bool(pending.item())

    def advance_conv(
        self,
        conv: FusedConv,
        cell: Cell,
        state: State,
        arriving: Tensor,
        first: int,
        drive: Drive,
        spikes: Tensor,
        beside: Beside | None = None,
    ) -> bool:
        """Neurons from rest through the steps of `spikes`, driven by a convolution, by `drive`, and by an identity.

        arriving: int8 or int16 [S, B, *inner source], from row `first` on. state: overwritten. Returns whether a
        neuron would still fire.
        """
        if not state.potential.numel() or not len(spikes):
            return bool(cell.emit(state.potential, state.count).any())
        height, width = arriving.shape[2:4] if arriving.dim() == 5 else (1, 1)
        out_height, out_width = cell.inner[:2] if len(cell.inner) == 3 else (1, 1)
        outputs, images = cell.inner[-1], spikes.shape[1]
        across = min(WIDE, max(16, 1 << (outputs - 1).bit_length()))
        grid = (-(-images * out_height * out_width // BLOCK_M), -(-outputs // across))
        pending = torch.zeros(1, dtype=torch.int32, device=spikes.device)
        self.source.advance_conv[grid](
            arriving.contiguous(), conv.weight, conv.shift,
            state.count if drive.synaptic_input is None else drive.synaptic_input,
            state.count if beside is None else beside.rows, cell.threshold if beside is None else beside.weight,
            drive.bias, cell.threshold, cell.initial,
            spikes, state.potential, state.count, pending,
            images, len(spikes), first, len(arriving),
            0 if beside is None else beside.first, 0 if beside is None else len(beside.rows), len(drive.bias),
            height, width, out_height, out_width,
            cell.floor, cell.ceiling, cell.min_spike, cell.max_spike,
            CHANNELS=conv.channels, OUTPUTS=outputs, TAPS=conv.taps, PADDED=conv.weight.shape[1],
            KERNEL_WIDTH=conv.kernel_width, STRIDE_H=conv.stride[0], STRIDE_W=conv.stride[1],
            PAD_H=conv.padding[0], PAD_W=conv.padding[1], DILATION_H=conv.dilation[0], DILATION_W=conv.dilation[1],
            DIGITS=conv.digits, MORE=drive.synaptic_input is not None, SIDE=beside is not None,
            EMIT=self._rule(cell),
            BLOCK_M=BLOCK_M, BLOCK_N=across, BLOCK_K=conv.columns, num_warps=WARPS,
        )  # fmt: skip
        return bool(pending.item())

    def count_sent(self, rows: Tensor, ternary: bool) -> Counted:
        """Statistics of rows int [T, B, *inner]; see `statistics.count_sent`."""
        size = rows[0, 0].numel()
        per_image = torch.zeros(rows.shape[:2], dtype=torch.int64, device=rows.device)
        events, payload, positive = (per_image.new_zeros(count) for count in (size, size, 1))
        largest = torch.zeros(1, dtype=torch.int32, device=rows.device)
        grid = (-(-size // BLOCK), -(-rows.shape[1] // TOGETHER), rows.shape[0])
        self.source.count_sent[grid](
            rows.contiguous(), per_image, events, payload, positive, largest, rows.shape[1], size,
            TERNARY=ternary, TOGETHER=TOGETHER, BLOCK=BLOCK, num_warps=4,
        )  # fmt: skip
        inner = rows.shape[2:]
        return per_image, events.view(inner), payload.view(inner), positive, largest

    def pool_spikes(self, node: MaxPool2d, arriving: Tensor) -> Tensor:
        """What a max pool sends; see `pool.pool_spikes`."""
        rows, batch, height, width, channels = arriving.shape
        _, out_height, out_width = node.shape
        sent = torch.empty((rows, batch, out_height, out_width, channels), dtype=arriving.dtype, device=arriving.device)
        positions, taps = batch * out_height * out_width, node.kernel[0] * node.kernel[1]
        wide = 1 << (taps - 1).bit_length()
        block = max(32, BLOCK // wide)
        if sent.numel():
            self.source.pool_spikes[(-(-positions * channels // block),)](
                arriving.contiguous(), sent, positions, rows, height, width, out_height, out_width,
                CHANNELS=channels, KERNEL_H=node.kernel[0], KERNEL_W=node.kernel[1],
                STRIDE_H=node.stride[0], STRIDE_W=node.stride[1], PAD_H=node.padding[0], PAD_W=node.padding[1],
                DILATION_H=node.dilation[0], DILATION_W=node.dilation[1], TAPS=wide, BLOCK=block, num_warps=4,
            )  # fmt: skip
        return sent


def load_kernels(device: torch.device) -> Kernels | None:
    """The kernels, if Triton is installed and a first one gives the right answer on this device; otherwise None.

    On a processor they run only in Triton's interpreter, when the environment variable TRITON_INTERPRET is 1.
    """
    if device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return None
    try:
        kernels = Kernels(importlib.import_module("fastsnn_deploy.simulators.gpu.triton_source"))
    except ImportError:
        return None
    try:
        if _works(kernels, device):
            return kernels
        reason = "they give wrong numbers"
    except Exception as error:  # no C compiler for Triton's launcher, an unknown GPU: PyTorch alone is as exact
        reason = f"{type(error).__name__}: {error}"
    warnings.warn(f"Triton kernels do not run on {device}, which costs speed ({reason})", RuntimeWarning, stacklevel=2)
    return None


def _works(kernels: Kernels, device: torch.device) -> bool:
    threshold, initial = (torch.tensor([value], dtype=torch.int32, device=device) for value in (2, 5))
    cell = Cell(threshold, initial, 0, 3, -1, 1, (1,), 0, torch.int8, True)
    spikes = torch.empty((3, 1, 1), dtype=torch.int8, device=device)
    pending = kernels.advance(cell, rest(cell, 1), None, spikes)
    return not pending and spikes.flatten().tolist() == [1, 1, 0]
