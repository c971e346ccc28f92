"""The one tensor of a network's result that is deployed, where it returns several."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree

from fastsnn_deploy.errors import InputError, Problem, unknown


def named_tensors(result: Any) -> dict[str, Tensor]:
    """Tensors of a result by name: keys of dicts, fields, positions from 0; with dots where they are nested.

    Example:
        >>> list(named_tensors({"out": Tensor(2), "aux": [Tensor(1), None, Tensor(3)]}))
        ['out', 'aux.0', 'aux.2']
    """
    leaves, _ = _pytree.tree_flatten_with_path(result)
    return {".".join(map(_key, path)): leaf for path, leaf in leaves if isinstance(leaf, Tensor)}


def _key(entry: Any) -> str:
    return str(next(getattr(entry, name) for name in ("key", "idx", "name") if hasattr(entry, name)))


def choose(model: nn.Module, result: Any, output: str | int | None) -> list[Problem]:
    """Let `model` return one tensor of what it returned as `result`: the one named `output`, or the first.

    Returns what is wrong if one must be chosen, naming all of them. Raises InputError for a name that none has.
    """
    tensors, problems = named_tensors(result), []
    if output is None and len(tensors) > 1:
        listed = ", ".join(f"'{name}' {tuple(tensor.shape[1:])}" for name, tensor in tensors.items())
        fix = f"Choose one, such as output='{next(iter(tensors))}'"
        problems.append(Problem("forward", f"returns several values: {listed}", fix))
    if output is not None and str(output) not in tensors:
        if isinstance(result, Tensor):
            raise InputError(f"output '{output}': the network returns a single tensor. Leave out the name")
        raise unknown("output", output, tensors)
    if not isinstance(result, Tensor) and tensors:
        name = next(iter(tensors)) if output is None else str(output)
        model.register_forward_hook(lambda module, arguments, returned: named_tensors(returned)[name])
    return problems
