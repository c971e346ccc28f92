"""Each stage imports only from its left; only the Lava backend imports Lava; no file outgrows its reader."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import fastsnn_deploy

PACKAGE = Path(fastsnn_deploy.__file__).parent

STAGES = [
    "errors", "files", "reading", "folders", "tables", "plots", "processes", "graph", "lava_dl", "passes",
    "quantisation", "conversion", "simulators", "targets", "formats", "backends", "analysis", "reporting", "training",
    "tasks", "api", "tuning", "cli", "__main__",
]  # fmt: skip
"""Left to right; a stage may import from itself and from those before it."""

FOREIGN = {
    "lava": {"backends"},
    "h5py": {"formats"},
    "nir": {"formats", "cli"},
    "jinja2": {"reporting"},
    "matplotlib": {"plots", "graph", "analysis", "training"},
    "numba": {"simulators"},
    "onnx": {"quantisation"},
    "optuna": {"tuning"},
    "pyarrow": {"training"},
    "rich": {"cli", "training"},
    "torch": {
        "processes",
        "quantisation",
        "conversion",
        "simulators",
        "training",
        "analysis",
        "tasks",
        "api",
        "tuning",
        "cli",
    },
    "aedat": {"training"},
    "tonic": {"training"},
    "torchmetrics": {"tasks"},
    "torchvision": {"training", "tasks"},
    "triton": {"simulators"},
    "typer": {"cli"},
    "yaml": {"reading"},
}
"""Where libraries may be imported that the rest must work without."""


def imports_of(path: Path) -> set[str]:
    """Full names of all modules that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
            if node.module == "fastsnn_deploy":
                names |= {f"fastsnn_deploy.{alias.name}" for alias in node.names}
    return names


def stage_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def modules() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path.parent != PACKAGE or path.name != "__init__.py"]


def test_every_module_belongs_to_a_stage():
    assert {stage_of(path) for path in modules()} <= set(STAGES)


def test_stages_import_only_from_their_left():
    for path in modules():
        here = STAGES.index(stage_of(path))
        for name in imports_of(path):
            if name.startswith("fastsnn_deploy."):
                stage = name.split(".")[1]
                if stage in STAGES:
                    assert STAGES.index(stage) <= here, f"{path} imports {name}"


def test_libraries_stay_in_their_stage():
    for path in modules():
        for name in imports_of(path):
            allowed = FOREIGN.get(name.split(".")[0])
            assert allowed is None or stage_of(path) in allowed, f"{path} imports {name}"


def test_files_stay_readable():
    long = [path for path in modules() if len(path.read_text(encoding="utf-8").splitlines()) > 400]
    assert not long


def test_graph_simulator_files_and_profile_work_without_torch_and_lava():
    code = (
        "import sys; sys.modules['torch'] = sys.modules['lava'] = None\n"
        "import fastsnn_deploy.graph, fastsnn_deploy.simulators.reference, fastsnn_deploy.formats.netx\n"
        "import fastsnn_deploy.backends.lava, fastsnn_deploy.analysis.verify, fastsnn_deploy.analysis.result\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_every_node_type_is_known_everywhere():
    """A new node type states what it is in its own file; the tables by type must know it."""
    from fastsnn_deploy.backends.lava.compatibility import import_lava
    from fastsnn_deploy.formats.netx.layers import CODECS
    from fastsnn_deploy.formats.netx.synapses import OPERATORS
    from fastsnn_deploy.graph import Synapse
    from fastsnn_deploy.graph.node import NODE_TYPES
    from fastsnn_deploy.simulators.cpu import tile as cpu
    from fastsnn_deploy.simulators.gpu import tile as gpu
    from fastsnn_deploy.simulators.reference import ADVANCE

    import_lava()
    from fastsnn_deploy.backends.lava.network import BUILD

    written = {codec.node_type for codec in (*CODECS, *OPERATORS.values())}
    for kind in NODE_TYPES.values():
        tables = {"the reference simulator": ADVANCE, "NetX": written}
        if not issubclass(kind, Synapse):
            tables |= {"the CPU engine": cpu.ADVANCES, "the GPU engine": gpu.ADVANCES, "Lava": BUILD}
        for name, table in tables.items():
            assert kind in table, f"{kind.__name__}: {name} has no entry for it"
        assert not kind.__abstractmethods__, f"{kind.__name__} leaves out {set(kind.__abstractmethods__)}"


def test_every_synapse_type_has_a_form_that_every_backend_knows():
    """What a backend has no fast path for, it takes through the primitive form."""
    from fastsnn_deploy.backends.lava.compatibility import import_lava
    from fastsnn_deploy.graph import Linear, Synapse
    from fastsnn_deploy.graph.node import NODE_TYPES
    from fastsnn_deploy.passes.routes import STRIDES, TAPS
    from fastsnn_deploy.simulators.cpu.products import WAYS
    from fastsnn_deploy.simulators.gpu.synaptic_inputs import SYNAPTIC_INPUTS
    from fastsnn_deploy.simulators.integer import SYNAPTIC_INPUT
    from tests.random_graphs import random_graph

    import_lava()
    from fastsnn_deploy.backends.lava.synapses import CONNECT

    samples = {type(s): s for seed in range(60) for s in random_graph(seed, transposed=seed % 2 == 0).synapses}
    assert set(samples) == {kind for kind in NODE_TYPES.values() if issubclass(kind, Synapse)}
    for kind, synapse in samples.items():
        form = type(synapse.as_primitive())
        maps = [] if form is Linear else [WAYS, STRIDES, TAPS]
        for table in (SYNAPTIC_INPUT, SYNAPTIC_INPUTS, CONNECT, *maps):
            assert kind in table or form in table, f"{kind.__name__} and its form {form.__name__} are in no table"
