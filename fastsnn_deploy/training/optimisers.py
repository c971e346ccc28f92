"""The optimisers of recipes."""

from __future__ import annotations

import torch
from torch import nn

from fastsnn_deploy.quantisation.layers import BATCH_NORMS
from fastsnn_deploy.quantisation.structure import WEIGHTED
from fastsnn_deploy.training.loop import decay_weights_only
from fastsnn_deploy.training.recipe import Recipe, Stage


def optimiser_for(model: nn.Module, recipe: Recipe, stage: Stage) -> torch.optim.Optimizer:
    """SGD with momentum, or AdamW; weights decay, all else does not, and steps move at their own rate."""
    decay = recipe.weight_decay if stage.weight_decay is None else stage.weight_decay
    groups, rate = decay_weights_only(model, decay), stage.learning_rate
    if recipe.step_rate != 1:
        layers = [m for m in model.modules() if isinstance(m, (*WEIGHTED, *BATCH_NORMS))]
        plain = {id(p) for m in layers for p in (m.weight, m.bias) if p is not None}
        steps = [p for p in model.parameters() if id(p) not in plain]
        groups[1]["params"] = [p for p in groups[1]["params"] if id(p) in plain]  # type: ignore[attr-defined]
        groups.append({"params": steps, "weight_decay": 0.0, "lr": rate * recipe.step_rate})
    if recipe.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=rate)
    return torch.optim.SGD(groups, lr=rate, momentum=recipe.momentum, nesterov=recipe.momentum > 0)
