"""NIR files that we did not write: what other programs say in NIR, and what nobody should have to read."""

from __future__ import annotations

import pickle
from itertools import pairwise
from pathlib import Path

import h5py
import nir
import numpy as np
import pytest

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.formats.nir import export_graph, import_graph, import_nir, import_thermometer
from fastsnn_deploy.lava_dl.network import Lif, StockConv, StockFlatten
from fastsnn_deploy.lava_dl.simulate import run
from tests.random_graphs import random_graph


def chain(path: Path, *nodes: nir.NIRNode, shape: tuple[int, ...]) -> Path:
    """A NIR file of Input, `nodes`, Output, written without a check."""
    named = {"in": nir.Input({"input": np.array(shape)})} | {f"n{i}": node for i, node in enumerate(nodes)}
    named["out"] = nir.Output({"output": np.array(shape)})
    names = list(named)
    nir.write(path, nir.NIRGraph(named, list(pairwise(names)), type_check=False))
    return path


def affine(bias: tuple[float, ...] = (0, 0), weight: float = 2.0) -> nir.Affine:
    return nir.Affine(weight=np.array([[weight, -1, 3], [1, 1, 1]]), bias=np.array(bias))


def integrate(frames: np.ndarray, weight: np.ndarray, threshold: float) -> np.ndarray:
    """NIR's IF with a unit step, in plain Python: spikes [T, O] of frames [T, I]."""
    potential, spikes = np.zeros(len(weight)), []
    for frame in frames:
        potential = potential + weight @ frame
        spikes.append(potential > threshold)
        potential[spikes[-1]] = 0
    return np.array(spikes, dtype=np.int32)


def test_if_becomes_a_lif_without_leak(tmp_path):
    ones = np.ones(2)
    path = chain(tmp_path / "f.nir", affine(), nir.IF(r=ones, v_threshold=ones * 4.5), shape=(3,))
    network = import_nir(path)
    assert network.layers[-1].neuron == Lif(4, v_decay=0)
    frames = np.random.default_rng(0).integers(0, 2, (30, 1, 3))
    spikes = run(network, frames, 31).spikes[-1][1:, 0]
    assert np.array_equal(spikes, integrate(frames[:, 0], affine().weight, 4.5))
    assert spikes.any()


def test_the_bias_of_affine_is_read_and_thresholds_of_channels_go_into_it(tmp_path):
    path = chain(tmp_path / "f.nir", affine((7, -3)), nir.Threshold(np.array([8.5, -2.0])), shape=(3,))
    layer = import_nir(path).layers[-1]
    assert np.array_equal(layer.bias, [-1, -1])
    assert layer.neuron == Lif(0)
    frames = np.array([[[0, 0, 0]], [[1, 0, 0]], [[1, 1, 1]], [[0, 1, 0]]])
    spikes = run(import_nir(path), frames, 5).spikes[-1][1:, 0]
    synaptic_input = frames[:, 0] @ affine().weight.T + [7, -3]
    assert np.array_equal(spikes, synaptic_input > [8.5, -2.0])


def test_an_average_pool_scales_the_threshold(tmp_path):
    pool = nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))
    flat = nir.Flatten({"input": np.array([1, 2, 2])}, 0, -1)
    linear = nir.Linear(np.array([[1.0, 2, 4, 8]]))
    path = chain(tmp_path / "f.nir", pool, nir.Threshold(np.full((1, 2, 2), 0.5)), flat, linear, shape=(1, 4, 4))
    network = import_nir(path)
    assert isinstance(network.layers[1], StockConv)
    assert network.layers[1].neuron == Lif(2)
    assert isinstance(network.layers[2], StockFlatten)
    frame = np.zeros((1, 1, 1, 4, 4), dtype=np.int64)
    frame[..., 0:2, 2:4] = 1
    frame[..., 2:4, 0:1] = 1
    assert run(network, frame, 3).potentials[-1][2, 0, 0] == 2 * 64  # 2 of 4 are not more than a half


def test_everything_that_is_not_exact_is_listed_at_once(tmp_path):
    ones = np.ones(2)
    leaky = nir.LIF(tau=ones * 0.02, r=ones, v_leak=0 * ones, v_threshold=ones)
    square = nir.Affine(weight=np.eye(2) / 3, bias=ones / 2)
    path = chain(tmp_path / "f.nir", affine((0.5, 0)), leaky, square, nir.Threshold(ones), shape=(3,))
    with pytest.raises(InputError) as caught:
        import_nir(path, step=1e-4)
    problems = [str(problem) for problem in caught.value.problems]
    assert [text.split(":")[0] for text in problems] == ["Affine 'n0'", "LIF 'n1'", "Affine 'n2'", "Affine 'n2'"]
    unknown = chain(tmp_path / "u.nir", nir.Delay(ones), nir.Scale(ones), shape=(2,))
    with pytest.raises(InputError, match=r"Delay 'n0'.*(\n.*)*Scale 'n1'"):
        import_nir(unknown)


