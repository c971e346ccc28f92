"""Which tensors of a stranger's file are weights."""

from __future__ import annotations

import torch
from torch import Tensor


def flaw(tensor: Tensor) -> str | None:
    """What is wrong with a tensor as a weight; None if it holds as many dense real numbers as its shape says.

    Example:
        >>> flaw(torch.zeros(2, 2)), flaw(torch.zeros(1).expand(10**9, 10**9))
        (None, 'holds fewer numbers than its shape (1000000000, 1000000000)')
    """
    kind = str(tensor.dtype).removeprefix("torch.")
    if tensor.layout != torch.strided:
        return f"is sparse ({str(tensor.layout).removeprefix('torch.')})"
    if tensor.is_quantized or tensor.is_complex() or kind.startswith("bits"):
        return f"holds {kind}, not real numbers"
    if tensor.device.type == "meta":
        return "holds no numbers (it is on the device meta)"
    if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        return f"holds fewer numbers than its shape {tuple(tensor.shape)}"
    return None
