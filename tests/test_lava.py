"""Lava backend: the same integers as the reference simulator, and runs that always end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fastsnn_deploy.backends import lava
from fastsnn_deploy.backends.lava import backend, session, timing
from fastsnn_deploy.errors import BackendError, InputError
from fastsnn_deploy.formats import netx
from fastsnn_deploy.graph import (
    Concat,
    Conv2d,
    Flatten,
    Identity,
    Input,
    Linear,
    MaxPool2d,
    Population,
    Readout,
    Schedule,
    SpikingGraph,
    SumPool2d,
    Upsample,
)
from fastsnn_deploy.graph.run import Run
from fastsnn_deploy.passes.balance import balanced
from fastsnn_deploy.simulators.reference import simulate
from tests.random_graphs import bounds, random_graph, random_images

pytestmark = pytest.mark.lava

ROOT = Path(__file__).parent.parent
TIMEOUT = 60.0


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory) -> Iterator[None]:
    """Let the subprocesses of this file share byte code, also where the environment forbids writing it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        patch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path_factory.mktemp("bytecode")))
        yield


def assert_same(run: Run, reference: Run) -> None:
    """Every recorded integer of every step."""
    for key in ("spikes", "counts", "potentials"):
        found, expected = getattr(run, key), getattr(reference, key)
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            assert found[name].dtype == values.dtype
            assert found[name].shape == values.shape
            different = np.argwhere(found[name] != values)
            assert not len(different), f"{key} of {name} differ first at [step, image, ...] {different[0]}"
    np.testing.assert_array_equal(run.settle_steps, reference.settle_steps)
    assert run.steps == reference.steps


def population(name: str, *inputs: str, shape: tuple[int, ...], threshold: int = 250, **fields) -> Population:
    channels = shape[0]
    fields = {"ceiling": 7, "floor": 0, "scale": 0.5} | fields
    fields |= bounds(fields.pop("neurons", "unary"), fields["floor"], fields["ceiling"])
    return Population(
        name=name,
        inputs=inputs,
        shape=shape,
        threshold=np.arange(threshold, threshold + channels),
        bias=np.arange(channels) * 9 - 11,
        initial=np.arange(threshold, threshold + channels) // 2,
        input_scale=np.ones(channels),
        **fields,
    )


