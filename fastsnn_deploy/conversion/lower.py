"""From the quantised graph to the integer spiking graph."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Literal

from fastsnn_deploy.conversion import resample  # noqa: F401  it registers
from fastsnn_deploy.conversion.context import Context
from fastsnn_deploy.conversion.expression import CannotLowerError, Signal, Value
from fastsnn_deploy.conversion.quant_graph import QuantGraph, QuantNode
from fastsnn_deploy.conversion.rules import RULES
from fastsnn_deploy.errors import GraphError, LoweringError, Problem
from fastsnn_deploy.graph import Population, Schedule, SpikingGraph
from fastsnn_deploy.passes.balance import balanced


def lower(
    quant_graph: QuantGraph,
    *,
    neurons: str = "unary",
    input_schedule: Literal["once", "spread"] = "once",
    bias_schedule: Literal["wave", "spread", "initial"] = "wave",
    balance: bool = True,
    allow_loss: bool = False,
    gain: Fraction = Fraction(1),
    current: int = 1,
) -> SpikingGraph:
    """Integer spiking graph that settles to the quantised network's integers.

    Batch norm goes into thresholds and biases, pools and shortcuts into synapses, the output into a readout (or a
    spiking population if it ends in an activation). neurons: preset of spike bounds (`spike_bounds`). balance: delay
    shortcuts so that all arms of a sum arrive together. allow_loss: trained integers may lose bits where potentials
    of 24 bits cannot hold them; the graph's metadata says where.
    gain: of a schedule that image and bias enter for longer than the window; potentials leave room for it.
    current: window of a schedule whose image enters as a constant current; likewise.
    Raises LoweringError listing every place that has no exact form.
    """
    context = Context(neurons, allow_loss, gain, current)
    values: dict[str, Value] = {}
    problems: list[Problem] = []
    for node in quant_graph.nodes:
        if any(name not in values for name in node.inputs):
            continue  # follows a place already reported
        try:
            values[node.name] = RULES[type(node)](context, node, [values[name] for name in node.inputs])
        except CannotLowerError as error:
            problems.append(_problem(node, error))
    output = ""
    if not problems:
        node = next(node for node in quant_graph.nodes if node.name == quant_graph.output)
        try:
            output = _output(context, values[quant_graph.output], node)
        except CannotLowerError as error:
            problems.append(_problem(node, error))
    if problems:
        raise LoweringError(f"{len(problems)} places have no exact spiking form", problems)
    metadata = quant_graph.metadata | ({"losses": json.dumps(context.losses)} if context.losses else {})
    graph = _graph(context, output, input_schedule, bias_schedule, metadata)
    return balanced(graph) if balance else graph


def _graph(
    context: Context,
    output: str,
    input_schedule: Literal["once", "spread"],
    bias_schedule: Literal["wave", "spread", "initial"],
    metadata: dict[str, str],
) -> SpikingGraph:
    schedule = Schedule(window=context.window, input=input_schedule, bias=bias_schedule)
    try:
        return SpikingGraph(tuple(context.nodes.values()), (output,), schedule, metadata)
    except GraphError as error:
        raise LoweringError("the network does not fit the integer spiking graph", error.problems) from error


def _output(context: Context, value: Value, node: QuantNode) -> str:
    """Name of the output node: a population that is the answer itself, else a new readout."""
    if isinstance(value, Signal) and isinstance(context.nodes[value.source], Population):
        return value.source
    return context.readout(context.expression(value, node), node)


def _problem(node: QuantNode, error: CannotLowerError) -> Problem:
    where = node.module or node.name
    return Problem(f"{where} ({node.line})" if node.line else where, str(error), error.fix)
