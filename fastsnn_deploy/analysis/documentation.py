"""The tables in docs/energy.md that are made: of measurements beside estimates, and of all constants.

`python -m fastsnn_deploy.analysis.documentation docs/energy.md docs/records/fixtures.json` writes them anew, and the
estimates as they are; a test checks that both are current.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from fastsnn_deploy.analysis.fixtures import fixtures
from fastsnn_deploy.analysis.hardware import available, load_hardware
from fastsnn_deploy.analysis.result import VERSION
from fastsnn_deploy.analysis.units import number
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.files import existing_file, write_file

MARKERS = "<!-- {}: begin (generated, see fastsnn_deploy/analysis/documentation.py) -->", "<!-- {}: end -->"


def fixtures_markdown() -> str:
    """Every measurement beside its estimate, one line each."""
    rows = ["| measured | quantity | measured | estimate | low to high | estimate / measured | profile | made from |",
            "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for each in fixtures():
        value, low, high = (number(getattr(each.estimate, end)) for end in ("value", "low", "high"))
        ends = f"{low} to {high}"
        cells = (f"{each.name} ({each.source})", each.quantity, number(each.measured), value, ends,
                 number(each.ratio), each.hardware, each.note)  # fmt: skip
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"


def constants_markdown() -> str:
    """Every constant of every shipped profile as Markdown, one table a profile."""
    parts = []
    for name in available():
        hardware = load_hardware(name)
        parts += [f"### {name}", "", f"{hardware.title}. {hardware.process}; {hardware.operating_point}.", ""]
        if hardware.based_on is not None:
            parts += [f"Constants are those of `{hardware.based_on}`; what differs are limits, see mapping.md.", ""]
            continue
        parts += [hardware.scope, ""]
        if hardware.spikes is not None:
            sends = ((hardware.spikes.signed, "signed"), (hardware.spikes.graded, "graded"))
            parts += [" ".join(f"{kind.capitalize()} spikes: {'yes' if has else 'no'}." for has, kind in sends), ""]
        parts += ["| constant | value | band | unit | status | source | band from |", "|---|---|---|---|---|---|---|"]
        for key, constant in hardware.constants():
            source = f"{constant.source} ({constant.operating_point})" + (f"; {constant.note}" if constant.note else "")
            cells = (
                key,
                f"{constant.value:g}",
                f"{constant.low:g} to {constant.high:g}",
                constant.unit,
                constant.status,
                source,
                constant.band,
            )
            parts.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        parts.append("")
        parts += [f"- {caveat}" for caveat in hardware.caveats]
        parts.append("")
    return "\n".join(parts)


def with_tables(document: str) -> str:
    """`document` with the parts between markers replaced. Raises InputError for missing markers."""
    for name, made in (("fixtures", fixtures_markdown()), ("constants", constants_markdown())):
        begin, end = (marker.format(name) for marker in MARKERS)
        if begin not in document or end not in document:
            raise InputError(f"the document lacks the markers '{begin}' and '{end}'. Add them where the table belongs")
        before, rest = document.split(begin, 1)
        document = f"{before}{begin}\n\n{made}\n{end}{rest.split(end, 1)[1]}"
    return document


def record() -> str:
    """Measurements and estimates as JSON."""
    return json.dumps({"version": VERSION, "fixtures": [each.to_dict() for each in fixtures()]}, indent=1) + "\n"


if __name__ == "__main__":
    page = existing_file(sys.argv[1], "document")
    write_file(Path(page), with_tables(page.read_text(encoding="utf-8")))
    write_file(Path(sys.argv[2]), record())
