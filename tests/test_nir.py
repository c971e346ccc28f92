"""NIR files of spiking graphs: round trip, what the nodes mean, the loss report."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import nir
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.formats.nir import export_graph, export_thermometer, import_graph, import_thermometer
from fastsnn_deploy.formats.nir.weights import dense_kernel, square_kernel
from fastsnn_deploy.graph import MaxPool2d, Population, Readout, SpikingGraph, Upsample
from fastsnn_deploy.graph.integer_network import integer_values
from fastsnn_deploy.lava_dl.network import Lif, Sdnn, StockDense, StockInput, StockNetwork
from tests.random_graphs import random_graph, random_images

LOSS_KEYS = {"node", "module", "field", "lost", "consequence", "can_change_results"}


def exported(graph: SpikingGraph, folder: Path) -> nir.NIRGraph:
    export_graph(graph, folder / "g.nir")
    return nir.read(folder / "g.nir", type_check=False)


def fields_of(report) -> set[str]:
    return {loss.field for loss in report.losses}


# spiking graphs


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), neurons=st.sampled_from(["unary", "graded"]))
def test_round_trip_is_equal(tmp_path_factory, seed, neurons):
    path = tmp_path_factory.mktemp("nir") / "g.nir"
    graph = dataclasses.replace(random_graph(seed, neurons=neurons), metadata={"name/../ü\0": "\ud800"})
    report = export_graph(graph, path)
    assert import_graph(path) == graph
    # nir's own check of types and shapes holds, but for the kernels that the report names
    nir.read(path, type_check="kernel_check" not in fields_of(report))


def value_of(graph: nir.NIRGraph, name: str, known: dict[str, torch.Tensor]) -> torch.Tensor:
    """What a node of a NIR graph gives when neurons and inputs give `known`, float64 [N, ...]."""
    if name in known:
        return known[name]
    node = graph.nodes[name]
    x = sum(value_of(graph, source, known) for source, target in graph.edges if target == name)
    if isinstance(node, nir.Conv2d):
        weight, bias = torch.from_numpy(node.weight).double(), torch.from_numpy(node.bias).double()
        geometry = (tuple(map(int, node.stride)), tuple(map(int, node.padding)), tuple(map(int, node.dilation)))
        return F.conv2d(x, weight, bias, *geometry, int(node.groups))
    if isinstance(node, nir.Affine):
        return x @ torch.from_numpy(node.weight).double().T + torch.from_numpy(node.bias).double()
    if isinstance(node, nir.SumPool2d):
        kernel = tuple(map(int, node.kernel_size))
        options = {"stride": tuple(map(int, node.stride)), "divisor_override": 1}
        padding = [int(p) for p in node.padding for _ in (0, 1)][::-1]
        return F.avg_pool2d(F.pad(x, padding), kernel, **options)
    if isinstance(node, nir.Scale):
        return x * torch.from_numpy(node.scale).double()
    assert isinstance(node, (nir.Flatten, nir.Output, nir.IF, nir.I))
    return x.flatten(1) if isinstance(node, nir.Flatten) else x


@pytest.mark.parametrize("seed", range(30))
def test_every_nir_node_computes_what_ours_does(tmp_path, seed):
    graph = random_graph(seed)
    graph = dataclasses.replace(graph, schedule=dataclasses.replace(graph.schedule, window=1))
    file = exported(graph, tmp_path)
    counts = integer_values(graph, graph.input.encode(random_images(graph, seed)))
    cuts = {node.name for node in graph.nodes if isinstance(node, (MaxPool2d, Upsample))}
    known = {name: counts[name] for name in [node.name for node in graph.populations]}
    known |= {"input": counts[graph.input.name]} | {f"{name}_makes": counts[name] for name in cuts}
    known = {name: torch.from_numpy(value).double() for name, value in known.items()}
    assert {f"{name}_makes" for name in cuts} == {n for n in file.nodes if n.endswith("_makes")}
    for node in graph.nodes:
        if isinstance(node, (Population, Readout)):
            found = value_of(file, node.name, {k: v for k, v in known.items() if k != node.name})
            expected = sum(counts[name] for name in node.inputs)
            homes = [name for name in node.inputs if not name.startswith("arm")]
            bias = node.bias if homes else np.zeros_like(node.bias)
            assert np.array_equal(found.numpy(), expected + bias.reshape(-1, *[1] * (len(node.shape) - 1)))
            neuron = file.nodes[node.name]
            if isinstance(node, Population):
                shape = (-1, *[1] * (len(node.shape) - 1))
                assert np.array_equal(
                    neuron.v_threshold + 0.5, np.broadcast_to(node.threshold.reshape(shape), node.shape)
                )


def test_the_report_names_what_nir_cannot_say(tmp_path):
    graph = next(g for g in map(random_graph, range(99)) if any(isinstance(n, MaxPool2d) for n in g.nodes))
    report = export_graph(graph, tmp_path / "net.nir")
    data = json.loads((tmp_path / "net.nir.loss.json").read_text())
    assert data == report.to_dict()
    assert set(data) == {"format", "version", "file", "nir_version", "lossless", "can_change_results", "losses"}
    assert all(set(loss) == LOSS_KEYS for loss in data["losses"])
    assert (data["file"], data["nir_version"], data["lossless"]) == ("net.nir", nir.version, False)
    assert data["can_change_results"]
    for node in graph.populations:
        found = {loss["field"] for loss in data["losses"] if loss["node"] == node.name}
        assert {"soft_reset", "signed_spikes", "ceiling", "spike_bounds", "scale"} <= found
    pools = [node.name for node in graph.nodes if isinstance(node, MaxPool2d)]
    assert pools == [loss["node"] for loss in data["losses"] if loss["lost"] == "MaxPool2d"]
    assert "soft_reset" in report.summary(width=100)
    assert pools[0] in report.summary(width=100)


def test_metadata_that_are_missing_are_listed(tmp_path):
    file = exported(random_graph(0), tmp_path)
    file.metadata = {}
    nir.write(tmp_path / "bare.nir", file)
    with pytest.raises(InputError) as caught:
        import_graph(tmp_path / "bare.nir")
    text = str(caught.value)
    assert "ceiling" in text
    assert "schedule" in text
    assert "step, low, high" in text
    assert all(f"'{name}'" in text for name, node in file.nodes.items() if isinstance(node, (nir.IF, nir.Conv2d)))


@pytest.mark.parametrize("change", ["weight", "edge", "node"])
def test_nodes_and_metadata_that_disagree_are_refused(tmp_path, change):
    file = exported(random_graph(1), tmp_path)
    name = next(n for n, node in file.nodes.items() if isinstance(node, (nir.Conv2d, nir.Affine)))
    if change == "weight":
        file.nodes[name].weight.flat[0] += 1
    elif change == "edge":
        file.edges.append((name, name))
    else:
        file.nodes["more"] = nir.Scale(np.ones(2))
    nir.write(tmp_path / "changed.nir", file)
    with pytest.raises(InputError, match="disagree"):
        import_graph(tmp_path / "changed.nir")


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(nir, "write", lambda path, graph: Path(path).write_bytes(b"half"))
    with pytest.raises(InputError):
        export_graph(random_graph(0), tmp_path / "g.nir")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("seed", range(20))
def test_kernels_in_the_form_of_readers_are_the_same_map(seed):
    rng = np.random.default_rng(seed)
    groups, per_group, size = rng.integers(1, 4, 3).tolist()
    kernel = (size, size + 2 * int(rng.integers(0, 2)))[:: 1 if seed % 2 else -1]
    padding, dilation = tuple(rng.integers(0, 3, 2).tolist()), tuple(rng.integers(1, 3, 2).tolist())
    weight = rng.integers(-9, 10, (groups * 2, per_group, *kernel))
    x = torch.from_numpy(rng.integers(-9, 10, (2, groups * per_group, 12, 13))).double()
    expected = F.conv2d(x, torch.from_numpy(weight).double(), None, (2, 1), padding, dilation, groups)
    wider, margin = square_kernel(dense_kernel(weight, groups), padding, dilation)
    assert wider.shape[2] == wider.shape[3]
    assert torch.equal(F.conv2d(x, torch.from_numpy(wider).double(), None, (2, 1), margin, dilation), expected)


# networks of stock LIF


def stock(*layers, bits: int = 0) -> StockNetwork:
    return StockNetwork(layers, bits)


def dense(neuron: Lif | Sdnn | None = None, bias: list[int] | None = None, **options) -> StockDense:
    weight = np.array([[5, -7, 127], [1, 2, 3]])
    return StockDense(
        shape=(2,), weight=weight, bias=None if bias is None else np.array(bias), neuron=neuron, **options
    )


READOUT = Lif(2**17)


def test_a_population_network_exports_without_loss(tmp_path):
    network = stock(StockInput(shape=(3,)), dense(READOUT, [1, -2]))
    report = export_thermometer(network, tmp_path / "p.nir")
    assert report.lossless
    assert not report.can_change_results
    assert json.loads((tmp_path / "p.nir.loss.json").read_text())["losses"] == []
    assert "nothing is lost" in report.summary()
    assert [type(node).__name__ for node in nir.read(tmp_path / "p.nir").nodes.values()] == [
        "Affine",
        "Input",
        "Output",
    ]


@pytest.mark.parametrize(
    ("layers", "what"),
    [
        ((dense(Lif(3, v_decay=100)),), "remembers"),
        ((dense(Sdnn(0.0)),), "sigma-delta"),
        ((dense(delay=np.array([1, 2])),), "Delay is in seconds"),
        ((StockInput(shape=(3,)),), "input, but not the first"),
    ],
)
def test_networks_without_a_nir_form_are_refused(tmp_path, layers, what):
    with pytest.raises(InputError, match=what):
        export_thermometer(stock(StockInput(shape=(3,)), *layers), tmp_path / "p.nir")
    assert not list(tmp_path.iterdir())


def test_synaptic_inputs_that_lava_wraps_are_reported(tmp_path):
    report = export_thermometer(stock(StockInput(shape=(3,)), dense(READOUT), bits=20), tmp_path / "p.nir")
    assert fields_of(report) == {"wrap", "float32"}
    assert fields_of(export_thermometer(stock(StockInput(shape=(3,)), dense()), tmp_path / "a.nir")) == {"accumulator"}


def test_a_population_whose_nodes_changed_is_refused(tmp_path):
    export_thermometer(stock(StockInput(shape=(3,)), dense(READOUT, [4, 5])), tmp_path / "p.nir")
    file = nir.read(tmp_path / "p.nir")
    file.nodes["dense_1"].bias[0] += 1
    nir.write(tmp_path / "p.nir", file)
    with pytest.raises(InputError, match="'bias' of node 'dense_1'"):
        import_thermometer(tmp_path / "p.nir")
    export_graph(random_graph(0), tmp_path / "g.nir")
    with pytest.raises(InputError, match="no stock network"):
        import_thermometer(tmp_path / "g.nir")
