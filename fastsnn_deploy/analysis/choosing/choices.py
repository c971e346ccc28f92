"""What one network can be exported as: every target, the published schedule, bursts, and start delays."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastsnn_deploy.errors import InputError, known_name
from fastsnn_deploy.graph import Encoded, SpikingGraph
from fastsnn_deploy.passes.spike_bounds import with_neurons
from fastsnn_deploy.passes.start_delay import with_start_delay
from fastsnn_deploy.passes.window import for_window
from fastsnn_deploy.targets import TARGETS
from fastsnn_deploy.targets.base import Converted, to_target

NUMBERED = re.compile(r"(burst|start-delay-)([1-9]\d{0,8})")

BURSTS = (2, 4)
"""Most counts in one spike, of the bursts that are tried where a count reaches further."""

SHARES = (1, 2, 3)
"""Thirds of the longest start delay that is of use: with window - 1 steps nothing is taken back any more."""


@dataclass(frozen=True)
class Choice:
    """One way to export a network. name: as users write it. options: of `export`. exact: its answers are those of the
    graph that it computes. make: the network and that graph, from the settling unary one and typical images."""

    name: str
    options: str
    exact: bool
    make: Callable[[SpikingGraph, Encoded], Converted]


def default_choices(graph: SpikingGraph) -> tuple[Choice, ...]:
    """Every target, the published schedule, and the bursts and start delays that make a difference."""
    most = graph.schedule.window - 1
    bursts = [f"burst{most_at_once}" for most_at_once in BURSTS if most_at_once <= most]
    delays = sorted({-(-most * share // max(SHARES)) for share in SHARES} - {0})
    names = (*TARGETS, "window", *bursts, *(f"start-delay-{steps}" for steps in delays))
    return tuple(map(choice_named, names))


def choices_named(names: Sequence[str]) -> tuple[Choice, ...]:
    """Those that the user names, each once. Raises InputError for an unknown one, and for none."""
    if not isinstance(names, (list, tuple)) or not names:
        raise InputError(f"targets={names!r}: name at least one, in a list. Known: {', '.join(_known())}")
    return tuple({choice.name: choice for choice in map(choice_named, names)}.values())


def choice_named(name: str) -> Choice:
    """A choice by its name. Raises InputError, with a guess, for an unknown one."""
    if isinstance(name, str) and (numbered := NUMBERED.fullmatch(name)) is not None:
        number = int(numbered[2])
        if numbered[1] == "burst":
            return Choice(name, f"--neurons {name}", True, lambda graph, images: _signed(with_neurons(graph, name)))
        options = f"--start-delay {number}"
        return Choice(name, options, True, lambda graph, images: _signed(with_start_delay(graph, number)))
    if known_name("target", name, _known()) == "window":
        return Choice(name, "--schedule window", False, lambda graph, images: _signed(for_window(graph)))
    exact = TARGETS[name].exact
    return Choice(name, f"--target {name}", exact, lambda graph, images: to_target(graph, name, images))


def _signed(graph: SpikingGraph) -> Converted:
    return to_target(graph, "signed-if")


def _known() -> tuple[str, ...]:
    return (*TARGETS, "window", "burst2", "burst4", "start-delay-1", "start-delay-2")
