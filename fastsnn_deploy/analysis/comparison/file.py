"""Whether a file holds the network of a model: the first layer, and the first number, that differ."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastsnn_deploy.errors import Problem
from fastsnn_deploy.graph import Node, Population, SpikingGraph, Synapse

TIMING = {"min_spike", "max_spike", "delay", "delays", "module"}
"""Fields that change when spikes come, or what a layer is called, and never a count."""


def differences(model: SpikingGraph, file: SpikingGraph) -> tuple[Problem, ...]:
    """Every node in which a file's integers are not those of the network made from a model, in the model's order.

    A layer is named before its weights: with other weights it can still be found.
    """
    theirs = file.by_name
    found = [problem for node in model.nodes for problem in _of_node(node, theirs.get(node.name))]
    added = [node for node in file.nodes if node.name not in model.by_name]
    return (*found, *(Problem(_called(node), "is only in the file") for node in added))


def _of_node(ours: Node, theirs: Node | None) -> Iterator[Problem]:
    if theirs is None:
        yield Problem(_called(ours), "is not in the file")
        return
    if type(ours) is not type(theirs):
        yield Problem(_called(ours), f"is a {type(theirs).__name__} in the file, not a {type(ours).__name__}")
        return
    for field in dataclasses.fields(ours):
        if field.name not in TIMING:
            mine, other = getattr(ours, field.name), getattr(theirs, field.name)
            what = _array(mine, other) if isinstance(mine, np.ndarray) else _value(mine, other)
            if what:
                yield Problem(_called(ours), what if field.name == "weight" else f"{field.name}: {what}")


def _array(ours: Any, theirs: Any) -> str:
    if ours.shape != theirs.shape:
        return f"{list(theirs.shape)} in the file, {list(ours.shape)} in the model"
    unequal = ours != theirs
    if not unequal.any():
        return ""
    first = tuple(int(i) for i in np.argwhere(unequal)[0]) if ours.ndim else ()
    return (
        f"{int(unequal.sum()):,} of {ours.size:,} differ, first {list(first)}: {theirs[first]} in the file, "
        f"{ours[first]} in the model"
    )


def _value(ours: Any, theirs: Any) -> str:
    return "" if ours == theirs else f"{theirs} in the file, {ours} in the model"


def _called(node: Node) -> str:
    kind = "weights" if isinstance(node, Synapse) else "layer" if isinstance(node, Population) else type(node).__name__
    return f"{kind} '{node.name}'"
