"""How every result is shown: tables as text, HTML and CSV, and what all results have in common (`Result`)."""

from __future__ import annotations

import csv
import html
import io
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastsnn_deploy.errors import legible

GAP = 2
"""Blanks between two columns of text."""

NARROW = 16
"""Characters that a column of text keeps before whole columns are left out."""

REPR_CHARACTERS = 120

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "'")
"""What text of a CSV cell that would not be taken as text begins with; and the apostrophe itself, which is read off."""

CELL = "padding: 0.1em 0.6em; vertical-align: top"
NUMBER = "text-align: right; white-space: nowrap"
CAPTION = "text-align: left; font-weight: bold"


def shown(value: Any) -> str:
    """A value as text: numbers with thousands separated, a pair of integers as a span, None as nothing."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() else f"{value:,.1f}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(shown, value))
    return str(value)


def percent(fraction: float | None) -> str:
    """0.98333 -> '98.33 %'."""
    return "" if fraction is None else f"{100 * fraction:.2f} %"


def span(ends: Sequence[int] | None) -> str:
    """(0, 3) -> '0 to 3'; equal ends once."""
    if ends is None:
        return ""
    low, high = ends
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def shape(sizes: Sequence[int]) -> str:
    """(3, 32, 32) -> '3x32x32'."""
    return "x".join(map(str, sizes))


def one_line(text: str) -> str:
    """At most 120 characters of `text`, for a `repr`."""
    return textwrap.shorten(text, REPR_CHARACTERS, placeholder=" ...)")


@dataclass(frozen=True)
class Column:
    """One column of a table.

    heading: what people read; CSV too. show: a value as text. number: right-aligned and never broken over two lines.
    drop: 0 for a column that is always shown; where there is no room the columns with the greatest `drop` go first,
    and a line below the table names them.
    """

    heading: str
    show: Callable[[Any], str] = shown
    number: bool = True
    drop: int = 0


def words(heading: str, drop: int = 0) -> Column:
    """A column of text, left-aligned."""
    return Column(heading, number=False, drop=drop)


@dataclass(frozen=True)
class Table:
    """Rows of plain values under headings.

    totals: how many of the last rows are sums, set apart by a line. notes: lines below the table.

    Example:
        >>> table = Table("Layers", (words("layer"), Column("neurons")), (("input", 64), ("conv", 1024)))
        >>> print(table.text())
        Layers
        layer  neurons
        --------------
        input       64
        conv     1,024
        >>> table.csv().splitlines()
        ['layer,neurons', 'input,64', 'conv,1024']
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]
    totals: int = 0
    notes: tuple[str, ...] = ()

    @staticmethod
    def facts(title: str, facts: Mapping[str, Any]) -> Table:
        """Names and values, one a line, without headings."""
        return Table(title, (words(""), words("")), tuple(facts.items()))

    def text(self, width: int | None = None, color: bool = False) -> str:
        """The table as lines of text.

        Args:
            width: Columns of the screen; None for as many as the table needs. A narrow table leaves out columns that
                may go and names them, then folds text. Numbers and words of a heading are never broken: a table
                whose numbers do not fit is wider than `width`.
            color: With escape codes for a terminal: title and headings are bold.

        Returns:
            Lines without blanks at their ends.
        """
        table = self if width is None else self._fitting(width)
        widths = table._widths(width)
        rule = "-" * (sum(widths) + GAP * (len(widths) - 1))
        headings = table._line([column.heading for column in table.columns], widths)
        lines = [_bold(legible(self.title), color)] if self.title else []
        if any(column.heading for column in table.columns):
            lines += [*(_bold(line, color) for line in headings), rule]
        for index, row in enumerate(table._cells()):
            if self.totals and index == len(self.rows) - self.totals:
                lines.append(rule)
            lines += table._line(row, widths)
        return "\n".join([*lines, *(wrapped(note, width) for note in table.notes)])

    def html(self) -> str:
        """The table as an HTML fragment; every text in it is escaped."""
        aligned = [f' style="{CELL}; {NUMBER if column.number else "text-align: left"}"' for column in self.columns]
        parts = [
            "<table>",
            f'<caption style="{CAPTION}">{html.escape(legible(self.title))}</caption>' if self.title else "",
        ]
        if any(column.heading for column in self.columns):
            head = zip(self.columns, aligned, strict=True)
            names = "".join(f"<th{style}>{html.escape(column.heading)}</th>" for column, style in head)
            parts.append(f"<thead><tr>{names}</tr></thead>")
        parts.append("<tbody>")
        for index, row in enumerate(self._cells()):
            line = ' style="border-top: 1px solid"' if self.totals and index == len(self.rows) - self.totals else ""
            cells = "".join(f"<td{a}>{_broken(cell)}</td>" for cell, a in zip(row, aligned, strict=True))
            parts.append(f"<tr{line}>{cells}</tr>")
        parts.append("</tbody></table>")
        return "\n".join(filter(None, [*parts, *(f"<p>{html.escape(legible(note))}</p>" for note in self.notes)]))

    def csv(self) -> str:
        """All columns with their values as they are: numbers in full, no separators. Text that a spreadsheet would run
        as a formula, since names come from files of strangers, has an apostrophe before it."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_no_formula(column.heading) for column in self.columns)
        writer.writerows(map(_no_formula, row) for row in self.rows)
        return text.getvalue()

    def _cells(self) -> list[list[str]]:
        return [[legible(c.show(value)) for c, value in zip(self.columns, row, strict=True)] for row in self.rows]

    def _needs(self) -> tuple[list[int], list[int]]:
        """Characters that each column needs at least, and those with which nothing is folded."""
        least, most = [], []
        for column, cells in zip(self.columns, zip(*self._cells(), strict=True) if self.rows else (), strict=False):
            longest = max(len(line) for cell in cells for line in (cell.splitlines() or [""]))
            word = max(map(len, column.heading.split()), default=0)
            most.append(max(longest, _half(column.heading) if column.number else len(column.heading)))
            least.append(max(longest, word) if column.number else max(word, min(longest, NARROW)))
        return least or [len(c.heading) for c in self.columns], most or [len(c.heading) for c in self.columns]

    def _fitting(self, width: int) -> Table:
        """The table without the columns for which there is no room, and a note that names them."""
        table, left_out = self, []
        while sum(table._needs()[0]) + GAP * (len(table.columns) - 1) > width:
            last = max(range(len(table.columns)), key=lambda index: table.columns[index].drop)
            if not table.columns[last].drop:
                break
            left_out.append(table.columns[last].heading)
            keep = [index for index in range(len(table.columns)) if index != last]
            rows = tuple(tuple(row[index] for index in keep) for row in table.rows)
            table = replace(table, columns=tuple(table.columns[index] for index in keep), rows=rows)
        if not left_out:
            return table
        note = f"not shown in {width} columns: {', '.join(left_out)}; all of it with --json or to_dict()"
        return replace(table, notes=(*self.notes, note))

    def _widths(self, width: int | None) -> list[int]:
        least, most = self._needs()
        if width is None:
            return most
        widths, room = list(most), width - GAP * (len(most) - 1)
        while sum(widths) > room and widths != least:  # the widest text gives way first
            widest = max(range(len(widths)), key=lambda index: (widths[index] > least[index], widths[index]))
            widths[widest] -= 1
        return widths

    def _line(self, cells: Sequence[str], widths: Sequence[int]) -> list[str]:
        """One row, over several lines where a text is folded."""
        folded = [_folded(cell, width) for cell, width in zip(cells, widths, strict=True)]
        lines = []
        for index in range(max(map(len, folded))):
            parts = [cell[index] if index < len(cell) else "" for cell in folded]
            aligned = [
                part.rjust(width) if column.number else part.ljust(width)
                for part, width, column in zip(parts, widths, self.columns, strict=True)
            ]
            lines.append((" " * GAP).join(aligned).rstrip())
        return lines


class Result(ABC):
    """What every result of this package has: `repr`, `summary()`, `_repr_html_()` for notebooks, and `to_dict()`."""

    @abstractmethod
    def report(self) -> Sequence[Table | str]:
        """The tables and lines that people read, in order."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values for `json.dumps`."""

    def summary(self, width: int | None = None, color: bool = False) -> str:
        """The report as text; nothing is printed. width, color: as in `Table.text`."""
        return text_of(self.report(), width, color)

    def _repr_html_(self) -> str:
        """The report for a notebook."""
        parts = [p.html() if isinstance(p, Table) else f"<p>{html.escape(legible(p))}</p>" for p in self.report()]
        return "\n".join(parts)


