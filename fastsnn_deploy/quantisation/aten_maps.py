"""What pools, moves and concatenations of a captured network become: one function an operation, as in `aten_rules`."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, fx, nn

from fastsnn_deploy.quantisation.aten_rules import Arguments, affine, is_value, pair
from fastsnn_deploy.quantisation.exported import Constant, Translator, aten
from fastsnn_deploy.quantisation.filters import Bilinear, BorderAverage, UnevenAverage
from fastsnn_deploy.quantisation.graph_edit import UnsupportedError
from fastsnn_deploy.quantisation.moved import BATCH, Moved, join, move, unmoved

# pools


@aten("max_pool2d", "max_pool2d_with_indices", "max_pool1d", "max_pool1d_with_indices")
def _max_pool(translator: Translator, a: Arguments) -> Any:
    """MaxPool2d."""
    kernel, stride, padding = _window(a)
    source, dilation = _map(translator, a["self"]), pair(a["dilation"])
    if a["ceil_mode"] and dilation == (1, 1):  # a window that is larger than the map has all of it
        sizes = translator.shape(source)[1:]
        kernel = (min(kernel[0], sizes[0] + 2 * padding[0]), min(kernel[1], sizes[1] + 2 * padding[1]))
    layer = nn.MaxPool2d(kernel, stride, padding, dilation, ceil_mode=bool(a["ceil_mode"]))
    node = translator.call(layer, source)
    return [node, None] if "with_indices" in str(translator.here.target) else node


def _window(a: Arguments) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """(kernel, stride, padding) of a pool."""
    return pair(a["kernel_size"]), pair(a["stride"] or a["kernel_size"]), pair(a["padding"], line=0)


@aten("avg_pool2d", "avg_pool1d")
def _avg_pool(translator: Translator, a: Arguments) -> fx.Node:
    """AvgPool2d; with relays for the borders where these divide by less."""
    kernel, stride, padding = _window(a)
    source, override = _map(translator, a["self"]), a.get("divisor_override")
    sizes, inside = translator.shape(source)[1:], override is None and not a["count_include_pad"]
    if override is not None and override <= 0:
        raise UnsupportedError(f"divisor_override {override} is not positive", "Use a positive divisor")
    left = [(sizes[i] + 2 * padding[i] - kernel[i]) % stride[i] for i in (0, 1)]
    if (a["ceil_mode"] and any(left)) or (inside and any(padding)):
        if override is not None:
            raise UnsupportedError("average pool with ceil_mode and divisor_override", "Use ceil_mode=False")
        return translator.call(BorderAverage(kernel, stride, padding, a["ceil_mode"], a["count_include_pad"]), source)
    return translator.call(nn.AvgPool2d(kernel, stride, padding, divisor_override=override), source)


@aten("adaptive_avg_pool2d", "adaptive_avg_pool1d")
def _adaptive_avg_pool(translator: Translator, a: Arguments) -> Any:
    """AvgPool2d where all windows are alike, else a relay for each place."""
    source = _map(translator, a["self"])
    sizes, wanted = translator.shape(source)[1:], _wanted(translator, source, a["output_size"])
    if all(size % want == 0 for size, want in zip(sizes, wanted, strict=True)):
        return source if sizes == wanted != (1, 1) else translator.call(nn.AdaptiveAvgPool2d(wanted), source)
    if all(want % size == 0 for size, want in zip(sizes, wanted, strict=True)):
        return translator.call(nn.Upsample(size=wanted), source)
    if (window := _even_windows(sizes, wanted)) is not None:
        return translator.call(nn.AvgPool2d(*window), source)
    if wanted[0] * wanted[1] <= MOST_UNEVEN:
        return translator.call(UnevenAverage(wanted), source)
    raise UnsupportedError(f"adaptive pool from {sizes} to {wanted}", "Use sizes that divide, or give input_shape")


MOST_UNEVEN = 64
"""Places of an uneven average; each takes a relay population."""


def _wanted(translator: Translator, source: fx.Node, size: Any) -> tuple[int, int]:
    """Height and width of an adaptive pool's result; None in a size is that of the map."""
    given = list(size) if isinstance(size, (tuple, list)) else [size, size]
    sizes = translator.shape(source)[1:]
    height, width = (own if want is None else want for own, want in zip(sizes, [1, *given][-2:], strict=True))
    return int(height), int(width)


