"""Activations without a spiking form, and a network that has ReLUs in their place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

REPLACEABLE = frozenset(
    ("silu", "gelu", "leaky_relu", "rrelu", "prelu", "hardswish", "elu", "selu", "celu", "mish", "softplus")
)
"""Rectifiers, by their names in aten: one side grows without bound and the other is flat or nearly so. Gates (sigmoid,
tanh) are none."""

_KERNELS = {"_prelu_kernel": "prelu", "rrelu_with_noise": "rrelu"}
"""What some of them are called where they are computed."""


def replaceable(name: str) -> bool:
    """True for the name of a rectifier in aten, in place or not."""
    plain = name.removesuffix("_")
    return _KERNELS.get(plain, plain) in REPLACEABLE


class ReluInstead(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within it every rectifier computes ReLU, however a network calls it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.split("::")[-1]
        if not replaceable(name):
            return func(*args, **(kwargs or {}))
        return torch.relu_(args[0]) if name.endswith("_") else torch.relu(args[0])


def told(replaced: Iterable[str]) -> str:
    """What was replaced, and what that asks for.

    Example:
        >>> print(told(["SiLU", "SiLU", "GELU"]))
        2 SiLU and 1 GELU became ReLU: the network computes something else now. Fine-tune it before you use it
    """
    counts = [f"{count} {name}" for name, count in Counter(replaced).most_common()]
    listed = counts[0] if len(counts) == 1 else f"{', '.join(counts[:-1])} and {counts[-1]}"
    return f"{listed} became ReLU: the network computes something else now. Fine-tune it before you use it"
