"""The notebooks of examples/ run from their first cell to their last, and hold the outputs of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

FOLDER = Path(__file__).resolve().parent.parent / "examples"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def cells(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


def test_there_is_a_notebook():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_hold_the_outputs_of_one_run_in_order(path: Path):
    found = cells(path)
    assert [cell["execution_count"] for cell in found] == list(range(1, len(found) + 1))
    assert any("image/png" in output.get("data", {}) for cell in found for output in cell["outputs"])
    assert not any(output["output_type"] == "error" for cell in found for output in cell["outputs"])


@pytest.mark.slow
@pytest.mark.lava
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    mpl.use("Agg")
    names: dict[str, Any] = {"__name__": "__main__"}
    for cell in cells(path):
        lines = [line for line in "".join(cell["source"]).splitlines() if not line.startswith("%")]
        exec(compile("\n".join(lines), str(path), "exec"), names)
    plt.close("all")
    assert (tmp_path / "digits.net").is_file()
