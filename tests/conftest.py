"""Settings of the test suite."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings

from fastsnn_deploy.conversion.convert import convert
from fastsnn_deploy.formats import netx
from fastsnn_deploy.quantisation import load
from fastsnn_deploy.training.recipe import Recipe, Stage
from fastsnn_deploy.training.trainer import Trainer

# Examples build networks: the first one of a process is slow, and file fixtures are fine to share.
settings.register_profile(
    "default",
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    derandomize=bool(os.environ.get("CI")),
)
settings.load_profile("default")
torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)
os.environ.pop("COLUMNS", None)  # workers have it: commands would cut their lines as for a screen

STARTS_LAVA = (
    "fastsnn_deploy.backends.lava.", "fastsnn_deploy.backends.loihi.job",
    "stock_runner.py", "slayer_export.py", "stock_weights.py",
)  # fmt: skip
"""What a command line that runs Lava names."""

LOOP_FLAGS = {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni"}
"""Flags of /proc/cpuinfo with which the CPU engine assembles its own loops; with AMX it leaves the work to oneDNN."""

_running: list[pytest.Item] = []


def _require_the_mark(event: str, arguments: tuple[Any, ...]) -> None:
    """A test that starts Lava without being marked so would end up among the quick ones."""
    if event == "subprocess.Popen" and _running and not _running[-1].get_closest_marker("lava"):
        command = " ".join(map(str, arguments[1]))
        assert not any(word in command for word in STARTS_LAVA), f"mark this test `lava`, it runs {command[:200]}"


sys.addaudithook(_require_the_mark)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes hours runs only where it is asked for by name."""
    if "scheduled" not in config.option.markexpr:
        left_out = [item for item in items if item.get_closest_marker("scheduled")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("scheduled")]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Remember which test runs."""
    _running.append(item)
    try:
        return (yield)
    finally:
        _running.pop()


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Tests marked `avx512` have taken assembled loops wherever the processor has the instructions."""
    if not pyfuncitem.get_closest_marker("avx512"):
        return (yield)
    before = _loops_taken()
    result = yield
    if has_loop_instructions():
        assert _loops_taken() > before, "the processor has AVX512-VNNI, but this test took no assembled loop"
    return result


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what the tests marked `avx512` really ran."""
    if has_loop_instructions():
        passed = [report for report in terminalreporter.stats.get("passed", []) if "avx512" in report.keywords]
        terminalreporter.write_line(f"avx512: {len(passed)} tests took the assembled loops")
    else:
        terminalreporter.write_line("avx512: no AVX512-VNNI without AMX here, the tests took the other loops")


def has_loop_instructions() -> bool:
    """What /proc/cpuinfo says, without asking the engine."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    flags = next((set(line.split()) for line in lines if line.startswith("flags")), set())
    return flags >= LOOP_FLAGS and "amx_int8" not in flags


def _loops_taken() -> int:
    """How often this process has asked for the address of an assembled loop."""
    from fastsnn_deploy.simulators.cpu import loops, winograd_loops

    found = (loops.input_loop, loops.neuron_loop, winograd_loops.transform_loop, winograd_loops.winograd_loop)
    return sum(loop.cache_info().hits + loop.cache_info().misses for loop in found)


@pytest.fixture(scope="session")
def checkpoint_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small residual network with max pooling, trained for a moment on the digits."""
    stages = [Stage(epochs=2, learning_rate=0.1), Stage(epochs=1, learning_rate=0.03, bits=2)]
    recipe = Recipe(
        name="test", data="digits", model="digits-net", model_options={"width": 4}, stages=tuple(stages), batch_size=64
    )
    path = tmp_path_factory.mktemp("checkpoint") / "model.pt"
    Trainer(recipe, path).run()
    return path


@pytest.fixture(scope="session")
def net_file(checkpoint_file: Path) -> Path:
    """The export of `checkpoint_file`."""
    path = checkpoint_file.with_name("model.net")
    netx.write(convert(load(checkpoint_file)), path)
    return path
