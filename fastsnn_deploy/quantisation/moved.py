"""Reshapes, permutations, slices and pads, followed by what they do to positions rather than by how they are written.

Every operation that only moves values is run on the positions themselves: `index` holds, for each place of the
result, the flat position in one image of the value it comes from, or -1 for a zero. What is left to do is to
recognise in `index` the few layers that move values here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from fastsnn_deploy.quantisation.graph_edit import UnsupportedError
from fastsnn_deploy.quantisation.moves import PadChannels, PadSpace, SelectChannels, Subsample

BATCH = 2
"""Images in the example that is captured."""


@dataclass(eq=False)
class Moved:
    """Values of `node` (shape `source` for one image) at the places `index`, float64 of the moved shape."""

    node: fx.Node
    source: tuple[int, ...]
    index: Tensor
    made: fx.Node | None = field(default=None)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.index.shape)

    @property
    def in_order(self) -> bool:
        """True for a mere reshape."""
        return self.index.numel() == _size(self.source) and bool(
            (self.index.flatten() == _positions(self.source)).all()
        )


def unmoved(node: fx.Node, shape: tuple[int, ...], as_shape: tuple[int, ...] | None = None) -> Moved:
    """All values of a node, reshaped."""
    return Moved(node, shape, _positions(shape).view(shape if as_shape is None else as_shape))


def move(value: Moved, operation: Callable[[Tensor], Any]) -> Any:
    """What an operation on a batch makes of a value: a Moved, or a list of them."""
    size = _size(value.source)
    images = torch.arange(BATCH, dtype=torch.float64).view(-1, *[1] * value.index.dim()) * size
    batch = torch.where(value.index >= 0, value.index + images, -1.0)
    try:
        result = operation(batch)
    except (RuntimeError, IndexError) as error:  # after a place that has no form, shapes are guesses
        raise UnsupportedError(f"cannot be followed ({str(error).splitlines()[0]})") from error
    if isinstance(result, Tensor):
        return _one_image(value, result, size)
    return [_one_image(value, part, size) for part in result]


def join(values: list[Moved], axis: int) -> Moved:
    """Parts of one value, or zeros, side by side; axis counts the batch."""
    return Moved(values[0].node, values[0].source, torch.cat([value.index for value in values], axis - 1))


def as_map(value: Moved) -> Moved:
    """A line (C, L) as the map (C, 1, L); anything else as it is."""
    return Moved(value.node, value.source, value.index.unsqueeze(1)) if len(value.shape) == 2 else value


def layers_of(value: Moved) -> list[nn.Module]:
    """Layers that move the values of `value.node` so. Raises UnsupportedError if there are none."""
    if value.in_order and value.shape == value.source:
        return []
    flat: list[nn.Module] = [nn.Flatten(1)] if len(value.source) > 1 else []
    if len(value.shape) == 1:
        return flat if value.in_order else [*flat, SelectChannels(value.index.long().tolist())]
    if len(value.shape) != 3 or len(value.source) != 3:
        raise UnsupportedError(
            f"reshapes {value.source} to {value.shape} (without the batch)",
            "Only maps (C, H, W) and vectors (N,) exist",
        )
    return _map_layers(value)


def _size(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())


def _positions(shape: tuple[int, ...]) -> Tensor:
    return torch.arange(_size(shape), dtype=torch.float64)


def _one_image(value: Moved, result: Tensor, size: int) -> Moved:
    if result.dim() < 2 or len(result) != BATCH:
        raise UnsupportedError("moves the batch axis", "Keep the images of a batch along the first axis")
    first = result[0]
    for number, other in enumerate(result):
        if not torch.equal(torch.where(first >= 0, first + number * size, first), other):
            raise UnsupportedError("mixes the images of a batch", "Keep the images of a batch along the first axis")
    return Moved(value.node, value.source, first.clone())


def _map_layers(value: Moved) -> list[nn.Module]:
    """Cut or pad, thin out, then choose channels."""
    channels, height, width = value.source
    index, inside = value.index.long(), value.index >= 0
    parts = (index // (height * width), index // width % height, index % width)
    axes = [_axis(part, inside, axis) for axis, part in enumerate(parts)]
    whole = axes[0][1].view(-1, 1, 1) & axes[1][1].view(-1, 1) & axes[2][1]
    if not torch.equal(whole, inside) or not inside.any():
        raise _not_separable()
    found: list[nn.Module] = []
    top, bottom, down = _steps(*axes[1], height)
    left, right, across = _steps(*axes[2], width)
    if any((left, right, top, bottom)):
        found.append(PadSpace(left, right, top, bottom))
    if (down, across) != (1, 1):
        found.append(Subsample((down, across)))
    chosen = torch.where(axes[0][1], axes[0][0], -1).tolist()
    if chosen != list(range(channels)):
        found.append(_channel_layer(chosen, channels))
    return found


def _channel_layer(chosen: list[int], channels: int) -> nn.Module:
    if set(range(channels)) <= set(chosen):
        before = chosen.index(0)
        if chosen == [-1] * before + list(range(channels)) + [-1] * (len(chosen) - channels - before):
            return PadChannels(before, len(chosen) - channels - before)
    return SelectChannels(chosen)


def _axis(part: Tensor, inside: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """(source position, whether there is one) for each position of an axis, which must not depend on the others."""
    others = tuple(a for a in range(3) if a != axis)
    high, low = torch.where(inside, part, -1).amax(others), torch.where(inside, part, 2**62).amin(others)
    there = inside.any(others[1]).any(others[0])
    if not torch.equal(high[there], low[there]):
        raise _not_separable()
    return high, there


def _steps(positions: Tensor, there: Tensor, size: int) -> tuple[int, int, int]:
    """(before, after, stride) that cut, pad and thin out an axis of `size` so."""
    places = there.nonzero().flatten()
    first, count = int(places[0]), len(positions)
    stride = int(positions[places[1]] - positions[first]) if len(places) > 1 and places[1] == first + 1 else 1
    start = int(positions[first]) - first * stride
    expected = start + stride * torch.arange(count)
    if stride < 1 or not torch.equal(torch.where((expected >= 0) & (expected < size), expected, -1),
                                     torch.where(there, positions, -1)):  # fmt: skip
        raise _not_separable()
    if (size - start - 1) // stride + 1 == count:
        return -start, 0, stride
    return -start, (count - 1) * stride + 1 - (size - start), stride


def _not_separable() -> UnsupportedError:
    return UnsupportedError(
        "moves values between places in a way that no layer does", "Use slices, zero pads and choices of channels"
    )
