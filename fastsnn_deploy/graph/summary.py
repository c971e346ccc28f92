"""A spiking graph in few words and as a table of layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastsnn_deploy.graph.nodes import Input, MaxPool2d, Population, Readout
from fastsnn_deploy.graph.ranges import STATE_BITS
from fastsnn_deploy.graph.synapses import Synapse
from fastsnn_deploy.tables import Column, Table, one_line, shape, shown, span, words

if TYPE_CHECKING:
    from fastsnn_deploy.graph.spiking_graph import SpikingGraph

Layer = Input | Population | MaxPool2d | Readout

COLUMNS = {
    "layer": words("layer"),
    "module": words("module", drop=8),
    "type": words("type", drop=4),
    "shape": Column("shape", shape),
    "synapses": Column("synapses", drop=3),
    "parameters": Column("parameters"),
    "reads": Column("reads", "\n".join, number=False, drop=6),
    "exponents": Column("exponents", lambda spans: "\n".join(map(span, spans)), drop=7),
    "threshold": Column("threshold", span),
    "potential_bits": Column(f"bits of {STATE_BITS}", drop=5),
    "counts": Column("counts", span, drop=2),
    "spikes": Column("spikes", span, drop=1),
    "weights": Column("weights", span),
    "nonzero": Column("nonzero"),
}
"""How each value of a row of `layer_rows` is shown."""


def headline(graph: SpikingGraph) -> str:
    """The graph in one line."""
    answers = ", ".join(shape(graph[name].shape) for name in graph.outputs)
    name = next((f"{graph.metadata[key]!r}, " for key in ("name", "recipe", "data") if key in graph.metadata), "")
    parameters = sum(synapse.parameters for synapse in graph.synapses)
    return one_line(
        f"SpikingGraph({name}{len(graph.populations)} populations, {shape(graph.input.shape)} -> {answers}, "
        f"{parameters:,} parameters, depth {graph.depth})"
    )


def totals(graph: SpikingGraph) -> dict[str, int]:
    """Neurons that compute (populations and readouts), synapses, parameters, depth and window."""
    return {
        "neurons": sum(node.size for node in graph.nodes if isinstance(node, (Population, Readout))),
        "synapses": sum(int(s.fan_out(graph[s.inputs[0]].shape).sum()) for s in graph.synapses),
        "parameters": sum(s.parameters for s in graph.synapses),
        "depth": graph.depth,
        "window": graph.schedule.window,
        **({"start_delay": graph.schedule.start_delay} if graph.schedule.start_delay else {}),
    }


def layer_rows(graph: SpikingGraph) -> tuple[dict[str, Any], ...]:
    """Plain values of each input, population, max pool and readout, with the synapses that it reads.

    potential_bits: those that no image and no step can make a potential leave, sign included; a potential has 24.
    """
    return tuple(_row(graph, node) for node in graph.nodes if isinstance(node, Layer))


def layer_table(rows: Sequence[dict[str, Any]], title: str = "Layers") -> Table:
    """One line a layer; columns are the keys that any row has a value for."""
    keys = [key for key in COLUMNS if any(row.get(key) for row in rows)]
    if all(row.get("module", "") in ("", row["layer"]) for row in rows) and "module" in keys:
        keys.remove("module")  # layers are named after their modules: nothing to add
    columns = tuple(COLUMNS[key] for key in keys)
    return Table(title, columns, tuple(tuple(_value(row, key) for key in keys) for row in rows))


def totals_line(values: dict[str, int]) -> str:
    """Totals in one line: 1,234 neurons, 56,789 synapses, depth 7, ..."""
    steps = ("depth", "window", "start delay")
    named = ((key.replace("_", " "), value) for key, value in values.items())
    return ", ".join(f"{k} {shown(v)}" if k in steps else f"{shown(v)} {k}" for k, v in named)


def _value(row: dict[str, Any], key: str) -> Any:
    return row.get(key, () if key in ("reads", "exponents") else None)


def _row(graph: SpikingGraph, node: Layer) -> dict[str, Any]:
    potential = graph.ranges.get(f"{node.name}.potential")
    synapses = [synapse for name in node.inputs if isinstance(synapse := graph[name], Synapse)]
    return {
        "layer": node.name,
        "module": node.module,
        "type": type(node).__name__,
        "shape": list(node.shape),
        "synapses": sum(int(s.fan_out(graph[s.inputs[0]].shape).sum()) for s in synapses),
        "parameters": sum(s.parameters for s in synapses),
        "reads": [_reads(s) for s in synapses] or list(node.inputs),
        "exponents": [_ends(s.exponent) for s in synapses],
        "threshold": _ends(node.threshold) if isinstance(node, Population) else None,
        "potential_bits": None if potential is None else potential.bits,
        "counts": [node.floor, node.ceiling] if isinstance(node, Population) else None,
        "spikes": _spike_range(node) if isinstance(node, Population) else None,
    }


def _reads(synapse: Synapse) -> str:
    extra = synapse.delay - 1
    late = f", {extra} step{'s' if extra > 1 else ''} later" if extra else ""
    return f"{synapse.inputs[0]} by {synapse.name} ({type(synapse).__name__}{late})"


def _ends(values: Any) -> list[int]:
    return [int(values.min()), int(values.max())]


def _spike_range(node: Population) -> list[int]:
    """Least and greatest spike that a population can send in one step."""
    whole = node.ceiling - node.floor
    return [max(node.min_spike, -whole), min(node.max_spike, whole)]