def everything(neurons: str, *, balance: bool = True) -> SpikingGraph:
    """Every node type in one network, H != W, a residual, a concat that is flattened and pooled, mixed exponents."""
    rng = np.random.default_rng(5)

    def weights(*shape: int) -> np.ndarray:
        return rng.integers(-127, 128, shape)

    def zeros(n: int) -> np.ndarray:
        return np.zeros(n, dtype=np.int64)

    ones = np.full(4, 60)
    nodes = (
        Input(name="image", shape=(2, 8, 6), step=1 / 15, low=0, high=15, offset=np.array([3, 7]), scale=1 / 15),
        Conv2d(name="conv1", inputs=("image",), shape=(4, 8, 6), weight=weights(4, 2, 3, 3), exponent=zeros(4),
               padding=(1, 1)),
        population("pop1", "conv1", shape=(4, 8, 6)),
        Conv2d(name="conv2", inputs=("pop1",), shape=(4, 8, 6), weight=weights(4, 2, 3, 1),
               exponent=np.array([0, 1, 0, 2]), padding=(1, 0), groups=2),
        Identity(name="skip", inputs=("pop1",), shape=(4, 8, 6), weight=ones, exponent=np.array([3, 0, 1, 2])),
        population("pop2", "conv2", shape=(4, 8, 6)),
        Conv2d(name="conv3", inputs=("pop2",), shape=(4, 8, 6), weight=weights(4, 4, 1, 3), exponent=zeros(4),
               padding=(0, 1)),
        population("pop3", "conv3", "skip", shape=(4, 8, 6), floor=-2),
        Concat(name="both", inputs=("pop1", "pop3", "pop1"), shape=(12, 8, 6), delays=(0, 0, 0)),
        MaxPool2d(name="max", inputs=("both",), shape=(12, 4, 4), kernel=(3, 2), stride=(2, 2), padding=(1, 1)),
        Conv2d(name="conv4", inputs=("max",), shape=(4, 2, 4), weight=weights(4, 12, 3, 1), exponent=zeros(4)),
        population("pop4", "conv4", shape=(4, 2, 4)),
        SumPool2d(name="sum", inputs=("pop4",), shape=(4, 1, 2), weight=ones, exponent=zeros(4), kernel=(2, 2),
                  stride=(2, 2)),
        population("pop5", "sum", shape=(4, 1, 2)),
        Upsample(name="up", inputs=("pop5",), shape=(4, 2, 6), weight=ones, exponent=zeros(4), factor=(2, 3)),
        population("pop6", "up", shape=(4, 2, 6), threshold=50),
        Flatten(name="flat6", inputs=("pop6",), shape=(48,)),
        Flatten(name="flat_both", inputs=("both",), shape=(576,)),
        Concat(name="vector", inputs=("flat6", "flat_both"), shape=(624,), delays=(0, 0)),
        Linear(name="dense", inputs=("vector",), shape=(5,), weight=weights(5, 624),
               exponent=np.array([0, 2, 1, 0, 0])),
        population("pop7", "dense", shape=(5,), threshold=900),
        Identity(name="relay", inputs=("pop7",), shape=(5,), weight=np.full(5, -128), exponent=zeros(5)),
        Linear(name="empty", inputs=("pop7",), shape=(5,), weight=np.zeros((5, 5)), exponent=zeros(5)),
        Readout(name="out", inputs=("relay", "empty"), shape=(5,), bias=np.arange(5) - 2, scale=np.ones(5)),
    )  # fmt: skip
    nodes = tuple(
        replace(node, **bounds(neurons, node.floor, node.ceiling)) if isinstance(node, Population) else node
        for node in nodes
    )
    graph = SpikingGraph(nodes=nodes, outputs=("out", "pop7"), schedule=Schedule(window=5, input="spread"))
    return balanced(graph) if balance else graph


@pytest.mark.parametrize(("neurons", "balance"), [("unary", True), ("graded", False)])
def test_every_node_type_gives_the_reference_integers(neurons: str, balance: bool) -> None:
    graph = everything(neurons, balance=balance)
    assert timing.pipelines(graph) == balance
    emitted = graph.input.encode(random_images(graph, 1, 3))
    reference = simulate(graph, emitted)
    for name, spikes in reference.spikes.items():
        assert spikes.any(), f"{name} never spikes: the test would not see it"
    assert_same(lava.run(graph, emitted, reference.steps, timeout=TIMEOUT), reference)


@pytest.mark.parametrize("seed", [12, 37, 101, 204, 333, 407, 510, 627, 711, 862])
def test_random_graphs_give_the_reference_integers(seed: int) -> None:
    """Balanced and unbalanced, both codes, every schedule; stopped before they settle, so nothing may leak."""
    graph = random_graph(seed, neurons=("unary", "graded")[seed % 2], balance=bool(seed % 3))
    emitted = graph.input.encode(random_images(graph, seed, 3))
    steps = max(1, int(simulate(graph, emitted).settle_steps.max()) - 2)
    assert_same(lava.run(graph, emitted, steps, timeout=TIMEOUT), simulate(graph, emitted, steps))


@pytest.mark.parametrize("balance", [True, False])
def test_layers_that_wait_give_the_reference_integers(balance: bool) -> None:
    graph = random_graph(12, balance=False, blocks=3)
    graph = replace(graph, schedule=replace(graph.schedule, bias="wave", start_delay=3))
    graph = balanced(graph) if balance else graph
    assert timing.pipelines(graph) == balance
    emitted = graph.input.encode(random_images(graph, 1, 3))
    steps = max(1, int(simulate(graph, emitted).settle_steps.max()) - 1)
    assert_same(lava.run(graph, emitted, steps, timeout=TIMEOUT), simulate(graph, emitted, steps))


