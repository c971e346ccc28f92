"""The project's Markdown pages, cut into what a reader can run, follow or look up."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    path
    for path in (*ROOT.glob("*.md"), *(page for folder in ("docs", "examples", "benchmarks", "netx_exports")
                                       for page in (ROOT / folder).glob("*.md")))
)  # fmt: skip

FENCE = re.compile(r"^```(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block. line: of its first line of text in the page, from 1."""

    language: str
    text: str
    line: int


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    return [Block(found[1], found[2], text[: found.start(2)].count("\n") + 1) for found in FENCE.finditer(text)]


def commands(page: Path) -> Iterator[list[str]]:
    """The words of every command in the page's bash blocks, without comments; `&&` and `;` separate commands."""
    for block in blocks(page):
        if block.language == "bash":
            for line in block.text.replace("\\\n", " ").splitlines():
                words: list[str] = []
                for word in [*shlex.split(line, comments=True), ";"]:
                    if word in ("&&", ";"):
                        if words:
                            yield words
                        words = []
                    else:
                        words.append(word)


def prose(page: Path) -> str:
    """A page without its fenced blocks and without code in the text."""
    return re.sub(r"`[^`]*`", "", FENCE.sub("", page.read_text(encoding="utf-8")))


def anchor(heading: str) -> str:
    """The address that a heading has in a rendered page."""
    text = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return text.replace(" ", "-")
