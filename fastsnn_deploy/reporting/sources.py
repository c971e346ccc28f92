"""BibTeX of every source of a report: works by their names in the profiles, anything else as it is written there."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from importlib.resources import files

from fastsnn_deploy.reporting.latex import escaped
from fastsnn_deploy.reporting.schema import ReportFile

ENTRY = re.compile(r"^% named: (?P<names>[^\n]*)\n(?P<entry>@\w+\{(?P<key>[^,]+),\n.*?^\})", re.MULTILINE | re.DOTALL)

DOI = re.compile(r"10\.\d{4,9}/[^\s;,()\"']+")
ARXIV = re.compile(r"arXiv:? ?(\d{4}\.\d{4,5})")
YEAR = re.compile(r"\b(?:19|20)\d{2}\b")


def bibliography(file: ReportFile) -> dict[str, str]:
    """BibTeX entries by key, each below a line that says what it is the source of."""
    works, found, serves = _works(), {"fastsnndeploy": _works()["fastsnndeploy"][1]}, {"fastsnndeploy": ["this report"]}
    for row in file.constants:
        for key, entry in _entries(f"{row.source} {row.note}", row.source, works):
            found.setdefault(key, entry)
            serves.setdefault(key, []).append(row.key)
    for fixture in file.fixtures:
        for key, entry in _entries(f"{fixture.source} {fixture.note}", fixture.source, works):
            found.setdefault(key, entry)
            serves.setdefault(key, []).append(fixture.name)
    for key in ("timcheck2026",) if file.time is not None else ():
        found.setdefault(key, works[key][1])
        serves.setdefault(key, []).append("the bound of the time")
    return {key: f"% {', '.join(dict.fromkeys(serves[key]))}\n{entry}\n" for key, entry in found.items()}


def _works() -> dict[str, tuple[tuple[str, ...], str]]:
    """Known works by key: how profiles name them, and their entry."""
    text = (files("fastsnn_deploy.reporting") / "templates" / "works.bib").read_text(encoding="utf-8")
    return {found["key"]: (tuple(found["names"].split(" | ")), found["entry"]) for found in ENTRY.finditer(text)}


def _entries(text: str, source: str, works: dict[str, tuple[tuple[str, ...], str]]) -> Iterator[tuple[str, str]]:
    known = [(key, entry) for key, (names, entry) in works.items() if any(name in text for name in names)]
    yield from known or [_as_written(source)]


def _as_written(source: str) -> tuple[str, str]:
    key = "source" + hashlib.sha256(source.encode()).hexdigest()[:8]
    fields = {"title": f"{{{escaped(source)}}}"}
    if (doi := DOI.search(source)) is not None:
        fields["doi"] = escaped(doi[0].rstrip("."))
    if (number := ARXIV.search(source)) is not None:
        fields |= {"eprint": number[1], "archiveprefix": "arXiv"}
    if len(years := set(YEAR.findall(source))) == 1:
        fields["year"] = years.pop()
    body = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
    return key, f"@misc{{{key},\n{body}\n}}"