def test_an_initial_potential_above_threshold_or_below_zero_is_not_pipelined() -> None:
    graph = random_graph(16)
    nodes = [
        replace(n, initial=n.threshold * np.resize([2, -1], n.channels)) if isinstance(n, Population) else n
        for n in graph.nodes
    ]
    graph = replace(graph, nodes=tuple(nodes))
    assert not timing.pipelines(graph)
    emitted = graph.input.encode(random_images(graph, 0, 2))
    assert_same(lava.run(graph, emitted, 9, timeout=TIMEOUT), simulate(graph, emitted, 9))


@pytest.mark.parametrize("models", ["fast", "stock"])
def test_synaptic_input_beyond_24_bits_in_one_step_is_exact(models: str) -> None:
    """Counts swing from 15 to -15 in one graded message: its synaptic input, -30 * (127 << 12), wraps in Lava's
    Conv."""
    one, no = np.ones((1, 1, 1, 1)), np.zeros(1)
    fields = {"shape": (1, 1, 1)}
    nodes = (
        Input(name="image", **fields, step=1.0, low=0, high=15, offset=no, scale=1.0),
        Conv2d(name="up", inputs=("image",), **fields, weight=one, exponent=no),
        Conv2d(name="down", inputs=("image",), **fields, weight=-2 * one, exponent=no, delay=2),
        population("swing", "up", "down", **fields, floor=-15, ceiling=15, neurons="graded", threshold=1),
        Conv2d(name="large", inputs=("swing",), **fields, weight=127 * one, exponent=no + 12),
        population("out", "large", **fields, floor=-15, ceiling=15, neurons="graded", threshold=1000),
    )
    nodes = tuple(replace(n, bias=no, initial=no) if isinstance(n, Population) else n for n in nodes)
    graph = SpikingGraph(nodes=nodes, outputs=("out",))
    emitted = np.full((1, 1, 1, 1), 15)
    reference = simulate(graph, emitted, 6)
    assert reference.spikes["swing"].min() == -30
    assert_same(lava.run(graph, emitted, 6, models=models, timeout=TIMEOUT), reference)


