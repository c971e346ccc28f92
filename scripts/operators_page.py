"""Write docs/operators.md: what each operation of a network becomes, from the registries of rules.

uv run python scripts/operators_page.py
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastsnn_deploy.conversion import lower  # noqa: F401  it registers
from fastsnn_deploy.conversion.rules import RULES
from fastsnn_deploy.files import write_file
from fastsnn_deploy.quantisation import capture  # noqa: F401  it registers
from fastsnn_deploy.quantisation.exported import ATEN_RULES
from fastsnn_deploy.quantisation.graph_edit import ADVICE
from fastsnn_deploy.quantisation.replaced import REPLACEABLE

PAGE = Path(__file__).resolve().parents[1] / "docs" / "operators.md"

HEAD = """# Supported operations

Made by `scripts/operators_page.py` from the rules themselves; a test keeps it equal.

A network is captured with torch.export, so an operation is meant however it is written: as a module, a function or a
method, in place or not, with positions or keywords. What is not in the first table is refused, with its place, and what
several places have in common is said once. Networks that go in are in [networks.md](networks.md).
"""
REFUSED = "Refused"


def first_line(thing: Callable[..., Any] | type) -> str:
    """The first sentence of what a rule or a node type says of itself."""
    return inspect.cleandoc(thing.__doc__ or "").split("\n\n")[0].replace("\n", " ").replace("|", "/")


def page() -> str:
    """The page's text."""
    names: dict[Any, list[str]] = {}
    for name, rule in ATEN_RULES.items():
        names.setdefault(rule, []).append(name)
    lines = [HEAD, "| operation (aten) | becomes |", "|---|---|"]
    lines += [
        f"| {', '.join(listed)} | {first_line(rule)} |"
        for rule, listed in names.items()
        if not first_line(rule).startswith(REFUSED)
    ]
    lines += [
        "", "## Rectifiers", "",
        'With `prepare(..., replace_activations="relu")` these become ReLU, with a warning: the network then computes',
        f"something else, and must be fine-tuned. {', '.join(sorted(REPLACEABLE))}.",
        "", "## Refused", "", "What people ask for most, and what to do instead:", "", "| | |", "|---|---|",
    ]  # fmt: skip
    advice: dict[str, list[str]] = {}
    for name, fix in ADVICE.items():
        advice.setdefault(fix, []).append(name)
    lines += [f"| {', '.join(listed)} | {fix} |" for fix, listed in advice.items()]
    lines += [
        "", "## What a quantised model may consist of", "",
        "What conversion reads, each with its rule in `conversion/`:", "", "| node | what it computes |", "|---|---|",
    ]  # fmt: skip
    lines += [f"| {kind.__name__} | {first_line(kind)} |" for kind in RULES]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    write_file(PAGE, page().encode())
