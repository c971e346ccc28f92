"""A report: its values, and the folder that holds them in every form."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping as Map
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from fastsnn_deploy.analysis.mapping.file import text_of
from fastsnn_deploy.folders import FolderKind, write_folder
from fastsnn_deploy.reporting.fill import filled
from fastsnn_deploy.reporting.findings import Findings
from fastsnn_deploy.reporting.latex import latex
from fastsnn_deploy.reporting.page import page
from fastsnn_deploy.reporting.schema import FORMAT, ReportFile, Source
from fastsnn_deploy.reporting.sources import bibliography
from fastsnn_deploy.tables import Column, Result, Table, one_line, shape

CONTENTS = {
    "report.html": "page",
    "report.json": "data",
    "layers.csv": "table of layers",
    "cores.csv": "table of cores",
    "steps.csv": "table of steps",
    "constants.csv": "table of constants",
    "mapping.json": "tiles and places",
    "report.tex": "LaTeX table",
    "sources.bib": "BibTeX",
}
"""Files of the folder, and what each is."""

FOLDER = FolderKind("report", tuple(CONTENTS), ("report.json", FORMAT.encode()))


@dataclass(frozen=True, eq=False)
class Report(Result):
    """What `fd.report` found: `file` holds every value as report.json has it, `save` writes the folder."""

    found: Findings

    def __repr__(self) -> str:
        fit, proof = self.file.fit, self.file.proof
        said = "fit not known" if fit is None else f"fits, {fit.cores:,} cores" if fit.fits else "does not fit"
        proved = "nothing proved" if proof is None else "exact" if proof.exact else "NOT EXACT"
        return one_line(f"Report({self.file.network.name} on {self.file.hardware.name}: {said}, {proved})")

    @cached_property
    def _values(self) -> ReportFile:
        return filled(self.found)

    @cached_property
    def _contents(self) -> dict[str, str]:
        """Every file but report.json and the page."""
        file, mapping = self._values, self.found.mapping
        entries = bibliography(file)
        contents = {
            "layers.csv": rows_table(file.layers).csv(),
            "cores.csv": rows_table(file.cores).csv(),
            "steps.csv": rows_table(file.steps).csv(),
            "constants.csv": rows_table(file.constants).csv(),
            "report.tex": latex(file, entries),
            "sources.bib": "\n".join(entries.values()),
        }
        return contents | ({"mapping.json": text_of(mapping)} if mapping is not None else {})

    @cached_property
    def file(self) -> ReportFile:
        """All values, with the hashes of the files beside it."""
        made = self._values.made
        sources = tuple(
            Source(what=CONTENTS[name], name=name, sha256=_hash(text)) for name, text in self._contents.items()
        )
        return self._values.model_copy(update={"made": made.model_copy(update={"files": sources})})

    def contents(self) -> dict[str, str]:
        """Every file of the folder by name."""
        data = self.file.model_dump_json(indent=1) + "\n"
        return {"report.html": page(self.file, _hash(data)), "report.json": data, **self._contents}

    def save(self, folder: str | Path) -> None:
        """Write the folder: it is complete, or what was there before stays.

        Args:
            folder: A new or empty folder, or one that holds a report, which is replaced.

        Raises:
            InputError: something else is there, or it cannot be written.
        """
        write_folder(folder, self.contents(), FOLDER)

    def report(self) -> tuple[Table | str, ...]:
        """What the first screen of the page says."""
        found = self.found
        lines: list[str] = []
        if found.mapping is not None:
            lines += [part for part in found.mapping.report()[1:-1] if isinstance(part, str)]
        if found.timing is not None:
            lines += [part for part in found.timing.report() if isinstance(part, str)]
        if found.evaluation is not None:
            lines.append(repr(found.evaluation))
        if found.profile is not None:
            lines.append(repr(found.profile))
        if self.file.proof is not None:
            lines.append(self.file.proof.line)
        return (*lines, *found.notes)

    def to_dict(self) -> dict[str, Any]:
        """Plain values: report.json. Keys are in docs/schemas/report.json."""
        return self.file.model_dump(mode="json")


def rows_table(rows: tuple[BaseModel, ...]) -> Table:
    """Rows of one kind as a table, for CSV: a table in a cell becomes several columns, a shape a text."""
    flat = [dict(_flat(row.model_dump())) for row in rows]
    columns = tuple(dict.fromkeys(key for row in flat for key in row))
    return Table("", tuple(map(Column, columns)), tuple(tuple(row.get(key) for key in columns) for row in flat))


def _flat(values: Map[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        if isinstance(value, dict):
            found += _flat(value, f"{prefix}{key}_")
        else:
            found.append((prefix + key, shape(value) if isinstance(value, tuple) else value))
    return found


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
