"""NeuroBench's metrics against its own formulas, written out here and applied to the same network in PyTorch.

Source of the formulas: NeuroBench 2.3.0, metrics/static and metrics/workload. scripts/neurobench_beside.py runs the
package itself beside ours, docs/records/neurobench.json is what it found.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fastsnn_deploy.analysis.profile import profile
from fastsnn_deploy.graph import Encoded

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def beside() -> ModuleType:
    spec = importlib.util.spec_from_file_location("neurobench_beside", ROOT / "scripts" / "neurobench_beside.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("seed", [0, 7])
def test_every_metric_equals_its_formula(beside: ModuleType, seed: int) -> None:
    graph = beside.network(seed)
    images = np.random.default_rng(seed).integers(0, 4, (2, 1, 8, 8))
    count, steps = len(images), beside.STEPS
    model = beside.Torch(graph)
    footprint = sum(x.numel() * x.element_size() for x in (*model.parameters(), *model.buffers()))
    weights = [model.conv1.weight, model.conv2.weight, model.linear.weight]
    zeros = sum(int((x == 0).sum()) for x in weights) / sum(x.numel() for x in weights)

    model.reset()
    operations = {"Effective_ACs": 0.0, "Effective_MACs": 0.0, "Dense": 0.0}
    spikes, silent, updates = dict.fromkeys(("first", "second"), 0), dict.fromkeys(("first", "second"), 0), 0

    def work(layer: torch.nn.Module, x: torch.Tensor) -> None:
        """The layer with weights of 0 and 1 on inputs of 0 and 1; then both all ones."""

        def run(weight: torch.Tensor, values: torch.Tensor) -> float:
            if isinstance(layer, torch.nn.Conv2d):
                return float(F.conv2d(values, weight, None, layer.stride, layer.padding).sum())
            return float(F.linear(values, weight).sum())

        binary = all(value in (-1, 0, 1) for value in x.unique().tolist())
        kind = "Effective_ACs" if binary else "Effective_MACs"
        operations[kind] += run((layer.weight != 0).float(), (x != 0).float()) / count
        operations["Dense"] += run(torch.ones_like(layer.weight).float(), torch.ones_like(x)) / count

    for step in range(steps):
        x = torch.from_numpy(images).float() if step == 0 else torch.zeros(images.shape)
        for connection, name in ((model.conv1, "first"), (model.conv2, "second")):
            work(connection, x)
            neuron = getattr(model, name)
            before = neuron.mem
            x = neuron(connection(x))
            updates += neuron.mem.numel() if step == 0 else int((before != neuron.mem).sum())
            spikes[name] += int((x != 0).sum())
            silent[name] += int((x == 0).sum())
        work(model.linear, x.flatten(1))

    found = profile(graph, Encoded(images), "loihi2", steps=steps)
    assert found.neurobench.membrane_images == count
    plain = found.neurobench.to_dict()
    assert plain["Footprint"] == footprint
    assert plain["ConnectionSparsity"] == round(zeros, 4)
    assert plain["ActivationSparsity"] == sum(silent.values()) / (sum(silent.values()) + sum(spikes.values()))
    assert plain["ActivationSparsityByLayer"] == {name: silent[name] / (silent[name] + spikes[name]) for name in spikes}
    assert plain["SynapticOperations"] == operations
    assert plain["MembraneUpdates"] == updates / count
    neurons = sum(model.sizes.values())
    assert plain["NeuronOperations"] == {
        "Effective Neuron Ops": 4 * updates / count, "Neuron Dense Ops": 4 * neurons * steps,
    }  # fmt: skip
    settled = profile(graph, Encoded(images), "loihi2").neurobench.to_dict()
    assert settled["MembraneUpdates"] == plain["MembraneUpdates"]
    assert settled["SynapticOperations"]["Effective_ACs"] == operations["Effective_ACs"]


def test_the_record_says_that_the_package_agrees() -> None:
    rows = json.loads((ROOT / "docs" / "records" / "neurobench.json").read_text())["rows"]
    names = {"ConnectionSparsity", "Footprint", "MembraneUpdates", "ActivationSparsity"}
    names |= {f"SynapticOperations.{key}" for key in ("Effective_ACs", "Effective_MACs", "Dense")}
    assert names <= {row["metric"] for row in rows}
    assert all(row["equal"] and row["here"] == pytest.approx(row["package"], rel=1e-12) for row in rows)
