"""What a NIR file does not say of the network it came from: for programs (JSON) and for people (a table)."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastsnn_deploy.files import is_stream, write_file
from fastsnn_deploy.tables import Result, Table, one_line, words

FORMAT = "fastsnn-deploy NIR loss report"
VERSION = 1
SUFFIX = ".loss.json"

SHOWN_NODES = 3
"""Nodes that one row of the table names."""


@dataclass(frozen=True)
class Loss:
    """One thing that NIR cannot say.

    node: name in our network, "" for the network as a whole. module: the user's module it comes from. field: which
    property is lost, a stable key of docs/nir.md. lost: its value. consequence: what a reader of the file will do
    instead. can_change_results: whether a reader's answer can differ because of it.
    """

    node: str
    module: str
    field: str
    lost: str
    consequence: str
    can_change_results: bool


@dataclass(frozen=True)
class LossReport(Result):
    """Everything that a NIR file does not say. file: its name. nir_version: of the library that wrote it."""

    file: str
    nir_version: str
    losses: tuple[Loss, ...]

    @property
    def lossless(self) -> bool:
        """Nothing was lost."""
        return not self.losses

    @property
    def can_change_results(self) -> bool:
        """A reader that computes what the file says may give another answer than our network."""
        return any(loss.can_change_results for loss in self.losses)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values; docs/nir.md lists the keys."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "file": self.file,
            "nir_version": self.nir_version,
            "lossless": self.lossless,
            "can_change_results": self.can_change_results,
            "losses": [dataclasses.asdict(loss) for loss in self.losses],
        }

    def write(self, path: str | Path) -> Path:
        """Write the report beside the NIR file `path` and return where. Raises InputError if it cannot be written.

        Beside a device or a pipe there is no place for it.
        """
        target = Path(f"{path}{SUFFIX}")
        if not is_stream(path):
            write_file(target, json.dumps(self.to_dict(), indent=2) + "\n")
        return target

    def __repr__(self) -> str:
        return one_line(f"LossReport({self.file}, {len(self.losses)} losses)")

    def report(self) -> tuple[Table | str, ...]:
        """One row for each kind of loss, with the nodes that it touches."""
        if self.lossless:
            return (f"{self.file}: NIR says all of this network, nothing is lost",)
        columns = (words("lost"), words("nodes"), words("what a reader will do"), words("changes results"))
        rows = (
            (field, _named(nodes), consequence, "possibly" if changes else "no")
            for (field, consequence, changes), nodes in self._grouped().items()
        )
        return (Table(f"What {self.file} cannot say", columns, tuple(rows)),)

    def _grouped(self) -> dict[tuple[str, str, bool], list[str]]:
        groups: dict[tuple[str, str, bool], list[str]] = {}
        for loss in self.losses:
            groups.setdefault((loss.field, loss.consequence, loss.can_change_results), []).append(loss.node)
        return groups


def _named(nodes: list[str]) -> str:
    if nodes == [""]:
        return "whole network"
    rest = len(nodes) - SHOWN_NODES
    return ", ".join(nodes[:SHOWN_NODES]) + (f" and {rest} more" if rest > 0 else "")
