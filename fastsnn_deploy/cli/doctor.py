"""`fastsnn-deploy doctor`: what is installed, what is missing, and what to do about it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import typer

from fastsnn_deploy.cli.common import Json, print_json, show
from fastsnn_deploy.errors import DeployError
from fastsnn_deploy.tables import Table, words

REQUIRED = {
    "torch": "torch", "torchvision": "torchvision", "numpy": "numpy", "h5py": "h5py", "safetensors": "safetensors",
    "typer": "typer", "rich": "rich", "pydantic": "pydantic", "PyYAML": "yaml", "nir": "nir",
    "scikit-learn": "sklearn", "llvmlite": "llvmlite", "numba": "numba", "jinja2": "jinja2",
}  # fmt: skip
"""Required distributions and the modules that they bring: all that pyproject.toml names."""

OPTIONAL = {
    "matplotlib": ("matplotlib", "No pictures of curves. Install it with `pip install matplotlib`"),
    "onnx": ("onnx", "No ONNX files. Install it with `pip install onnx`"),
    "optuna": ("optuna", "No tune. Install it with `pip install optuna`"),
    "torchmetrics": ("torchmetrics", "No mAP of detectors. Install it with `pip install torchmetrics`"),
    "pycocotools": ("pycocotools", "No mAP of detectors. Install it with `pip install pycocotools`"),
}
"""The same for optional ones, with what is not possible without."""

SHARED_MEMORY = Path("/dev/shm")
SMALL_SHARED_MEMORY = 64 * 2**20
"""Docker's default size, which large networks on Lava can exceed."""

SEGMENT = re.compile(r"psm_[0-9a-f]+$")
"""Segments of Python's shared memory, which killed Lava runs leave behind."""


@dataclass(frozen=True)
class Finding:
    """status: ok; missing, something optional; or broken, something required. fix: what to do, empty if nothing."""

    name: str
    status: str
    found: str
    fix: str = ""


def doctor(as_json: Json = False) -> None:
    """Check the installation: Python, libraries, Lava, Loihi 2, shared memory, profiles, recipes.

    Exit code 3 only if something required is broken; Lava, CUDA and Loihi 2 are optional.
    """
    findings = list(examine())
    broken = [finding for finding in findings if finding.status == "broken"]
    if as_json:
        print_json({"ok": not broken, "findings": [asdict(finding) for finding in findings]})
    else:
        rows = tuple((f.name, f.status, f"{f.found}. {f.fix}" if f.fix else f.found) for f in findings)
        show(Table("", (words(""), words(""), words("")), rows))
    if broken:
        raise typer.Exit(3)


def examine() -> Iterator[Finding]:
    """All findings, one for each line."""
    yield _python()
    yield from (_distribution(name, module) for name, module in REQUIRED.items())
    for name, (module, fix) in OPTIONAL.items():
        found = _distribution(name, module)
        yield Finding(name, "missing", found.found, fix) if found.status == "broken" else found
    yield _cuda()
    yield from _lava()
    yield _shared_memory()
    yield from _shipped()


def _python() -> Finding:
    return Finding("Python", "ok", f"{platform.python_version()} on {platform.system()}")


def _distribution(name: str, module: str) -> Finding:
    if importlib.util.find_spec(module) is None:
        return Finding(name, "broken", "not installed", f"Install it with `pip install {name}`")
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "ok", "of unknown version")
    if name == "numpy" and tuple(map(int, version.split(".")[:2])) >= (2, 4):
        return Finding(name, "broken", version, "Lava 0.10.0 needs numpy < 2.4: pip install 'numpy>=2,<2.4'")
    return Finding(name, "ok", version)


def _cuda() -> Finding:
    try:
        import torch

        if torch.cuda.is_available():
            return Finding("CUDA", "ok", f"{torch.version.cuda}, {torch.cuda.get_device_name(0)}")
    except (ImportError, RuntimeError) as error:
        return Finding("CUDA", "missing", f"torch cannot tell ({error})", "Training runs on the CPU")
    return Finding("CUDA", "missing", "no CUDA device", "Training runs on the CPU")


def _lava() -> Iterator[Finding]:
    from fastsnn_deploy.backends import loihi
    from fastsnn_deploy.backends.lava.compatibility import INSTALL, INSTALL_DL

    found = loihi.detect()
    if found.error:
        yield Finding("lava", "broken", f"cannot be searched: {found.error}", "Install it again, see docs/lava.md")
    yield Finding("lava-nc", "ok", found.lava) if found.lava else Finding("lava-nc", "missing", "no Lava", INSTALL)
    if found.lava_dl:
        yield Finding("lava-dl", "ok", found.lava_dl)
    else:
        yield Finding("lava-dl", "missing", "stock NetX files cannot run on Lava", INSTALL_DL)
    problems = {problem.where: problem for problem in found.missing()}
    for name, where in (("lava-loihi", "Intel's extension lava-loihi"), ("Loihi 2 board", "Loihi 2 board")):
        if where in problems:
            yield Finding(name, "missing", problems[where].what, problems[where].fix)
        elif name == "lava-loihi":
            yield Finding(name, "ok", "installed (lava.utils.loihi.is_installed)")
        else:
            boards = ", ".join(f"{board.name} ({board.state})" for board in found.boards if board.up)
            yield Finding(name, "ok", found.environment.get("NXSDKHOST") or boards)
    if "LOIHI_GEN" in problems:
        yield Finding("LOIHI_GEN", "missing", problems["LOIHI_GEN"].what, problems["LOIHI_GEN"].fix)


def _shared_memory() -> Finding:
    name = str(SHARED_MEMORY)
    if not SHARED_MEMORY.is_dir():
        return Finding(name, "missing", "not there", "Lava runs need Linux with shared memory")
    size = shutil.disk_usage(SHARED_MEMORY)
    text = f"{size.free / 2**20:,.0f} of {size.total / 2**20:,.0f} MiB free"
    own = [entry for entry in SHARED_MEMORY.glob("psm_*") if SEGMENT.match(entry.name) and _is_own(entry)]
    if own:
        fix = f"If no Lava run is active, remove them: rm {name}/psm_*"
        return Finding(name, "ok", f"{text}, {len(own)} segments of Python programs", fix)
    if size.total <= SMALL_SHARED_MEMORY:
        return Finding(name, "ok", text, "Large networks on Lava may need more (Docker: --shm-size)")
    return Finding(name, "ok", f"{text}, no leftovers")


def _is_own(entry: Path) -> bool:
    try:
        return entry.stat().st_uid == os.getuid()
    except OSError:
        return False


def _shipped() -> Iterator[Finding]:
    from fastsnn_deploy.analysis.hardware import available, load_hardware
    from fastsnn_deploy.training.recipe import load_recipe, recipe_names

    for title, names, load in (
        ("hardware profiles", available, load_hardware),
        ("recipes", recipe_names, load_recipe),
    ):
        try:
            found = names()
            for name in found:
                load(name)
        except DeployError as error:
            yield Finding(title, "broken", str(error), "Install fastsnn-deploy again")
            continue
        if found:
            yield Finding(title, "ok", ", ".join(found))
        else:
            yield Finding(title, "broken", "none", "Install fastsnn-deploy again")
