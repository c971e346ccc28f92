"""`fastsnn-deploy export`: a checkpoint to a NetX file."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from fastsnn_deploy.cli.common import Json, output, print_json
from fastsnn_deploy.graph import Input, MaxPool2d, Population, Readout, SpikingGraph, Synapse


class Code(str, Enum):
    """Emission rule of the populations."""

    unary = "unary"
    graded = "graded"


class InputSchedule(str, Enum):
    """How the image is injected."""

    once = "once"
    spread = "spread"


class BiasSchedule(str, Enum):
    """How biases are injected."""

    wave = "wave"
    spread = "spread"
    initial = "initial"


def export(
    model: Annotated[Path, typer.Argument(help="Checkpoint of a quantised network (model.pt).")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="NetX file; default: model.net.")] = None,
    code: Annotated[
        Code, typer.Option(help="unary: spikes of -1 and 1; graded: one message carries a count.")
    ] = Code.unary,
    input_schedule: Annotated[
        InputSchedule, typer.Option("--input", help="once: one graded message a pixel; spread: over the window.")
    ] = InputSchedule.once,
    bias_schedule: Annotated[
        BiasSchedule, typer.Option("--bias", help="wave: with a layer's first charge; spread: over the window.")
    ] = BiasSchedule.wave,
    graph_file: Annotated[
        Path | None, typer.Option("--graph", help="Also write the spiking graph (.safetensors).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Convert a quantised network to an integer spiking network and write it as lava-dl NetX HDF5.

    What stock NetX lacks (signed neurons, several inputs, pooling) is a documented extension of the format.
    """
    from fastsnn_deploy import netx, quantize
    from fastsnn_deploy.graph import save
    from fastsnn_deploy.lower import convert

    checkpoint = quantize.load(model)
    graph = convert(checkpoint, code=code.value, input_schedule=input_schedule.value, bias_schedule=bias_schedule.value)
    target = out or model.with_suffix(".net")
    netx.write(graph, target)
    if graph_file is not None:
        save(graph, graph_file)
    summary = summarise(graph)
    if as_json:
        print_json({"file": str(target), **summary})
        return
    console = output()
    console.print(_table(summary))
    console.print(
        f"{target}: {summary['neurons']:,} neurons, {summary['synapses']:,} synapses, "
        f"{summary['parameters']:,} weights, depth {summary['depth']} steps, window {summary['window']} steps",
        highlight=False,
    )


def summarise(graph: SpikingGraph) -> dict[str, Any]:
    """What the graph holds, a row for each layer, as plain data."""
    rows = []
    for node in graph.nodes:
        if not isinstance(node, (Input, Population, MaxPool2d, Readout)):
            continue
        synapses = [graph[name] for name in node.inputs if isinstance(graph[name], Synapse)]
        connections = [s for s in synapses if isinstance(s, Synapse)]
        rows.append(
            {
                "layer": node.name,
                "module": node.module,
                "type": type(node).__name__,
                "shape": list(node.shape),
                "synapses": sum(int(s.fan_out(graph[s.inputs[0]].shape).sum()) for s in connections),
                "parameters": sum(s.parameters for s in connections),
                "inputs": [f"{s.name} ({type(s).__name__}) of {s.inputs[0]}" for s in connections] or list(node.inputs),
                "exponents": [[int(s.exponent.min()), int(s.exponent.max())] for s in connections],
                "delays": [s.delay for s in connections],
                "threshold": _span(node.threshold) if isinstance(node, Population) else None,
                "counts": [node.floor, node.ceiling] if isinstance(node, Population) else None,
            }
        )
    return {
        "layers": rows,
        "neurons": sum(node.size for node in graph.nodes if isinstance(node, (Population, Readout))),
        "synapses": sum(row["synapses"] for row in rows),
        "parameters": sum(row["parameters"] for row in rows),
        "depth": graph.depth,
        "window": graph.schedule.window,
        "metadata": dict(graph.metadata),
    }


def _span(values: Any) -> list[int]:
    return [int(values.min()), int(values.max())]


def _table(summary: dict[str, Any]) -> Table:
    table = Table(title="Integer spiking network", title_justify="left")
    for heading in ("layer", "type", "shape", "reads", "exponents", "threshold", "counts", "synapses"):
        table.add_column(heading, justify="right" if heading == "synapses" else "left", overflow="fold")
    for row in summary["layers"]:
        delays = row["delays"] or [1] * len(row["inputs"])
        reads = [f"{text} (+{d - 1} steps)" if d > 1 else text for text, d in zip(row["inputs"], delays, strict=True)]
        table.add_row(
            row["layer"],
            row["type"],
            "x".join(map(str, row["shape"])),
            "\n".join(reads),
            "\n".join(_range(span) for span in row["exponents"]),
            _range(row["threshold"]),
            _range(row["counts"]),
            f"{row['synapses']:,}",
        )
    return table


def _range(span: list[int] | None) -> str:
    return "" if span is None else f"{span[0]:,} to {span[1]:,}"
