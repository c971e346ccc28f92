"""The demo ends as README prints it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import Result, runner
from tests.pages import ROOT, blocks

SAME = ("50 images", "0 differ", "418,624 MACs")
"""What does not depend on the weights; the rest follows from a training, which differs a little between processors."""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    monkeypatch.setenv("COLUMNS", "160")
    return runner(monkeypatch, capsys)


def rows(text: str) -> dict[str, str]:
    """Value by heading, of the table's lines."""
    cells = [re.split(r"  +", line.strip(), maxsplit=1) for line in text.splitlines()]
    return {row[0]: row[1] for row in cells if len(row) == 2}


def shape(value: str) -> str:
    """A value with its numbers left out."""
    return re.sub(r"\d[\d,.]*", "N", value)


@pytest.mark.slow
@pytest.mark.lava
@pytest.mark.timeout(1200)
def test_the_demo_ends_as_the_readme_prints_it(run: Callable[..., Result], tmp_path: Path):
    result = run("demo", "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    printed = rows(result.stdout)
    quoted = rows(next(block.text for block in blocks(ROOT / "README.md") if block.text.startswith("accuracy")))
    assert list(quoted) == [heading for heading in printed if heading in quoted]
    for heading, value in quoted.items():
        assert shape(printed[heading]) == shape(value)
    for text in SAME:
        assert any(text in value for value in quoted.values())
        assert any(text in value for value in printed.values())
    accuracies = [float(number) for number in re.findall(r"([\d.]+) %", printed["accuracy"])]
    assert min(accuracies) > 95
