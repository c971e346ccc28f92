"""Float networks of the zoo with the weights of a file, and learning from one (distillation)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastsnn_deploy.errors import InputError, Problem
from fastsnn_deploy.quantize.checkpoint import read_plain

_WRAPPER = "module."
"""What nn.DataParallel puts before every name."""


def load_float_weights(model: nn.Module, path: str | Path) -> None:
    """Fill a float network from a state_dict, bare or under the key `state_dict`, with or without `module.` names.

    Raises InputError listing every missing, unexpected or ill-shaped entry. Nothing in the file is executed.
    """
    content = read_plain(path, "file of float weights")
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(
            f"{path}: is not a state_dict. Save the float network with torch.save(model.state_dict(), ...)"
        )
    given = {str(name).removeprefix(_WRAPPER): value for name, value in content.items()}
    wanted = model.state_dict()
    optional = {name for name in wanted if name.endswith("num_batches_tracked")}
    problems = [Problem(name, "is missing") for name in sorted(wanted.keys() - given.keys() - optional)]
    problems += [Problem(name, "has no place in this network") for name in sorted(given.keys() - wanted.keys())]
    problems += [
        Problem(name, f"has shape {tuple(given[name].shape)}, the network wants {tuple(wanted[name].shape)}")
        for name in wanted.keys() & given.keys()
        if given[name].shape != wanted[name].shape
    ]
    problems += [
        Problem(name, "holds NaN or infinity")
        for name, value in given.items()
        if value.is_floating_point() and not torch.isfinite(value).all()
    ]
    if problems:
        raise InputError(f"{path}: these float weights do not fit the network", problems)
    model.load_state_dict(given, strict=False)


def distillation_loss(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """temperature**2 * KL(softmax(teacher / temperature) || softmax(logits / temperature)), mean over images.

    logits and teacher: float32 [N, classes].
    """
    target = F.log_softmax(teacher / temperature, 1)
    given = F.log_softmax(logits / temperature, 1)
    return temperature**2 * F.kl_div(given, target, reduction="batchmean", log_target=True)
