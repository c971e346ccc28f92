"""QCFS (arXiv 2303.04347): `IF` of ANN_SNN_QCFS, `MyFloor` of the first version of its code."""

from __future__ import annotations

from torch import nn

from fastsnn_deploy.quantisation.others.base import Taken, activation, confirmed, named, positive, whole

PROJECT = "QCFS"


@activation(PROJECT, named("IF", having=("thresh", "L", "T")))
def _if(module: nn.Module, steps: int | None) -> Taken:
    """thresh * floor(clip(x / thresh, 0, 1) * L + 1/2) / L, what the module computes with T = 0.

    With T > 0 it is the spiking neuron of that activation, which it is taken for.
    """
    return confirmed(module, Taken(whole("L", module.L), positive("thresh", module.thresh), "qcfs"))


@activation(PROJECT, named("MyFloor", having=("up", "t")))
def _my_floor(module: nn.Module, steps: int | None) -> Taken:
    """up * clip(floor(x / up * t + 1/2) / t, 0, 1)."""
    return confirmed(module, Taken(whole("t", module.t), positive("up", module.up), "qcfs"))
