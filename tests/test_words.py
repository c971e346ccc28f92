"""Code and docs use the words of docs/glossary.md: none that it replaced, one spelling."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pages import PAGES, ROOT, named, prose

RETIRED = {
    "twin": "quantised model",
    "charge": "synaptic input",
    "population code": "thermometer code",
    "population form": "thermometer code",
    "population target": "stock-lif",
    "serialize": "serialise",
    "walk": "launch",
    "wire": "serialise",
    "team": "process group",
}
"""Words that one term replaced, as they stand in prose and as parts of names."""

AMERICAN = re.compile(
    r"\b\w*?(quantiz|normaliz|serializ|initializ|summariz|optimiz|recogniz|minimiz|maximiz|analyz|color(?!:)|behavior"
    r"|labeled|modeling|favor)\w*",
    re.IGNORECASE,
)

SOURCES = [
    path
    for folder in ("fastsnn_deploy", "tests", "scripts", "benchmarks", "examples")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "loihi_stand_in" not in path.parts and path != Path(__file__)
]

ALLOWED: dict[str, set[str]] = {
    "fastsnn_deploy/backends/lava/network.py": {"wire"},  # where an output port goes is wiring
    "fastsnn_deploy/backends/lava/synapses.py": {"wire"},
}
"""Where a retired word means something else."""


def test_retired_words_are_not_in_the_code():
    names = re.compile(
        r"(?<![a-zA-Z])(" + "|".join(word.replace(" ", "[ _-]") for word in RETIRED) + r")s?(?![a-z])", re.I
    )
    camel = re.compile("(" + "|".join(word.title() for word in RETIRED if " " not in word) + r")s?(?![a-z])")
    found = []
    for path in SOURCES:
        allowed = ALLOWED.get(named(path), set())
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            for match in (*names.finditer(line), *camel.finditer(line)):
                if match[1].lower() not in allowed and "os.walk" not in line and "ast.walk" not in line:
                    found.append(f"{named(path)}:{number}: {match[0]}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "glossary.md"], ids=named)
def test_pages_use_the_glossary(page: Path):
    text = page.read_text(encoding="utf-8")
    words = re.compile(r"\b(" + "|".join(RETIRED) + r")s?\b", re.IGNORECASE)
    assert not words.findall(text)
    assert not [match[0] for match in AMERICAN.finditer(prose(page))]


def explanations(path: Path) -> Iterator[tuple[int, str]]:
    """Comments and docstrings of a file, without what stands in backticks."""
    text = path.read_text(encoding="utf-8")
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and '"""' in token.string[:4]):
            yield token.start[0], re.sub(r"`[^`]*`|\b[\w.]*[._/][\w./]*\b|\w+=\S*", "", token.string)


def test_comments_and_docstrings_are_british():
    found = []
    for path in SOURCES:
        for line, text in explanations(path):
            found += [f"{named(path)}:{line}: {match[0]}" for match in AMERICAN.finditer(text)]
    assert not found, "\n".join(found)


def test_every_retired_word_has_its_term_in_the_glossary():
    glossary = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8").lower()
    assert not [term for term in RETIRED.values() if term.removesuffix("-lif") not in glossary]