def test_stock_models_give_the_same_integers_and_files_serve_as_well_as_graphs(tmp_path: Path) -> None:
    graph = everything("unary")
    netx.write(graph, tmp_path / "graph.net")
    emitted = graph.input.encode(random_images(graph, 1, 2))
    seen: list[tuple[int, int]] = []
    run = lava.run(
        tmp_path / "graph.net",
        emitted,
        14,
        models="stock",
        timeout=TIMEOUT,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert_same(run, simulate(graph, emitted, 14))
    assert seen[-1] == (28, 28)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_wide_depthwise_convolutions_and_what_the_stock_model_cannot_do() -> None:
    """Stock Lava keeps the number of groups in 8 bits; ours does not."""
    channels = 130
    weight = np.arange(channels) - 64
    nodes = (
        Input(name="image", shape=(channels, 3, 2), step=1.0, low=0, high=9, offset=np.zeros(channels), scale=1.0),
        SumPool2d(name="sum", inputs=("image",), shape=(channels, 2, 1), weight=weight, exponent=np.zeros(channels),
                  kernel=(2, 2), stride=(1, 1)),
        population("out", "sum", shape=(channels, 2, 1), neurons="graded"),
    )  # fmt: skip
    graph = SpikingGraph(nodes=nodes, outputs=("out",))
    emitted = graph.input.encode(random_images(graph, 0, 1))
    assert_same(lava.run(graph, emitted, 4, timeout=TIMEOUT), simulate(graph, emitted, 4))
    with pytest.raises(BackendError, match=r"'sum': stock Lava's Conv model .* 130 does not fit"):
        lava.run(graph, emitted, 4, models="stock", timeout=TIMEOUT)


def test_recording_less() -> None:
    graph = random_graph(2)
    emitted = graph.input.encode(random_images(graph, 0, 2))
    reference = simulate(graph, emitted, 6)
    outputs = lava.run(graph, emitted, 6, timeout=TIMEOUT, record="outputs")
    assert set(outputs.spikes) | set(outputs.potentials) == set(graph.outputs)
    for name in graph.outputs:
        np.testing.assert_array_equal(outputs.final(name), reference.final(name))


def test_an_empty_batch_and_no_steps_need_no_run() -> None:
    graph = random_graph(2)
    emitted = graph.input.encode(random_images(graph, 0, 2))
    assert_same(lava.run(graph, emitted[:0], 6), simulate(graph, emitted[:0], 6))
    assert lava.run(graph, emitted, 0).spikes["image"].shape == (0, *emitted.shape)


def test_bad_arguments_are_refused() -> None:
    graph = random_graph(2)
    emitted = graph.input.encode(random_images(graph, 0, 2))
    with pytest.raises(InputError, match="needs integers"):
        lava.run(graph, emitted[:, :, :1], 6)
    with pytest.raises(InputError, match="span"):
        lava.run(graph, emitted + 2**40, 6)
    with pytest.raises(InputError, match="steps=-1"):
        lava.run(graph, emitted, -1)
    with pytest.raises(InputError, match="models='quick'"):
        lava.run(graph, emitted, 6, models="quick")
    with pytest.raises(InputError, match="no such NetX file"):
        lava.run("missing.net", emitted, 6)


def test_without_lava_the_error_says_how_to_install_it(monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BackendError, match="pip install"):
        lava.run(random_graph(2), np.zeros((1, 1, 1, 1), dtype=np.int64), 6)


def test_importing_the_backend_does_not_import_lava() -> None:
    script = (
        "import sys, fastsnn_deploy.backends.lava; assert not [m for m in sys.modules if m.split('.')[0] == 'lava']"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, timeout=60)


# --- failures --------------------------------------------------------------------------------------------------

JOB = """
import os, sys, time
from pathlib import Path
from fastsnn_deploy.backends.lava import job
from fastsnn_deploy.backends.lava.compatibility import import_lava

def change():
    import_lava()
    from fastsnn_deploy.backends.lava.processes.signed_if import PySignedIF
    from lava.proc.dense.models import PyDenseModelBitAcc
    {change}

def at_step_3(model, action):
    original = model.run_spk
    def run_spk(self):
        if self.time_step == 3:
            action()
        original(self)
    model.run_spk = run_spk

def fail(*_):
    raise ValueError("wrong on purpose")

if __name__ == "__main__":
    change()
    job.main(Path(sys.argv[1]))
"""


class Sessions:
    """Sessions that the backend started, and the shared memory they had when they were ended."""

    def __init__(self, monkeypatch, tmp_path: Path) -> None:
        self.ids: list[int] = []
        self.memory: set[str] = set()
        self.folders = tmp_path / "temporary"
        self.folders.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(self.folders))
        end, shared_memory = session.end, session.shared_memory

        def noted_end(identifier: int) -> None:
            self.ids.append(identifier)
            end(identifier)

        def noted_memory(pids: list[int]) -> set[str]:
            names = shared_memory(pids)
            self.memory |= names
            return names

        monkeypatch.setattr(session, "end", noted_end)
        monkeypatch.setattr(session, "shared_memory", noted_memory)

    def assert_gone(self) -> None:
        assert self.ids
        assert not [pid for identifier in self.ids for pid in session.members(identifier)]
        assert not [name for name in self.memory if (Path("/dev/shm") / name).exists()]
        assert not list(self.folders.iterdir())


@pytest.fixture
def sessions(monkeypatch, tmp_path: Path) -> Iterator[Sessions]:
    noted = Sessions(monkeypatch, tmp_path)
    yield noted
    noted.assert_gone()


def use_job(monkeypatch, tmp_path: Path, change: str) -> None:
    (tmp_path / "changed_job.py").write_text(JOB.format(change=change))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(backend, "JOB_MODULE", "changed_job")


def small() -> tuple[SpikingGraph, np.ndarray]:
    graph = random_graph(16)  # has a dense synapse and populations that feed others
    return graph, graph.input.encode(random_images(graph, 0, 2))


@pytest.mark.parametrize(
    "change",
    ["at_step_3(PySignedIF, fail)", "at_step_3(PyDenseModelBitAcc, fail)", "PySignedIF.__init__ = fail"],
    ids=["own model", "stock model", "while building"],
)
def test_a_raising_model_gives_its_error_at_once(sessions: Sessions, monkeypatch, tmp_path: Path, change: str) -> None:
    use_job(monkeypatch, tmp_path, change)
    graph, emitted = small()
    started = time.monotonic()
    with pytest.raises(BackendError, match="ValueError: wrong on purpose"):
        lava.run(graph, emitted, 6, timeout=300)
    assert time.monotonic() - started < 30


