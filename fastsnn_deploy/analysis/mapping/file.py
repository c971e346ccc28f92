"""mapping.json: tiles and places, to be edited by hand and read again."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from fastsnn_deploy.analysis.chip import Strict, Text
from fastsnn_deploy.analysis.mapping.grid import Grid, cubic
from fastsnn_deploy.errors import InputError, Problem
from fastsnn_deploy.files import write_file
from fastsnn_deploy.reading import of_schema, read_json

if TYPE_CHECKING:
    from fastsnn_deploy.analysis.mapping.result import Mapping
    from fastsnn_deploy.analysis.mapping.sites import Site

FORMAT = "fastsnn-deploy mapping"
VERSION = 1

Whole = Annotated[int, Field(ge=1, le=2**31)]


class LayerFile(Strict):
    """One layer. shape: of the network, only to be checked. tile: what one core takes of it, from 1 to the shape along
    each axis. first: its first core, counted over all chips; its others follow."""

    layer: Text
    shape: Annotated[tuple[Whole, ...], Field(strict=False)]
    tile: Annotated[tuple[Whole, ...], Field(strict=False)]
    first: Annotated[int, Field(ge=0, le=2**31)]

    @property
    def grid(self) -> Grid:
        """Its tiles."""
        return Grid(cubic(self.shape), cubic(self.tile))


class MappingFile(Strict):
    """The whole file. hardware: the profile that the mapping was made for; another may be asked for."""

    format: Literal["fastsnn-deploy mapping"]
    version: Literal[1]
    hardware: Text
    objective: Literal["cores", "balance"]
    layers: Annotated[tuple[LayerFile, ...], Field(strict=False)]


def text_of(mapping: Mapping) -> str:
    """Tiles and places of a mapping as the text of its file."""
    layers = [
        {"layer": each.name, "shape": list(each.shape), "tile": list(each.tile), "first": each.first}
        for each in mapping.layers
    ]
    head = {"format": FORMAT, "version": VERSION, "hardware": mapping.hardware.name, "objective": mapping.objective}
    lines = ",\n".join(f"    {json.dumps(layer)}" for layer in layers)
    opened = json.dumps(head, indent=2).removesuffix("\n}")
    return f'{opened},\n  "layers": [\n{lines}\n  ]\n}}\n'


def write(mapping: Mapping, path: str | Path) -> None:
    """Write tiles and places of a mapping."""
    write_file(path, text_of(mapping))


def read(path: str | Path) -> MappingFile:
    """Read a mapping file. Raises InputError listing every wrong value."""
    return of_schema(MappingFile, read_json(path, "mapping file"), path, "mapping: write one with `map -o`")


def fitting(
    file: MappingFile, path: str | Path, sites: tuple[Site, ...], *, whole: bool = False
) -> dict[str, LayerFile]:
    """The entry of each layer. whole: the chip cuts no layer.

    Raises InputError with everything in which the file differs from the network: layers, shapes, tiles beyond them,
    cores that two layers share.
    """
    found = {entry.layer: entry for entry in file.layers}
    problems = [Problem(entry.layer, "is no layer of this network") for entry in _unknown(file, sites)]
    problems += [Problem(name, "is there twice") for name in found if [e.layer for e in file.layers].count(name) > 1]
    for site in sites:
        entry = found.get(site.name)
        if entry is None:
            problems.append(Problem(site.name, "is missing", "Add it, or map anew"))
        elif entry.shape != site.shape:
            problems.append(Problem(site.name, f"has shape {list(entry.shape)}, the network's is {list(site.shape)}"))
        elif len(entry.tile) != len(site.shape) or any(t > s for t, s in zip(entry.tile, site.shape, strict=True)):
            problems.append(Problem(site.name, f"has tile {list(entry.tile)}, of a layer of {list(site.shape)}"))
        elif whole and entry.tile != site.shape:
            problems.append(Problem(site.name, f"has tile {list(entry.tile)}, but this chip takes whole layers"))
    if not problems:
        problems = _overlaps(tuple(found.values()))
    if problems:
        raise InputError(f"{path}: does not fit this network", problems)
    return found


def _unknown(file: MappingFile, sites: tuple[Site, ...]) -> list[LayerFile]:
    names = {site.name for site in sites}
    return [entry for entry in file.layers if entry.layer not in names]


def _overlaps(entries: tuple[LayerFile, ...]) -> list[Problem]:
    ordered = sorted(entries, key=lambda entry: entry.first)
    return [
        Problem(b.layer, f"begins on core {b.first}, layer '{a.layer}' has cores {a.first} to {end - 1}", "Move one")
        for a, b in itertools.pairwise(ordered)
        if (end := a.first + a.grid.cores) > b.first
    ]
