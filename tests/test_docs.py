"""What README, docs and docstrings show is true: code runs, commands parse, links and names lead somewhere."""

from __future__ import annotations

import argparse
import doctest
import importlib
import re
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer.main

import fastsnn_deploy
from fastsnn_deploy.cli.main import app
from fastsnn_deploy.conversion.convert import convert
from fastsnn_deploy.errors import BackendError
from fastsnn_deploy.formats import netx
from fastsnn_deploy.passes.spike_bounds import with_neurons
from fastsnn_deploy.quantisation import load
from fastsnn_deploy.targets.thermometer.network import to_thermometer
from fastsnn_deploy.tasks import TaskTrainer
from fastsnn_deploy.training.data import load_images
from fastsnn_deploy.training.recipe import Recipe
from tests.commands import Result, runner
from tests.pages import FENCE, PAGES, ROOT, anchor, blocks, commands, named
from tests.small_scenes import write_data_sets
from tests.test_structure import STAGES

PACKAGE = Path(fastsnn_deploy.__file__).parent
LANGUAGES = {"bash", "mermaid", "python", "text", "yaml"}

PYTHON_PAGES = [page for page in PAGES if any(block.language == "python" for block in blocks(page))]
BASH_PAGES = [page for page in PAGES if any(block.language == "bash" for block in blocks(page))]

ON_LAVA = {"docs/lava.md", "docs/streaming.md"}
RAISES = {"docs/loihi.md": BackendError}
"""Pages whose code needs what nobody has here, and what it must end with instead."""

SMALLER = {
    "docs/energy.md": {'"cifar10"': '"digits"'},
    "docs/tune.md": {"trials=20": "trials=2"},
    "docs/finetune.md": {'"cifar10"': '"digits"', "10_000": "60", "5_000": "40"},
}
"""What is put in place of what a page's code says, because it would take hours or data."""

OTHER_PROGRAMS = {"cd", "git", "pip", "scripts/conformance_py310.sh", "source", "uv"}
CHEAP = {"doctor", "evaluate", "export", "map", "profile", "report", "run", "verify"}
"""Commands that are run, on small networks, where they need no data but the digits and neither Lava nor a chip."""