def test_a_killed_process_is_noticed(sessions: Sessions, monkeypatch, tmp_path: Path) -> None:
    use_job(monkeypatch, tmp_path, "at_step_3(PySignedIF, lambda: os.kill(os.getpid(), 9))")
    graph, emitted = small()
    with pytest.raises(BackendError, match=r"a Lava process ended during the run \(exit code -9\)"):
        lava.run(graph, emitted, 6, timeout=300)


def test_a_hanging_model_ends_at_the_timeout(sessions: Sessions, monkeypatch, tmp_path: Path) -> None:
    use_job(monkeypatch, tmp_path, "at_step_3(PySignedIF, lambda: time.sleep(600))")
    graph, emitted = small()
    started = time.monotonic()
    with pytest.raises(BackendError, match=r"did not finish within 10 s \(3 of 12 steps done\)"):
        lava.run(graph, emitted, 6, timeout=10)
    assert time.monotonic() - started < 20
    assert sessions.memory


def test_an_interrupt_ends_the_run(sessions: Sessions, monkeypatch) -> None:
    graph, emitted = small()

    def interrupt(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lava.run(graph, emitted, 600, timeout=TIMEOUT, progress=interrupt)
    assert sessions.memory


def test_a_good_run_leaves_nothing(sessions: Sessions) -> None:
    graph, emitted = small()
    lava.run(graph, emitted, 6, timeout=TIMEOUT)


def test_a_run_ends_when_its_caller_is_killed(monkeypatch, tmp_path: Path) -> None:
    use_job(monkeypatch, tmp_path, "at_step_3(PySignedIF, lambda: time.sleep(600))")
    caller = f"""
import sys, tempfile
sys.path.insert(0, {str(ROOT)!r})
tempfile.tempdir = {str(tmp_path)!r}
from fastsnn_deploy.backends import lava
from fastsnn_deploy.backends.lava import backend
from tests.test_lava import small
backend.JOB_MODULE = "changed_job"
popen = backend.subprocess.Popen
def noted(*arguments, **options):
    process = popen(*arguments, **options)
    print(process.pid, flush=True)
    return process
backend.subprocess.Popen = noted
lava.run(*small(), 6, timeout=300, progress=lambda done, total: print(done, flush=True))
"""
    with subprocess.Popen([sys.executable, "-c", caller], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        identifier = int(process.stdout.readline())
        while process.stdout.readline().strip() != "3":
            assert process.poll() is None
        memory = session.shared_memory(session.members(identifier))
        assert memory
        os.kill(process.pid, signal.SIGKILL)
    assert session.wait_until_empty(identifier, 10.0)
    assert not [name for name in memory if (Path("/dev/shm") / name).exists()]


def test_lava_executes_only_the_files_of_the_process_package(sessions: Sessions, monkeypatch, tmp_path: Path) -> None:
    """To find models, Lava executes every file beside a process's file; none of ours outside `processes` may run."""
    log = tmp_path / "executed.txt"
    change = f"""
    import importlib.util as util
    original = util.spec_from_file_location
    def noted(name, location=None, **options):
        with open({str(log)!r}, "a") as file:
            file.write(f"{{location}}\\n")
        return original(name, location, **options)
    util.spec_from_file_location = noted"""
    use_job(monkeypatch, tmp_path, change)
    graph = everything("unary")
    emitted = graph.input.encode(random_images(graph, 0, 1))
    lava.run(graph, emitted, 2, timeout=TIMEOUT)
    executed = {Path(line) for line in log.read_text().splitlines()}
    processes = ROOT / "fastsnn_deploy" / "backends" / "lava" / "processes"
    ours = {path for path in executed if "lava/proc/" not in path.as_posix()}
    assert ours == {path for path in processes.glob("*.py") if path.name != "__init__.py"}
    assert not [path for path in processes.iterdir() if path.is_dir() and path.name != "__pycache__"]