def _even_windows(sizes: tuple[int, ...], wanted: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """(kernel, stride) of an adaptive pool all of whose windows are of one size and equally far apart."""
    found = []
    for size, want in zip(sizes, wanted, strict=True):
        starts = [i * size // want for i in range(want)]
        kernels = {-(-(i + 1) * size // want) - start for i, start in enumerate(starts)}
        strides = {b - a for a, b in pairwise(starts)} or {1}
        if len(kernels) > 1 or len(strides) > 1 or strides == {0}:
            return None
        found.append((kernels.pop(), strides.pop()))
    return (found[0][0], found[1][0]), (found[0][1], found[1][1])


@aten("adaptive_max_pool2d", "adaptive_max_pool1d")
def _adaptive_max_pool(translator: Translator, a: Arguments) -> Any:
    """MaxPool2d where all windows are alike."""
    source = _map(translator, a["self"])
    sizes, wanted = translator.shape(source)[1:], _wanted(translator, source, a["output_size"])
    window = _even_windows(sizes, wanted)
    if window is None:
        raise UnsupportedError(f"adaptive pool from {sizes} to {wanted}", "Use sizes that divide, or give input_shape")
    return [translator.call(nn.MaxPool2d(*window), source), None]


@aten("mean")
def _mean(translator: Translator, a: Arguments) -> Any:
    """AvgPool2d over all of height, width or both."""
    return _over_axes(translator, a, "mean", _average)


@aten("sum")
def _total(translator: Translator, a: Arguments) -> Any:
    """AvgPool2d with a factor, over all of height, width or both."""
    before = translator.moved(a["self"]).index.numel()
    averaged = _over_axes(translator, a, "sum", _average)
    return affine(translator, averaged, before / translator.moved(averaged).index.numel(), None, "multiplies by")


@aten("amax")
def _amax(translator: Translator, a: Arguments) -> Any:
    """MaxPool2d over all of height, width or both."""

    def largest(translator: Translator, source: fx.Node, kernel: tuple[int, int]) -> fx.Node:
        return translator.call(nn.MaxPool2d(kernel), source)

    return _over_axes(translator, a, "amax", largest)


@aten("max")
def _max(translator: Translator, a: Arguments) -> Any:
    """MaxPool2d over all of height or width."""
    if "dim" not in a:
        raise translator._unsupported("max")
    return [_amax(translator, {**a, "dim": [a["dim"]]}), None]


def _average(translator: Translator, source: fx.Node, kernel: tuple[int, int]) -> fx.Node:
    sizes = translator.shape(source)[1:]
    wanted = tuple(1 if k == s else None for k, s in zip(kernel, sizes, strict=True))
    before = translator.root.get_submodule(str(source.target)) if source.op == "call_module" else None
    if isinstance(before, nn.AdaptiveAvgPool2d) and len(source.users) == 0 and None in before.output_size:  # type: ignore[operator]
        source = source.args[0]  # type: ignore[assignment]
        wanted = (1, 1)  # the mean over one axis after the mean over the other
    return translator.call(nn.AdaptiveAvgPool2d(wanted), source)


def _over_axes(
    translator: Translator, a: Arguments, name: str, pool: Callable[[Translator, fx.Node, tuple[int, int]], fx.Node]
) -> Any:
    """Pool whole axes of a map, however it has been reshaped before."""
    value, axes = translator.moved(a["self"]), a.get("dim")
    axes = [axes] if isinstance(axes, int) else axes
    shape = value.shape
    if axes is None or not value.in_order or len(value.source) != 3:
        raise UnsupportedError(f"{name} over axes {axes}", "Only height and width (2, 3) of maps can be pooled")
    chosen = {axis % (len(shape) + 1) for axis in axes}
    covered = [{0}, {1}, {2}] if shape == value.source else _covered(value.source, shape)
    pooled = {place for axis in chosen if axis > 0 and covered is not None for place in covered[axis - 1]}
    if 0 in chosen or covered is None or not pooled or not pooled <= {1, 2}:
        shown = axes[0] if len(axes) == 1 else axes
        raise UnsupportedError(f"{name} over axes {shown}", "Only the mean over height and width (2, 3) is supported")
    kernel = tuple(value.source[axis] if axis in pooled else 1 for axis in (1, 2))
    node = value.node if kernel == (1, 1) else pool(translator, value.node, (kernel[0], kernel[1]))
    left = tuple(
        1 if i + 1 in chosen else size for i, size in enumerate(shape) if a.get("keepdim") or i + 1 not in chosen
    )
    return node if left == translator.shape(node) else unmoved(node, translator.shape(node), left)


def _covered(source: tuple[int, ...], shape: tuple[int, ...]) -> list[set[int]] | None:
    """Axes of `source` that each axis of its reshaped form covers; None if one was split."""
    found, place = [], 0
    for size in shape:
        axes, product = set(), 1
        while place < len(source) and (product < size or (source[place] == 1 and product == size)):
            product, place = product * source[place], place + 1
            axes.add(place - 1)
        if product != size:
            return None
        found.append(axes)
    return found


def _map(translator: Translator, value: Any) -> fx.Node:
    node = translator.tensor(value)
    if len(translator.shape(node)) != 3:
        raise UnsupportedError(
            f"pools shape {translator.shape(node)}", "Only maps (C, H, W) and lines (C, L) can be pooled"
        )
    return node


@aten("upsample_nearest2d", "upsample_nearest1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact1d")
def _nearest(translator: Translator, a: Arguments) -> Any:
    """Upsample by whole factors."""
    source = _map(translator, a["input"] if "input" in a else a["self"])
    whole, by_factor = _factors(translator, source, a)
    if any(factor < 1 or factor != int(factor) for factor in whole):
        raise UnsupportedError(f"upsample mode 'nearest' by {whole}", "Use whole factors")
    if by_factor:
        return translator.call(nn.Upsample(scale_factor=whole, mode="nearest"), source)
    sizes = translator.shape(source)[1:]
    return translator.call(nn.Upsample(size=tuple(int(s * f) for s, f in zip(sizes, whole, strict=True))), source)


def _factors(translator: Translator, source: fx.Node, a: Arguments) -> tuple[tuple[float, float], bool]:
    """By what height and width grow, and whether that was given rather than a size."""
    factors, sizes = a.get("scale_factors"), translator.shape(source)[1:]
    if factors is not None:
        height, width = [1.0, *factors][-2:]
        return (float(height), float(width)), True
    height, width = (want / size for want, size in zip([sizes[0], *a["output_size"]][-2:], sizes, strict=True))
    return (height, width), False


@aten("upsample_bilinear2d", "upsample_linear1d")
def _bilinear(translator: Translator, a: Arguments) -> Any:
    """Transposed convolution with fixed weights by whole factors, with relays for the borders."""
    source = _map(translator, a["input"] if "input" in a else a["self"])
    whole, _ = _factors(translator, source, a)
    sizes = translator.shape(source)[1:]
    if whole == (1.0, 1.0):
        return source
    if all(size == 1 or factor == 1 for size, factor in zip(sizes, whole, strict=True)):  # copies
        return translator.call(nn.Upsample(size=tuple(int(s * f) for s, f in zip(sizes, whole, strict=True))), source)
    if a["align_corners"]:
        raise UnsupportedError(
            "interpolate with mode 'bilinear' and align_corners=True has other weights at every place",
            "Use align_corners=False, or mode='nearest'",
        )
    if whole == (0.5, 0.5) and all(size % 2 == 0 for size in sizes):
        return translator.call(nn.AvgPool2d(2), source)
    if any(factor < 1 or factor != int(factor) for factor in whole):
        raise UnsupportedError(f"interpolate with mode 'bilinear' by {whole}", "Use whole factors")
    return translator.call(Bilinear([int(factor) for factor in whole]), source)


@aten("upsample_bicubic2d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa")
def _smooth(translator: Translator, a: Arguments) -> fx.Node:
    """Refused."""
    mode = str(translator.here.target).split("upsample_")[1].split("2d")[0]
    raise UnsupportedError(
        f"interpolate with mode '{mode}'", "Use mode='bilinear' or 'nearest' with a whole scale_factor"
    )


# moves


@aten(
    "view", "_unsafe_view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "permute", "transpose", "t",
    "select", "numpy_T", "contiguous", "clone", "detach", "alias", "expand", "expand_as", "slice", "split",
    "split_with_sizes", "chunk", "unbind", "narrow", "flip", "movedim", "pixel_shuffle", "pixel_unshuffle",
    "channel_shuffle",
    "roll", "swapaxes", "unsafe_chunk", "unsafe_split", "tensor_split", "index_select", "index", "view_as",
    "reshape_as", "mT",
)  # fmt: skip
def _move(translator: Translator, a: Arguments) -> Any:
    """Routing: reshapes, crops, every n-th row or column, choices and orders of channels."""
    return _moved_by(translator, a, {})


@aten("pad", "constant_pad_nd")
def _pad(translator: Translator, a: Arguments) -> Any:
    """Rows, columns and channels of zeros; before a max pool of what is not negative -inf does the same."""
    mode = a.get("mode", "constant")
    if a.get("value") not in (None, 0, float("-inf")):
        raise UnsupportedError(f"pads with {a['value']}", "Pad with zeros")
    if mode == "constant":
        return _moved_by(translator, a, {"value": -1.0})
    fix = "Use padding_mode='zeros'" if isinstance(translator.module(), nn.Conv2d) else "Pad with zeros"
    raise UnsupportedError(f"padding_mode '{mode}' is not supported", fix)


def _moved_by(translator: Translator, a: Arguments, other: Arguments) -> Any:
    target: Any = translator.here.target
    leaves = [value for value in a.values() if is_value(value)]
    if len(leaves) != 1:
        raise translator._unsupported(target._schema.name.split("::")[-1])
    plain = {**a, **other}

    def operation(batch: Tensor) -> Any:
        given = fx.node.map_aggregate(
            {k: batch if is_value(v) else v for k, v in plain.items()},
            lambda leaf: leaf.tensor if isinstance(leaf, Constant) else leaf,
        )
        return target(**given)

    moved = move(translator.moved(leaves[0]), operation)
    return [_settled(translator, m) for m in moved] if isinstance(moved, list) else _settled(translator, moved)


def _settled(translator: Translator, value: Moved) -> Any:
    """The node itself where a move changes nothing."""
    return value.node if value.shape == value.source and value.in_order else value


@aten("lift_fresh_copy", "lift_fresh", "_to_copy", "to")
def _same(translator: Translator, a: Arguments) -> Any:
    """Nothing."""
    kind = a.get("dtype")
    if kind not in (None, torch.float32, torch.float64):
        raise UnsupportedError(f"converts to {kind}", "Stay in one floating-point type")
    return a["self"]


@aten("cat", "concat", "concatenate")
def _cat(translator: Translator, a: Arguments) -> Any:
    """A concatenation of channels, or zeros beside them."""
    values, axis = list(a["tensors"]), a.get("dim", 0)
    if not all(is_value(value) or _is_zero(value) for value in values):
        raise UnsupportedError("concatenates something that is not a list of layer outputs", "List the tensors")
    real = [value for value in values if is_value(value)]
    axis %= len(translator.shape(real[0])) + 1
    moved = [translator.moved(value) for value in real]
    if axis > 0 and (len(real) < len(values) or len(values) == 1) and len({m.node for m in moved}) == 1:
        parts = iter(moved)
        zeros = [next(parts) if is_value(v) else Moved(moved[0].node, moved[0].source, -torch.ones(v.tensor.shape[1:],
                 dtype=torch.float64)) for v in values]  # fmt: skip
        return _settled(translator, join(zeros, axis))
    if axis > 0 and len({m.node for m in moved}) == 1 and any(isinstance(value, Moved) for value in real):
        return _settled(translator, join(moved, axis))
    if axis != 1:
        raise UnsupportedError(
            f"concatenates along axis {a.get('dim', 0)}", "Only the channel axis (dim=1) is supported"
        )
    nodes = tuple(translator.tensor(value) for value in values)
    shape = translator.shape(nodes[0])
    return translator.combine(torch.cat, (nodes, 1), (sum(translator.shape(node)[0] for node in nodes), *shape[1:]))


@aten("slice_scatter")
def _slice_scatter(translator: Translator, a: Arguments) -> Any:
    """A part of the channels replaced."""
    whole = translator.moved(a["self"])
    channels = whole.shape[0]
    start, stop = (a["start"] or 0) % (channels + 1), min(channels if a["end"] is None else a["end"], channels)
    if a["dim"] != 1 or a["step"] != 1 or stop < 0 or not is_value(a["src"]):
        raise UnsupportedError("writes into a part of a tensor", "Write into whole channels, or build a new tensor")
    ends = [(0, start), (stop, channels)]
    before, after = (Moved(whole.node, whole.source, whole.index[first:last]) for first, last in ends)
    parts = [part for part in (before, a["src"], after) if translator.shape(part)[0]]
    return _cat(translator, {"tensors": parts, "dim": 1})


def _is_zero(value: Any) -> bool:
    return isinstance(value, Constant) and not bool(value.tensor.any()) and value.tensor.shape[:1] == (BATCH,)


@aten("_assert_tensor_metadata", "_assert_async", "_assert_scalar", "sym_constrain_range_for_size")
def _nothing(translator: Translator, a: Arguments) -> None:
    """Nothing."""
    return None
