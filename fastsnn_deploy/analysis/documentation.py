"""The table of constants in docs/energy.md, made from the shipped hardware profiles.

`python -m fastsnn_deploy.analysis.documentation docs/energy.md` writes it anew; a test checks that it is current.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fastsnn_deploy.analysis.hardware import available, load_hardware
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.files import existing_file, write_file

BEGIN = "<!-- constants: begin (generated, see fastsnn_deploy/analysis/documentation.py) -->"
END = "<!-- constants: end -->"


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


def with_constants(document: str) -> str:
    """`document` with the part between the two markers replaced. Raises InputError without both markers."""
    if BEGIN not in document or END not in document:
        raise InputError(f"the document lacks the markers '{BEGIN}' and '{END}'. Add them where the table belongs")
    before, rest = document.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    return f"{before}{BEGIN}\n\n{constants_markdown()}\n{END}{after}"


if __name__ == "__main__":
    path = existing_file(sys.argv[1], "document")
    write_file(Path(path), with_constants(path.read_text(encoding="utf-8")))
