"""`fastsnn-deploy info`: what a file is, its layers and its metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastsnn_deploy.cli.common import Json, print_json, show
from fastsnn_deploy.graph.preprocessing import KEY, Preprocessing
from fastsnn_deploy.tables import Column, Table, shape, words

if TYPE_CHECKING:
    from fastsnn_deploy.tables import Result


def info(
    file: Annotated[
        Path,
        typer.Argument(help="Checkpoint, exported network, NIR, graph file; or a hardware profile, by name or file."),
    ],
    as_json: Json = False,
) -> None:
    """Say what a file is, with its layers and metadata: ours, or a stock NetX or NIR file of another program."""
    kind, report, plain = examine(file)
    if as_json:
        print_json({"file": str(file), "kind": kind, **plain})
        return
    known = Preprocessing.of(plain["metadata"])
    others = {key: value for key, value in plain["metadata"].items() if key != KEY}
    metadata = {key: value if isinstance(value, str) else json.dumps(value) for key, value in others.items()}
    short = {key: value if len(value) <= 200 else f"{value[:200]} ..." for key, value in metadata.items()}
    pictures = [] if known is None else [Table.facts("Preprocessing of pictures", known.facts())]
    show(f"{file}: {kind}", *report, *pictures, *([Table.facts("Metadata", short)] if short else []))


def examine(file: Path) -> tuple[str, tuple[Table | str, ...], dict[str, Any]]:
    """(kind in words, tables and lines, plain values with `metadata`) of a file. Raises InputError for other files."""
    from fastsnn_deploy.files import kind_of_file, readable_file

    if _is_profile(file):
        return _hardware(file)
    kind = kind_of_file(readable_file(file, "file"))
    if kind in ("training state", "fine-tuning state"):
        command = "train" if kind == "training state" else "finetune"
        return f"a {kind}; go on with `fastsnn-deploy {command} --resume`", (), {"metadata": {}}
    if kind == "checkpoint":
        from fastsnn_deploy.quantisation import load as load_checkpoint

        return _described("a checkpoint of a quantised model", load_checkpoint(file))
    if kind == "spiking graph file":
        from fastsnn_deploy.graph import load

        return _described("a spiking graph", load(file))
    if kind == "NIR file":
        return _nir(file)
    if file.suffix in (".yaml", ".yml"):
        return _hardware(file)
    if not kind and (found := _of_others(file)) is not None:
        return f"{found}; `fastsnn-deploy check` says what would become of it", (), {"metadata": {}}
    return _netx(file)


def _of_others(file: Path) -> str | None:
    """The kind of a network file of another program, None if it is none."""
    from fastsnn_deploy.quantisation.sources import SOURCES, look_at

    content = look_at(file)
    return next((source.name for source in SOURCES if source.holds(content)), None)


def _described(kind: str, result: Result) -> tuple[str, tuple[Table | str, ...], dict[str, Any]]:
    return kind, tuple(result.report()), result.to_dict()


def _netx(file: Path) -> tuple[str, tuple[Table | str, ...], dict[str, Any]]:
    from fastsnn_deploy.formats import netx

    if netx.kind_of(file) == "extension":
        return _described("an exported network, NetX with the extension of this program", netx.read(file))
    return _described("an exported network, stock NetX", netx.read_stock(file))


def _nir(file: Path) -> tuple[str, tuple[Table | str, ...], dict[str, Any]]:
    from fastsnn_deploy.formats.nir.file import KEY, read_graph

    graph = read_graph(file)
    ours = KEY in graph.metadata
    rows = [(name, type(node).__name__, _shape(node.output_type)) for name, node in graph.nodes.items()]
    table = Table("Nodes", (words("node"), words("type"), Column("shape")), tuple(rows))
    plain = {
        "layers": [dict(zip(("node", "type", "shape"), row, strict=True)) for row in rows],
        "edges": [list(edge) for edge in graph.edges],
        "metadata": {key: str(value) for key, value in graph.metadata.items() if key != KEY},
    }
    return "a NIR file" + (" of this program" if ours else ""), (table, f"{len(graph.edges)} edges"), plain


def _shape(types: Any) -> str:
    return ", ".join(shape([int(size) for size in sizes]) for sizes in (types or {}).values() if sizes is not None)


def _is_profile(file: Path) -> bool:
    """Whether it is the name of a shipped profile, and no file."""
    from fastsnn_deploy.analysis.hardware import available

    return str(file) in available() and not file.exists()


def _hardware(file: Path) -> tuple[str, tuple[Table | str, ...], dict[str, Any]]:
    from fastsnn_deploy.analysis.hardware import load_hardware
    from fastsnn_deploy.analysis.plain import hardware_values
    from fastsnn_deploy.analysis.render import constants_table, limits_table

    hardware = load_hardware(file)
    table = constants_table(dict(hardware.constants()), "Constants")
    limits = () if hardware.chip is None else (limits_table(hardware.chip),)
    facts = (f"{hardware.title}, {hardware.process}", f"scope: {hardware.scope}", *hardware.caveats)
    plain = {"hardware": hardware_values(hardware), "metadata": {}}
    return "a hardware profile", (facts[0], table, *limits, *facts[1:]), plain
