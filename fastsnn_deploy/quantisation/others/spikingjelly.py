"""SpikingJelly's ann2snn: networks of ReLUs that became IFNode between two VoltageScalers."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from fastsnn_deploy.quantisation.moves import Scale
from fastsnn_deploy.quantisation.others.base import (
    CannotTakeError,
    Taken,
    activation,
    confirmed,
    named,
    positive,
    refused,
    whole,
)

PROJECT = "SpikingJelly"

_NODE = ("v_threshold", "v_reset")


@activation(PROJECT, named("IFNode", "HalfThresholdIFNode", having=_NODE))
def _if_node(module: Any, steps: int | None) -> Taken:
    """The rate after `steps` steps of a constant input x: clip(floor(x * steps / v_threshold + v0), 0, steps) / steps.

    v0, the potential at the start in thresholds, is 0 for IFNode and 1/2 for HalfThresholdIFNode.
    """
    if steps is None:
        fix = "Say after how many steps its rate is read: steps=16 (--steps 16)"
        raise CannotTakeError("fires for as many steps as it is run", fix)
    if module.v_reset is not None:
        fix = "Convert with soft reset (v_reset=None), which keeps what is left"
        raise CannotTakeError(f"resets its potential to {module.v_reset}", fix)
    threshold = positive("v_threshold", module.v_threshold)
    start = 0.5 if type(module).__name__ == "HalfThresholdIFNode" else 0.0
    before = None if threshold == 1 else Scale(1 / threshold)
    note = "" if start else "starts at 0 and rounds down; the bias of each layer takes half a step up"
    levels = whole("number of steps", steps)
    return confirmed(module, Taken(levels, 1.0, "qcfs", 0.5 - start, before, _rate(levels), note))


def _rate(steps: int) -> Any:
    """Runs a neuron on one input for so many steps: the mean of what it sends."""

    def run(module: Any, x: Tensor) -> Tensor:
        alone = copy.deepcopy(module)
        if hasattr(alone, "step_mode"):
            alone.step_mode = "s"
        if hasattr(alone, "reset"):
            alone.reset()
        return torch.stack([alone(x.clone()) for _ in range(steps)]).mean(0)

    return run


refused(
    PROJECT,
    named("ChannelVoltageScaler"),
    "has a threshold for each channel, and one layer's counts then mean different values",
    "Convert with one threshold for each layer (channel_wise=False)",
)
refused(
    PROJECT,
    named("LIFNode", "ParametricLIFNode", "QIFNode", "EIFNode", "IzhikevichNode", "KLIFNode", having=_NODE),
    "leaks or has dynamics of its own: its rate is not a sum of what it receives",
    "Convert with IFNode and soft reset",
)
