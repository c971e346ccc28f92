"""Layers of stock NetX files: lava-dl 0.6.0's keys, dtypes and axis orders (lava/lib/dl/netx/hdf5.py)."""

from __future__ import annotations

from collections.abc import Callable

import h5py
import numpy as np
import numpy.typing as npt

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.formats.netx.fields import put_integers_as_float32, put_numbers, put_text, put_type
from fastsnn_deploy.formats.netx.stock_fields import StockFields
from fastsnn_deploy.lava_dl import Lif, Neuron, Sdnn, StockConv, StockDense, StockFlatten, StockInput, StockLayer

Int64 = npt.NDArray[np.int64]
Shape = tuple[int, ...]
Parser = Callable[[StockFields, Shape | None], StockLayer]

LIF_TYPES = ("CUBA", "LOIHI")
"""Both names mean the same neuron to lava-dl (hdf5.py:135)."""

KNOWN = {
    "dense_rec": "recurrent dense layers",
    "dense_comp": "complex dense layers",
    "pool": "pooling",
    "convT": "transposed convolutions",
    "unpool": "unpooling",
    "average": "average layers",
    "concat": "concatenation",
}
"""Layer types of lava-dl that are not supported here; stock lava-dl itself runs the first only."""


def write_layer(group: h5py.Group, layer: StockLayer) -> None:
    """Write one layer. Raises InputError where a value is not exact in NetX's dtype."""
    if isinstance(layer, StockInput):
        put_type(group, "input")
        put_numbers(group, "shape", layer.shape)
        if layer.neuron is not None:
            _put_optional(group, "weight", layer.weight)
            _put_optional(group, "bias", layer.bias)
            _put_neuron(group, layer.neuron)
    elif isinstance(layer, StockConv):
        _write_conv(group, layer)
    elif isinstance(layer, StockDense):
        _write_dense(group, layer)
    else:
        put_type(group, "flatten")
        put_numbers(group, "shape", (*layer.shape, 1, 1))


def _write_conv(group: h5py.Group, layer: StockConv) -> None:
    put_type(group, "conv")
    put_numbers(group, "shape", layer.shape)
    put_numbers(group, "inChannels", layer.weight.shape[1] * layer.groups)
    put_numbers(group, "outChannels", layer.weight.shape[0])
    put_numbers(group, "kernelSize", layer.weight.shape[2:])
    for key in ("stride", "padding", "dilation", "groups"):
        put_numbers(group, key, getattr(layer, key))
    put_integers_as_float32(group, "weight", layer.weight)
    _put_optional(group, "bias", layer.bias)
    _put_neuron(group, layer.neuron)


def _write_dense(group: h5py.Group, layer: StockDense) -> None:
    put_type(group, "dense")
    put_numbers(group, "shape", layer.shape)
    put_numbers(group, "inFeatures", layer.weight.shape[1])
    put_numbers(group, "outFeatures", layer.weight.shape[0])
    put_integers_as_float32(group, "weight", layer.weight)
    _put_optional(group, "bias", layer.bias)
    _put_optional(group, "delay", layer.delay)
    if layer.neuron is not None:
        _put_neuron(group, layer.neuron)


def _put_optional(group: h5py.Group, key: str, values: Int64 | None) -> None:
    if values is not None:
        put_integers_as_float32(group, key, values)


def _put_neuron(group: h5py.Group, neuron: Neuron) -> None:
    fields = group.create_group("neuron")
    if isinstance(neuron, Lif):
        put_text(fields, "type", "CUBA")
        put_numbers(fields, "iDecay", neuron.i_decay)
        put_numbers(fields, "vDecay", neuron.v_decay)
        put_numbers(fields, "vThMant", neuron.threshold)
        put_numbers(fields, "refDelay", 1)
        fields.create_dataset("gradedSpike", data=False)
        return
    put_text(fields, "type", "SDNN")
    put_text(fields, "activation", "relu")
    threshold = neuron.threshold
    put_numbers(fields, "vThMant", int(threshold) if threshold == int(threshold) else threshold)
    if neuron.sigma_output:  # lava-dl asks only whether the key is there
        fields.create_dataset("sigma_output", data=True)


def read_layer(fields: StockFields, source: Shape | None) -> StockLayer:
    """Read one layer. source: shape of the layer before, None if there is none. Raises InputError."""
    kind = fields.text("type")
    if kind in KNOWN:
        raise InputError(f"{fields.where}: {KNOWN[kind]} (type '{kind}') are not supported")
    if kind not in PARSERS:
        raise InputError(f"{fields.where}: type '{kind}' is unknown; stock lava-dl would skip the layer silently")
    return PARSERS[kind](fields, source)