def text_of(report: Iterable[Table | str], width: int | None = None, color: bool = False) -> str:
    """Tables and lines one below the other, an empty line around each table."""
    text, after_table = "", False
    for part in report:
        table = isinstance(part, Table)
        if text:
            text += "\n\n" if table or after_table else "\n"
        text += part.text(width, color) if isinstance(part, Table) else wrapped(part, width)
        after_table = table
    return text


def wrapped(text: str, width: int | None) -> str:
    """Lines folded between words; words longer than the screen, such as addresses and paths, stay whole."""
    text = legible(text)
    if width is None:
        return text
    fill = textwrap.TextWrapper(max(width, 1), break_long_words=False, break_on_hyphens=False, subsequent_indent="    ")
    return "\n".join(fill.fill(line) for line in text.splitlines())


def _half(heading: str) -> int:
    """Characters that a heading needs on two lines."""
    spaces = [index for index, letter in enumerate(heading) if letter == " "]
    return min((max(at, len(heading) - at - 1) for at in spaces), default=len(heading))


def _folded(cell: str, width: int) -> list[str]:
    lines: list[str] = []
    for line in cell.splitlines():
        lines += textwrap.wrap(line, max(width, 1), break_on_hyphens=False) or [""]
    return lines or [""]


def _bold(text: str, color: bool) -> str:
    return f"\x1b[1m{text}\x1b[0m" if color else text


def _no_formula(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return f"'{legible(value)}" if value.startswith(FORMULA) else legible(value)


def _broken(cell: str) -> str:
    return html.escape(cell).replace("\n", "<br>")
