"""NIR files that we did not write: what other programs say in NIR, and what nobody should have to read."""

from __future__ import annotations

import json
import pickle
from itertools import pairwise
from pathlib import Path

import h5py
import nir
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.formats.nir import export_graph, import_graph, import_nir, import_thermometer
from fastsnn_deploy.lava_dl.network import Lif, StockConv, StockFlatten
from fastsnn_deploy.lava_dl.simulate import run
from tests.commands import runner
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


def conv(weight: np.ndarray, bias: int = 0, padding: int = 0, stride: int = 1, groups: int = 1) -> nir.Conv2d:
    return nir.Conv2d((8, 8), weight.astype(float), stride, padding, 1, groups, np.full(len(weight), float(bias)))


def pool(kind: type, size: int, stride: int | None = None) -> nir.NIRNode:
    return kind(np.array([size, size]), np.array([stride or size] * 2), np.array([0, 0]))


def computed(node: nir.NIRNode, x: torch.Tensor) -> torch.Tensor:
    """What NIR says that a linear map or a threshold computes."""
    if isinstance(node, nir.Conv2d):
        weight, bias = (torch.from_numpy(np.asarray(each)).double() for each in (node.weight, node.bias))
        return F.conv2d(x, weight, bias, node.stride, node.padding, node.dilation, node.groups)
    if isinstance(node, (nir.AvgPool2d, nir.SumPool2d)):
        size, stride = int(node.kernel_size[0]), int(node.stride[0])
        return F.avg_pool2d(x, size, stride) * (1 if isinstance(node, nir.AvgPool2d) else size * size)
    if isinstance(node, nir.Flatten):
        return x.flatten(1)
    if isinstance(node, nir.Linear):
        return x @ torch.from_numpy(node.weight).T
    return (x > torch.from_numpy(np.asarray(node.threshold))).double()


def weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(-3, 4, shape)


AVERAGE, SUM = nir.AvgPool2d, nir.SumPool2d
FIRE = nir.Threshold(np.array([0.6]))
FLAT = nir.Flatten({"input": np.array([1])}, 0, -1)

CHAINS = {
    "pool behind a convolution": (conv(weights(4, 2, 3, 3), 1, padding=1), pool(AVERAGE, 2), FIRE),
    "overlapping windows": (conv(weights(4, 2, 3, 3), stride=2, padding=1), pool(SUM, 2, 1), FIRE),
    "pool before a convolution": (pool(AVERAGE, 2), conv(weights(4, 2, 3, 3), 2, padding=1), FIRE),
    "groups": (pool(SUM, 2), conv(weights(4, 1, 2, 2), groups=2), FIRE),
    "two pools": (conv(weights(4, 2, 1, 1)), pool(AVERAGE, 2), pool(AVERAGE, 2), FIRE),
    "pools on both sides": (pool(AVERAGE, 2), conv(weights(4, 2, 2, 2), 1), pool(AVERAGE, 3), FIRE),
    "flatten before the neurons": (conv(weights(4, 2, 3, 3)), FLAT, FIRE, nir.Linear(weights(3, 144) * 1.0), FIRE),
    "pool, flatten, matrix": (pool(AVERAGE, 2, 3), FLAT, nir.Linear(weights(3, 18) * 1.0), FIRE),
    "in a row": (
        conv(weights(4, 2, 3, 3), padding=1), FIRE, pool(AVERAGE, 2), conv(weights(2, 4, 3, 3), padding=1), FIRE,
        pool(AVERAGE, 2), FLAT, nir.Linear(weights(3, 8) * 1.0), FIRE,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHAINS)
def test_linear_maps_without_a_neuron_between_become_one(tmp_path, name):
    nodes = CHAINS[name]
    network = import_nir(chain(tmp_path / "f.nir", *nodes, shape=(2, 8, 8)))
    frames = np.random.default_rng(1).integers(0, 2, (1, 40, 2, 8, 8))
    wanted = torch.from_numpy(frames[0]).double()
    for node in nodes:
        wanted = computed(node, wanted)
    layers = sum(isinstance(node, nir.Threshold) for node in nodes)
    spikes = run(network, frames, layers + 1).spikes[-1][layers]
    assert np.array_equal(spikes.reshape(40, -1), wanted.flatten(1).numpy())
    assert 0.02 < spikes.mean() < 0.98


@pytest.mark.parametrize(
    ("nodes", "what"),
    [
        ((conv(weights(4, 2, 3, 3)), conv(weights(2, 4, 3, 3)), FIRE), "Conv2d 'n1': follows another layer"),
        ((pool(SUM, 3), conv(weights(2, 2, 3, 3), padding=1), FIRE), "Conv2d 'n1': pads what no neuron has made"),
        (
            (conv(weights(4, 2, 3, 3)), FLAT, nir.Linear(weights(3, 144) * 1.0), FIRE),
            "Linear 'n2': follows another layer",
        ),
    ],
)
def test_maps_that_do_not_become_one_are_refused(tmp_path, nodes, what):
    with pytest.raises(InputError, match=what):
        import_nir(chain(tmp_path / "f.nir", *nodes, shape=(2, 8, 8)))


def test_what_other_programs_may_mean_is_listed_before_it_runs(tmp_path, monkeypatch, capsys):
    shell = runner(monkeypatch, capsys)
    accumulate = nir.IF(r=np.ones(3), v_threshold=np.ones(3) * 4)
    path = chain(
        tmp_path / "f.nir", pool(AVERAGE, 2), FLAT, nir.Linear(weights(3, 32) * 1.0), accumulate, shape=(2, 8, 8)
    )
    lines = import_nir(path).metadata["differs"].splitlines()
    assert [line for line in lines if line.startswith("n3 (IF) goes back to 0")]
    assert [line for line in lines if line.startswith("n3 fires above its threshold")]
    for command in ("run", "evaluate"):
        result = shell(command, path, "--data", "random", "--samples", "2", "--steps", "4")
        assert result.returncode == 0, result.stderr
        shown = " ".join(result.stdout.split())
        assert shown.index("goes back to 0 when it fires") < shown.index("2 images" if command == "run" else "images/s")
        assert (
            lines
            == json.loads(shell(command, path, "--data", "random", "--samples", "2", "--steps", "4", "--json").stdout)[
                "differs"
            ]
        )


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
        ((affine(), nir.Linear(np.eye(2))), "without a neuron between"),
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
