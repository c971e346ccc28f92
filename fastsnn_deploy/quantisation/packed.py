"""Quantised weights as the integers of their grid, packed at their bits: a checkpoint of an eighth of the size."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fastsnn_deploy.quantisation.functional import weight_limit
from fastsnn_deploy.quantisation.layers import QUANT_WEIGHTED


def pack_weights(quantised: nn.Module) -> tuple[dict[str, Tensor], dict[str, int]]:
    """(state_dict with packed weights in place of float ones, bits by name of each packed layer).

    Packed: uint8, `bits` bits an integer after another, least significant first, each integer plus 2**(bits-1) - 1; in
    the layer's own order of axes. Layers whose float weights, made from integers, would round to others keep theirs.
    """
    state = {name: value.detach() for name, value in quantised.state_dict().items()}
    bits = {}
    for name, layer in quantised.named_modules():
        if not isinstance(layer, QUANT_WEIGHTED):
            continue
        integers, scale = layer.integer_weight()
        again = copy.deepcopy(layer)
        with torch.no_grad():
            again.weight.copy_(_values(layer, integers))
        found, its_scale = again.integer_weight()
        whole = layer.quantised_weight().detach()
        fits = bool((integers >= -weight_limit(layer.weight_bits)).all())
        if fits and torch.equal(found, integers) and torch.equal(its_scale, scale) and torch.equal(again.weight, whole):
            bits[name] = layer.weight_bits
            values = layer._by_output(integers).cpu().numpy()
            state[f"{name}.weight"] = torch.from_numpy(packed(values, layer.weight_bits))
    return state, bits


def unpack_weights(quantised: nn.Module, state: Mapping[str, Tensor], bits: Mapping[str, int]) -> dict[str, Tensor]:
    """The float state_dict again: integers times steps. quantised: may be on the meta device.

    Raises ValueError, KeyError or AttributeError if the file does not fit the network.
    """
    full = dict(state)
    for name, width in bits.items():
        layer = quantised.get_submodule(name)
        if not isinstance(layer, QUANT_WEIGHTED) or layer.weight_bits != width:
            raise ValueError(f"'{name}' has no weights of {width} bits")
        given = state[f"{name}.weight"]
        integers = torch.from_numpy(unpacked(given.cpu().numpy(), width, layer.weight.numel()))
        integers = integers.view(layer.weight.shape).to(given.device)
        learned = {key: state[f"{name}.{key}"] for key, _ in layer.named_parameters() if key not in ("weight", "bias")}
        full[f"{name}.weight"] = _by_step(layer, layer._by_output(integers), learned)
    return full


def _values(layer: nn.Module, integers: Tensor) -> Tensor:
    """Float weights, as they are in training, from integers with output channels first."""
    return _by_step(layer, integers, dict(layer.named_parameters()))


def _by_step(layer: nn.Module, integers: Tensor, learned: Mapping[str, Tensor]) -> Tensor:
    assert isinstance(layer, QUANT_WEIGHTED)
    name = layer._rule.parameter
    if name is None:
        return torch.full(integers.shape, torch.nan)  # nothing kept gives the step: never packed
    step = learned[name].detach().view(-1, *[1] * (integers.dim() - 1))
    _, scale = layer._rule.integers(integers.float(), step, layer.weight_bits)
    return layer._by_output(integers.float() * scale)


def packed(integers: npt.NDArray[np.int8], bits: int) -> npt.NDArray[np.uint8]:
    """Integers from -limit to limit, limit = 2**(bits - 1) - 1, of any shape as uint8 [ceil(n * bits / 8)]."""
    raised = (integers.reshape(-1).astype(np.int16) + weight_limit(bits)).astype(np.uint8)
    return np.packbits(np.unpackbits(raised[:, None], axis=1, bitorder="little")[:, :bits], bitorder="little")


def unpacked(data: npt.NDArray[np.uint8], bits: int, count: int) -> npt.NDArray[np.int8]:
    """The first `count` integers of `packed`: int8 [count]. Raises ValueError if the data are of another length."""
    if data.dtype != np.uint8 or data.shape != (-(-count * bits // 8),):
        raise ValueError(f"{count} integers of {bits} bits are not in {data.dtype} {data.shape}")
    spread = np.unpackbits(data, count=count * bits, bitorder="little").reshape(count, bits)
    raised = np.packbits(spread, axis=1, bitorder="little")[:, 0]
    return (raised.astype(np.int16) - weight_limit(bits)).astype(np.int8)