@pytest.fixture(scope="module")
def files(checkpoint_file: Path, net_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that pages name."""
    folder = tmp_path_factory.mktemp("pages")
    shutil.copy(checkpoint_file, folder / "model.pt")
    shutil.copy(net_file, folder / "model.net")
    netx.write(with_neurons(netx.read(net_file), "graded"), folder / "graded.net")
    stock = to_thermometer(convert(load(folder / "model.pt"))).network
    netx.write_stock(stock, folder / "stock.net")
    (folder / "data").mkdir()
    return folder


@pytest.fixture
def here(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of them, which is the current folder."""
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def float_network() -> torch.nn.Module:
    layers = [torch.nn.Conv2d(3, 4, 3, stride=2), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Flatten()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(4 * 15 * 15, 10))


def detector(folder: Path) -> dict[str, Any]:
    """Trained for a moment, where the page's commands would put it."""
    recipe = Recipe.model_validate(
        {
            "name": "cells", "task": "detection", "data": "bccd", "size": [32, 40], "model": "tiny-yolo",
            "model_options": {"width": 2, "widest": 4, "halvings": 3}, "task_options": {"anchors": 1}, "batch_size": 4,
            "stages": [{"epochs": 1, "learning_rate": 0.01, "bits": 4}],
        }
    )  # fmt: skip
    trained = TaskTrainer(recipe, folder / "cells.pt", data_root=write_data_sets(folder / "data")).run()
    netx.write(convert(trained), folder / "cells.net")
    return {}


def digits(folder: Path) -> dict[str, Any]:
    """Test images by the names that pages give them."""
    found = load_images("digits", "test")
    raw, labels = found.raw(slice(None)).numpy(), found.labels.numpy()
    names = {"images": raw[:8], "labels": labels[:8], "more_images": raw[8:12], "more_labels": labels[8:12]}
    return {**names, "video": raw[:3]}


PREPARED: dict[str, Callable[[Path], dict[str, Any]]] = {
    "README.md": lambda folder: {
        "my_float_model": float_network(),
        "images": torch.rand(8, 3, 32, 32),
        "labels": torch.arange(8),
    },
    "docs/detection_segmentation.md": detector,
    "docs/loihi.md": lambda folder: {"frames": np.zeros((3, 1, 1, 8, 8), dtype=np.int64), "steps": 9},
}
"""What stands for the reader's own networks and images; everywhere else they are digits."""


def test_every_block_says_its_language():
    for page in PAGES:
        for block in blocks(page):
            assert block.language in LANGUAGES, f"{named(page)}:{block.line}: a block without a known language"


@pytest.mark.parametrize(
    "page", [pytest.param(p, id=named(p), marks=[pytest.mark.lava] * (named(p) in ON_LAVA)) for p in PYTHON_PAGES]
)
def test_python_runs(page: Path, here: Path):
    """The blocks of a page in their order, in one namespace; errors have the page's own line numbers."""
    names = PREPARED.get(named(page), digits)(here)
    for block in blocks(page):
        if block.language == "python":
            text = block.text
            for old, new in SMALLER.get(named(page), {}).items():
                text = text.replace(old, new)
            code = compile("\n" * (block.line - 1) + text, str(page), "exec")
            if named(page) in RAISES:
                with pytest.raises(RAISES[named(page)]):
                    exec(code, names)
            else:
                exec(code, names)


def test_what_is_made_smaller_is_there():
    for name, changes in SMALLER.items():
        text = "".join(block.text for block in blocks(ROOT / name) if block.language == "python")
        assert all(old in text for old in changes), name


@pytest.mark.parametrize("page", BASH_PAGES, ids=named)
def test_commands_exist_with_their_options(page: Path, here: Path, monkeypatch: pytest.MonkeyPatch):
    for words in commands(page):
        arguments = own_arguments(words)
        if arguments is not None:
            command = typer.main.get_command(app).commands[arguments[0]]  # type: ignore[attr-defined]
            command.make_context(arguments[0], arguments[1:])
        elif words[0] == "python" and words[1].endswith(".py"):
            parse_for_script(ROOT / words[1], words[2:], monkeypatch)
        elif words[0] == "make":
            targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert set(words[1:]) <= set(targets), words
        else:
            assert words[0] in OTHER_PROGRAMS, f"{named(page)}: what is {' '.join(words)}?"


def own_arguments(words: list[str]) -> list[str] | None:
    """What follows `fastsnn-deploy`, started in any way; None for other programs."""
    if words[:2] == ["uv", "run"]:
        words = words[2:]
    if words[0] == "fastsnn-deploy":
        return words[1:]
    return words[words.index("fastsnn_deploy") + 1 :] if "fastsnn_deploy" in words else None


class _ParsedError(Exception):
    """The script has read its options and would begin."""


def parse_for_script(script: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a script read its command line, and no more."""
    parse = argparse.ArgumentParser.parse_args

    def parse_and_stop(self: argparse.ArgumentParser, args: Any = None, namespace: Any = None) -> None:
        parse(self, args, namespace)
        raise _ParsedError

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
        patch.setattr(sys, "argv", [str(script), *arguments])
        patch.syspath_prepend(str(script.parent))
        with pytest.raises(_ParsedError):
            runpy.run_path(str(script), run_name="__main__")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    return runner(monkeypatch, capsys)


def is_cheap(arguments: list[str], folder: Path) -> bool:
    """Whether a command takes seconds: on files that are here, on digits or random images, on a simulator."""
    inputs = [word for word in arguments if word.endswith((".pt", ".net", ".onnx"))]
    outputs = [arguments[i + 1] for i, word in enumerate(arguments) if word in ("-o", "--out")]
    present = all((folder / word).exists() for word in inputs if word not in outputs)
    options = dict(zip(arguments, [*arguments[1:], ""], strict=True))
    far = options.get("--backend") in ("lava", "loihi2") or options.get("--data", "digits") not in ("digits", "random")
    return arguments[0] in CHEAP and present and not far


@pytest.mark.parametrize("page", BASH_PAGES, ids=named)
def test_cheap_commands_run(page: Path, here: Path, run: Callable[..., Result]):
    """In the order of the page, so that each finds what the one before it wrote."""
    done = set()
    for words in commands(page):
        arguments = own_arguments(words)
        if arguments is not None and is_cheap(arguments, here):
            result = run(*arguments)
            assert result.returncode == 0, f"{arguments}: {result.stderr}"
            done.add(arguments[0])
    if page == ROOT / "README.md":
        assert done >= {"doctor", "evaluate", "export", "profile", "run"}


def test_docstring_examples_run(here: Path):
    """Examples may use `model.pt` and `model.net` of the current folder."""
    tried = 0
    for path in sorted(PACKAGE.rglob("*.py")):
        if ">>>" not in path.read_text(encoding="utf-8"):
            continue
        name = ".".join(("fastsnn_deploy", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        module = importlib.import_module(name)
        result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
        assert result.failed == 0, name
        tried += result.attempted
    assert tried


def test_links_lead_somewhere():
    for page in PAGES:
        text = FENCE.sub("", page.read_text(encoding="utf-8"))
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if target.startswith("http"):
                continue
            path, _, place = target.partition("#")
            linked = (page.parent / path).resolve() if path else page
            assert linked.exists(), f"{named(page)}: {target}"
            if place:
                headings = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
                assert place in map(anchor, headings), f"{named(page)}: {target}"


FOLDERS = [path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")]
PATTERN = re.compile(r"/[A-Z]+\.|/demo-")
"""In names that stand for many, and in those that come into being when something runs."""


def test_paths_and_modules_named_in_the_text_exist():
    stages = {path.name for path in PACKAGE.iterdir() if path.is_dir()}
    for page in PAGES:
        for code in re.findall(r"`([^`\n]+)`", FENCE.sub("", page.read_text(encoding="utf-8"))):
            first = re.split(r"[/.]", code)[0]
            if re.fullmatch(r"[\w.\-/]+(/|\.\w+)", code) and "/" in code and first in {*FOLDERS, *stages}:
                known = [ROOT / code, PACKAGE / code, page.parent / code]
                assert PATTERN.search(code) or any(path.exists() for path in known), f"{named(page)}: {code}"
            elif re.fullmatch(r"[a-z_]\w*(\.\w+)+", code) and first in {"fastsnn_deploy", *stages}:
                assert resolves(code if first == "fastsnn_deploy" else f"fastsnn_deploy.{code}"), (
                    f"{named(page)}: {code}"
                )


def resolves(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def test_the_chain_of_calls_is_that_of_the_code():
    """Every line of ARCHITECTURE.md's chain names a file and a function in it."""
    text = next(block.text for block in blocks(ROOT / "ARCHITECTURE.md") if "cli/main.py" in block.text)
    for line in text.splitlines():
        file, function = line.split()[:2]
        assert re.search(rf"^ *def {function}\(", (PACKAGE / file).read_text(encoding="utf-8"), re.MULTILINE), line


def test_folders_and_import_order_are_those_of_the_structure_test():
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    order = next(block.text for block in blocks(ROOT / "ARCHITECTURE.md") if block.text.startswith("errors"))
    assert order.split() == STAGES
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    described = re.findall(r"^- \*\*`(\w+)/`\*\*", text, re.MULTILINE)
    assert described == [stage for stage in STAGES if stage in folders]
    assert set(described) == folders
