"""The quantised model, its integer network and the settled spiking network on the same images: equal integers,
counted work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fastsnn_deploy.analysis.evaluation import Evaluation, nothing
from fastsnn_deploy.errors import InputError, MismatchError, Problem
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.graph.integer_network import integer_values, logits
from fastsnn_deploy.simulators import open_engine


@dataclass(frozen=True)
class Answers:
    """What two forms of one network answer to N images: real values, float32 [N, *output shape].

    integer: of the integer network, which knows no time; spiking: of the spiking network once it has settled.
    early: the spiking network's answer after so many steps, where asked for.
    work: settle steps, spikes and synaptic operations of the spiking network. outputs: output integers compared;
    neurons: settled counts of hidden populations compared as well, on the first images. different_outputs,
    different_neurons: how many of them were not equal.
    """

    integer: Tensor
    spiking: Tensor
    early: dict[int, Tensor]
    work: Evaluation
    outputs: int
    neurons: int
    different_outputs: int
    different_neurons: int


def run_both(
    graph: SpikingGraph,
    levels: Tensor,
    *,
    engine: str = "cpu",
    threads: int | None = None,
    batch: int = 4,
    hidden: int = 2,
    early: Sequence[int] = (),
    strict: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Answers:
    """Run the integer network and the spiking network until it settles, and compare every output integer.

    levels: uint8 [N, *input shape], N at least 1. batch: images at a time, never changes a result. hidden: images,
    from the first, on which all counts of all populations are compared too. early: numbers of steps, at least 1, after
    which the answer is wanted as well. strict: raise if an integer differs; otherwise the differences are only counted.
    progress: called with (images done, all).
    Raises MismatchError naming the images that differ, InputError if the graph has several outputs.
    """
    if len(graph.outputs) != 1:
        raise InputError(f"the network has {len(graph.outputs)} outputs, must have one")
    name = graph.outputs[0]
    runner = open_engine(graph, engine, threads)
    populations = [population.name for population in graph.populations]
    total, outputs, neurons, wrong_outputs, wrong_neurons = nothing(graph), 0, 0, 0, 0
    integer, spiking, problems = [], [], []
    before: dict[int, list[Tensor]] = {steps: [] for steps in early}
    starts = [*range(0, min(hidden, len(levels))), *range(min(hidden, len(levels)), len(levels), batch)]
    for start, end in zip(starts, [*starts[1:], len(levels)], strict=True):
        emitted = graph.input.encode(levels[start:end].numpy())
        values = integer_values(graph, emitted)
        record = populations if start < hidden else ()
        run = runner.run(emitted, record=record)
        for i in range(len(emitted)):
            if different := int(np.count_nonzero(run.final(name)[i] != values[name][i])):
                problems.append(Problem(f"image {start + i}", f"{different} of {values[name][i].size} outputs differ"))
                wrong_outputs += different
        outputs += values[name].size
        for own in record:
            counts = run.recorded[own].counts
            assert counts is not None
            if different := int(np.count_nonzero(counts[-1] != values[own])):
                problems.append(Problem(f"image {start}", f"{different} counts of '{own}' differ"))
                wrong_neurons += different
            neurons += values[own].size
        integer.append(_real(graph, name, values[name]))
        spiking.append(_real(graph, name, run.final(name)))
        for steps, parts in before.items():
            parts.append(_real(graph, name, run.outputs[name][min(steps, run.steps) - 1]))
        settled = np.bincount(run.settle_steps, minlength=1).astype(np.int64)
        total += Evaluation(graph, len(emitted), None, settled, (), run.activity)
        if progress is not None:
            progress(end, len(levels))
    if problems and strict:
        raise MismatchError("the settled spiking network is not the integer network", problems)
    answered = {steps: torch.cat(parts) for steps, parts in before.items()}
    return Answers(
        torch.cat(integer), torch.cat(spiking), answered, total, outputs, neurons, wrong_outputs, wrong_neurons
    )


def _real(graph: SpikingGraph, name: str, integers: np.ndarray) -> Tensor:
    return torch.from_numpy(logits(graph, {name: integers}).astype(np.float32))