def stored_shape(fields: StockFields) -> Shape:
    """The layer's output shape; vectors, also in their old form (N, 1, 1), as (N,)."""
    shape = fields.shape()
    if fields.text("type") in ("input", "conv"):
        return shape
    return (int(np.prod(shape)),)


def _input(fields: StockFields, source: Shape | None) -> StockInput:
    if "neuron" not in fields:
        return StockInput(shape=fields.shape())
    weight, bias = (_flat(fields.whole_or_none(key)) for key in ("weight", "bias"))
    return StockInput(shape=fields.shape(), neuron=_neuron(fields), weight=weight, bias=bias)


def _conv(fields: StockFields, source: Shape | None) -> StockConv:
    if "delay" in fields:
        raise InputError(f"{fields.where}: 'delay' of a convolution is not supported; stock lava-dl drops it silently")
    weight = _real_weight(fields)
    if weight.ndim == 5 and weight.shape[4] == 1:
        weight = weight[..., 0]
    bias = fields.whole_or_none("bias")
    if bias is not None and bias.ndim != 1:
        raise fields.wrong("bias", f"of shape {bias.shape}", "one number for each channel")
    return StockConv(
        shape=fields.shape(),
        weight=weight,
        bias=bias,
        neuron=_neuron(fields),
        stride=fields.one_or_two("stride"),
        padding=fields.one_or_two("padding"),
        dilation=fields.one_or_two("dilation"),
        groups=fields.integer("groups"),
    )


def _flatten(fields: StockFields, source: Shape | None) -> StockFlatten:
    return StockFlatten(shape=stored_shape(fields))


def _dense(fields: StockFields, source: Shape | None) -> StockDense:
    outputs = stored_shape(fields)[0]
    weight = _real_weight(fields)
    if weight.ndim == 1 and weight.size % outputs == 0:
        weight = weight.reshape(outputs, -1)
    if weight.ndim != 2:
        raise fields.wrong("weight", f"of shape {weight.shape}", "[outputs, inputs]")
    bias = fields.whole_or_none("bias")
    if bias is not None:
        if bias.size not in (1, outputs):
            raise fields.wrong("bias", f"of shape {bias.shape}", f"({outputs},)")
        bias = np.array(np.broadcast_to(bias.reshape(-1), (outputs,)))
    neuron = _neuron(fields) if "neuron" in fields else None
    return StockDense(shape=(outputs,), weight=weight, bias=bias, neuron=neuron, delay=_delay(fields, weight))


def _delay(fields: StockFields, weight: Int64) -> Int64 | None:
    """A scalar, one number for each output or else for each input, or one for each weight (hdf5.py:425-448)."""
    delay = fields.whole_or_none("delay")
    if delay is None or delay.shape in (weight.shape, weight.shape[:1]):
        return delay
    if delay.ndim == 0:
        return np.full(weight.shape[0], int(delay))
    if delay.shape == weight.shape[1:]:
        return np.array(np.broadcast_to(delay, weight.shape))
    raise fields.wrong("delay", f"of shape {delay.shape}", f"({weight.shape[0]},), ({weight.shape[1]},) or one number")


def _real_weight(fields: StockFields) -> Int64:
    if fields.holds_group("weight"):
        raise InputError(f"{fields.where}: complex weights are not supported")
    return fields.whole("weight")


def _neuron(fields: StockFields) -> Neuron:
    neuron = fields.group("neuron", f"{fields.where}, neuron")
    kind = neuron.text("type")
    if "messageBits" in neuron:
        raise InputError(f"{neuron.where}: 'messageBits' is not supported; stock lava-dl 0.6.0 fails on it")
    if kind in LIF_TYPES:
        threshold, i_decay, v_decay = (neuron.small_integer(key) for key in ("vThMant", "iDecay", "vDecay"))
        return Lif(threshold=threshold, i_decay=i_decay, v_decay=v_decay)
    if kind == "SDNN":
        activation = neuron.text("activation") if "activation" in neuron else "relu"
        if activation != "relu":
            raise neuron.wrong("activation", f"'{activation}'", "'relu', the one that stock lava-dl computes")
        threshold_value = neuron.one_number("vThMant") if "vThMant" in neuron else 0
        return Sdnn(threshold=threshold_value, sigma_output="sigma_output" in neuron)
    raise InputError(f"{neuron.where}: type '{kind}' is not supported, only {', '.join(LIF_TYPES)} and SDNN are")


def _flat(values: Int64 | None) -> Int64 | None:
    return None if values is None else values.reshape(-1)


PARSERS: dict[str, Parser] = {"input": _input, "conv": _conv, "flatten": _flatten, "dense": _dense}