@pytest.mark.parametrize(
    ("nodes", "what"),
    [
        ((affine((1, 0)), nir.IF(np.ones(2), np.ones(2))), "remembers a bias"),
        ((affine((9, 0)), nir.Threshold(np.ones(2)), nir.Linear(np.eye(2)), nir.IF(np.ones(2), np.ones(2))), "without"),
        ((affine(), nir.IF(np.ones(2) * 2, np.ones(2))), "r of shape"),
        ((affine(), nir.IF(np.ones(2), np.ones(2), np.ones(2))), "v_reset"),
        ((affine(), nir.IF(np.ones(2), np.array([1.0, 2]))), "differ between channels"),
        ((affine(), nir.LIF(np.ones(2), np.ones(2), np.zeros(2), np.ones(2))), "give the time step"),
        ((affine(), affine()), "where a neuron must be"),
        ((affine(), nir.I(np.ones(2)), nir.Linear(np.eye(2))), "other nodes read it"),
        ((nir.Threshold(np.ones(3)),), "without weights before"),
        ((nir.Affine(np.ones((2, 4)), np.zeros(2)),), "cannot read"),
        ((nir.Affine(np.ones((2, 3)), np.zeros(1)),), "bias has shape"),
        ((affine(), nir.Threshold(np.array([np.inf, 1]))), "not finite"),
    ],
)
def test_what_lava_would_compute_differently_is_refused(tmp_path, nodes, what):
    with pytest.raises(InputError, match=what):
        import_nir(chain(tmp_path / "f.nir", *nodes, shape=(3,)))


def test_branches_and_loops_are_refused(tmp_path):
    nodes = {"in": nir.Input({"input": np.array([3])}), "a": affine(), "out": nir.Output({"output": np.array([2])})}
    for edges in ([("in", "a"), ("a", "out"), ("in", "out")], [("in", "out"), ("a", "a")], [("in", "x")]):
        nir.write(tmp_path / "f.nir", nir.NIRGraph(nodes, edges, type_check=False))
        with pytest.raises(InputError):
            import_nir(tmp_path / "f.nir")


# hostile files


class Payload:
    def __reduce__(self):
        return pytest.fail, ("code from a file ran",)


def hostile(path: Path, kind: str) -> None:
    with h5py.File(path, "a") as file:
        node = file["node"]
        if kind == "loop":
            node["nodes/again"] = node
        elif kind == "external":
            node["nodes/other"] = h5py.ExternalLink("/etc/hostname", "/")
        elif kind == "soft":
            node["nodes/other"] = h5py.SoftLink("/node")
        elif kind == "huge":
            node.create_dataset("huge", shape=(2**40,), dtype="f8", chunks=(1024,))
        elif kind == "pickle":
            file["node/metadata/x"] = np.void(pickle.dumps(Payload()))
        elif kind == "type":
            del node["type"]
        elif kind == "edges":
            del node["edges"]
            node["edges"] = np.ones((3, 5))
        elif kind == "deep":
            file.create_group("node/" + "/".join("abcdefghijklmnop"))
        elif kind == "unknown":
            del node["nodes/input/type"]
            node["nodes/input/type"] = "__import__"
        else:
            text = {"json": "{" * 10**5, "version": '{"kind": "spiking graph", "version": 99}'}[kind]
            del file["node/metadata/fastsnn_deploy/json"]
            file["node/metadata/fastsnn_deploy/json"] = text


@pytest.mark.parametrize(
    "kind",
    ["loop", "external", "soft", "huge", "pickle", "type", "edges", "deep", "unknown", "json", "version"],
)
def test_hostile_files_are_refused(tmp_path, kind):
    path = tmp_path / "g.nir"
    export_graph(random_graph(3), path)
    hostile(path, kind)
    for read in (import_graph, import_thermometer, import_nir):
        with pytest.raises(InputError, match=r"g\.nir"):
            read(path)


def test_damaged_bytes_never_give_a_traceback(tmp_path):
    path = tmp_path / "g.nir"
    graph = random_graph(3, blocks=1)
    export_graph(graph, path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for trial in range(30):
        data = bytearray(whole[: int(rng.integers(1, len(whole)))] if trial % 3 == 0 else whole)
        for at in rng.integers(0, len(data), 8):
            data[at] = rng.integers(0, 256)
        path.write_bytes(data)
        for read in (import_graph, import_thermometer, import_nir):
            try:
                read(path)
            except InputError:
                continue
    for content in (b"", b"no file"):
        path.write_bytes(content)
        with pytest.raises(InputError):
            import_nir(path)
    with pytest.raises(InputError, match="no such NIR file"):
        import_nir(tmp_path / "missing.nir")
