"""NetX files: exact round trip, stock keys, conformance with stock lava-dl, hostile files."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.formats import netx
from fastsnn_deploy.formats.netx import file as netx_file
from fastsnn_deploy.graph import Conv2d, Flatten, Identity, Input, Linear, Population, Readout, Schedule, SpikingGraph
from fastsnn_deploy.simulators.reference import simulate
from tests.random_graphs import bounds, random_graph, random_images

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory) -> Iterator[None]:
    """Let the subprocesses of this file share byte code, also where the environment forbids writing it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        patch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path_factory.mktemp("bytecode")))
        yield


def image(shape: tuple[int, ...] = (2, 9, 7)) -> Input:
    return Input(name="image", shape=shape, step=1 / 15, low=0, high=15, offset=np.zeros(shape[0], int), scale=1 / 15)


def population(name: str, *inputs: str, shape: tuple[int, ...], threshold: int = 300, **fields) -> Population:
    channels = shape[0]
    fields = {"ceiling": 7, "floor": 0, "scale": 0.5} | fields
    fields |= bounds(fields.pop("neurons", "unary"), fields["floor"], fields["ceiling"])
    return Population(
        name=name,
        inputs=inputs,
        shape=shape,
        threshold=np.arange(threshold, threshold + channels),
        bias=np.arange(channels) * 11 - 7,
        initial=np.arange(threshold, threshold + channels) // 2,
        input_scale=np.ones(channels),
        **fields,
    )


def sequential(neurons: str = "unary") -> SpikingGraph:
    """Convolutions with asymmetric kernels and H != W, flatten, dense: the structure stock NetX knows."""
    rng = np.random.default_rng(3)

    def weight(*shape: int) -> np.ndarray:
        return rng.integers(-127, 128, shape)

    nodes = (
        image(),
        Conv2d(name="conv1", inputs=("image",), shape=(4, 5, 8), weight=weight(4, 2, 3, 2), exponent=np.zeros(4),
               stride=(2, 1), padding=(1, 1)),
        population("pop1", "conv1", shape=(4, 5, 8), neurons=neurons),
        Conv2d(name="conv2", inputs=("pop1",), shape=(6, 3, 9), weight=weight(6, 2, 3, 2), exponent=np.zeros(6),
               stride=(2, 1), padding=(2, 1), dilation=(2, 1), groups=2),
        population("pop2", "conv2", shape=(6, 3, 9), neurons=neurons),
        Flatten(name="flat", inputs=("pop2",), shape=(162,)),
        Linear(name="dense", inputs=("flat",), shape=(5,), weight=weight(5, 162), exponent=np.zeros(5)),
        population("out", "dense", shape=(5,), threshold=400, neurons=neurons),
    )  # fmt: skip
    return SpikingGraph(nodes=nodes, outputs=("out",), metadata={"source": "Größe \x00 and NUL"})


def dense_only(exponent: int = 0, delay: int = 1) -> SpikingGraph:
    weight = np.random.default_rng(0).integers(-127, 128, (3, 126))
    nodes = (
        image(),
        Flatten(name="flat", inputs=("image",), shape=(126,)),
        Linear(name="dense", inputs=("flat",), shape=(3,), weight=weight, exponent=np.full(3, exponent), delay=delay),
        Readout(name="out", inputs=("dense",), shape=(3,), bias=np.array([5, -6, 7]), scale=np.full(3, 0.1)),
    )
    return SpikingGraph(nodes=nodes, outputs=("out",))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["unary", "graded"]), st.booleans())
def test_a_written_graph_reads_back_equal(tmp_path_factory, seed: int, neurons: str, balance: bool) -> None:
    graph = random_graph(seed, neurons=neurons, balance=balance)
    path = tmp_path_factory.mktemp("netx") / "graph.net"
    netx.write(graph, path)
    assert netx.read(path) == graph


def test_node_order_modules_names_and_metadata_survive(tmp_path: Path) -> None:
    graph = sequential()
    synapses_first = [graph[name] for name in ("image", "conv1", "pop1", "conv2", "pop2", "flat", "dense", "out")]
    extra = replace(graph["conv1"], name="spätere 層", module="net.conv1", delay=3)
    last = population("pop3", extra.name, shape=extra.shape)
    graph = SpikingGraph(
        nodes=(synapses_first[0], extra, *synapses_first[1:], last),
        outputs=("out", "pop3"),
        schedule=Schedule(window=9, input="spread", bias="initial"),
        metadata={"ключ": "значение\x00\ud800", "": ""},
    )
    netx.write(graph, tmp_path / "graph.net")
    copy = netx.read(tmp_path / "graph.net")
    assert copy == graph
    assert [node.name for node in copy.nodes] == [node.name for node in graph.nodes]


def test_identity_of_vectors_and_whole_number_scales(tmp_path: Path) -> None:
    source = image((4, 1, 1))
    flat = Flatten(name="flat", inputs=("image",), shape=(4,))
    relay = Identity(name="relay", inputs=("flat",), shape=(4,), weight=np.array([1, -128, 127, 0]),
                     exponent=np.array([0, 2, 3, 13]), delay=4)  # fmt: skip
    graph = SpikingGraph(
        nodes=(replace(source, step=1, scale=2), flat, relay, population("pop", "relay", shape=(4,))),
        outputs=("pop",),
    )
    netx.write(graph, tmp_path / "graph.net")
    assert netx.read(tmp_path / "graph.net") == graph


def test_writing_is_deterministic(tmp_path: Path) -> None:
    netx.write(random_graph(7), tmp_path / "a.net")
    netx.write(random_graph(7), tmp_path / "b.net")
    assert (tmp_path / "a.net").read_bytes() == (tmp_path / "b.net").read_bytes()


def test_stock_keys_have_stock_types_and_orders(tmp_path: Path) -> None:
    graph = sequential()
    netx.write(graph, tmp_path / "graph.net")
    with h5py.File(tmp_path / "graph.net") as file:
        assert [file[f"layer/{i}/type"][0] for i in range(5)] == [b"input", b"conv", b"conv", b"flatten", b"dense"]
        assert file["layer/0/type"].shape == (1,)
        assert file["layer/0/type"].dtype == np.dtype("S10")
        conv = file["layer/2"]
        assert conv["weight"].dtype == np.int8
        np.testing.assert_array_equal(conv["weight"][()], graph["conv2"].weight)
        assert conv["bias"].dtype == np.float32
        np.testing.assert_array_equal(conv["bias"][()], graph["pop2"].bias)
        for key, value in {"stride": (2, 1), "padding": (2, 1), "dilation": (2, 1), "shape": (6, 3, 9)}.items():
            assert conv[key].dtype == np.int64
            assert tuple(conv[key][()]) == value
        assert conv["groups"].shape == ()
        assert (conv["groups"][()], conv["inChannels"][()], conv["outChannels"][()]) == (2, 4, 6)
        dense = file["layer/4"]
        assert (dense["inFeatures"][()], dense["outFeatures"][()]) == (162, 5)
        assert "delay" not in dense


# --- stock lava-dl ---------------------------------------------------------------------------------------------

STOCK = """
import sys, json
import numpy as np
from fastsnn_deploy.backends.lava.compatibility import import_lava
import_lava()
from lava.lib.dl.netx import hdf5
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.io import sink, source

def stepped(net, data, steps):
    src = source.RingBuffer(data=data)
    snk = sink.RingBuffer(shape=net.out.shape, buffer=steps)
    src.s_out.connect(net.inp)
    net.out.connect(snk.a_in)
    net.run(condition=RunSteps(steps), run_cfg=Loihi2SimCfg(select_tag='fixed_pt'))
    return snk.data.get().astype(int)

def load(path):
    try:
        return hdf5.Network(net_config=path, input_message_bits=24)
    except Exception as error:
        return type(error).__name__
"""

PATCHED = (
    STOCK
    + """
from fastsnn_deploy.backends.lava.processes.clock import Clock
from fastsnn_deploy.backends.lava.processes.signed_if import SignedIF
arguments = json.loads(sys.argv[1])
assert isinstance(load(arguments['file']), str)

def get_neuron_params(neuron_config, **options):
    neuron = neuron_config.f
    assert neuron_config['type'] == 'SIGNED_IF'
    return {'neuron_proc': SignedIF, 'num_message_bits': 24, 'threshold': neuron['threshold'][()],
            'initial': neuron['initial'][()], 'floor': int(neuron['floor'][()]),
            'ceiling': int(neuron['ceiling'][()]), 'min_spike': int(neuron['min_spike'][()]),
            'max_spike': int(neuron['max_spike'][()]),
            'clock': Clock(period=10**6, offset=0, active=10**6, images=1)}

hdf5.Network.get_neuron_params = staticmethod(get_neuron_params)
net = load(arguments['file'])
assert [layer.shape for layer in net.layers] == [(8, 5, 4), (9, 3, 6), (5,)], net
out = stepped(net, np.load(arguments['data']), arguments['steps'])
net.stop()
np.save(arguments['result'], out)
"""
)

REFUSED = (
    STOCK
    + """
results = {path: load(path) for path in sys.argv[1:] if not path.endswith('plain.net')}
assert all(isinstance(result, str) for result in results.values()), results
net = load(sys.argv[1])
data = np.load(sys.argv[1] + '.npy')
stepped(net, data, data.shape[-1])
potential = net.layers[-1].neuron.v.get()
net.stop()
assert (potential % 64 == 0).all()
print(json.dumps((potential.astype(int) >> 6).tolist()))
"""
)


def in_subprocess(script: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.lava
def test_stock_lava_dl_parses_all_but_the_neuron_and_gives_the_same_spikes(tmp_path: Path) -> None:
    """Only `get_neuron_params` is replaced: weights, windows, bias, shapes and flatten go through stock code."""
    graph = sequential()
    # the stock loader knows no depth, so every population receives its bias in the first step of the run
    graph = replace(graph, schedule=Schedule(bias="initial"))
    emitted = graph.input.encode(random_images(graph, 0, 1))
    steps = 24
    expected = simulate(graph, emitted, steps)
    assert expected.spikes["out"].any()
    netx.write(graph, tmp_path / "graph.net")
    data = np.zeros((7, 9, 2, steps), dtype=np.int32)  # W, H, C, T
    data[..., 0] = emitted[0].transpose(2, 1, 0)
    np.save(tmp_path / "data.npy", data)
    arguments = {"file": "graph.net", "data": "data.npy", "result": "result.npy"}
    paths = {key: str(tmp_path / value) for key, value in arguments.items()}
    in_subprocess(PATCHED, json.dumps({**paths, "steps": steps}))
    np.testing.assert_array_equal(np.load(tmp_path / "result.npy").T, expected.spikes["out"][:, 0])


@pytest.mark.lava
def test_stock_lava_dl_refuses_every_file_it_would_compute_differently(tmp_path: Path) -> None:
    """A file without our neuron, a dense readout alone, loads in stock lava-dl and gives the same logits."""
    plain = dense_only()
    netx.write(plain, tmp_path / "plain.net")
    emitted = plain.input.encode(random_images(plain, 0, 1))
    data = np.zeros((126, 4), dtype=np.int32)
    data[:, 0] = emitted.reshape(-1)
    np.save(tmp_path / "plain.net.npy", data)
    paths = [tmp_path / "plain.net"]
    others = [dense_only(exponent=4), dense_only(delay=2)]
    second = replace(plain["dense"], name="dense2")
    others.append(
        SpikingGraph(
            nodes=(*plain.nodes[:3], second, replace(plain["out"], inputs=("dense", "dense2"))), outputs=("out",)
        )
    )
    other_out = replace(plain["out"], name="out2", inputs=("dense2",))
    others.append(SpikingGraph(nodes=(*plain.nodes, second, other_out), outputs=("out", "out2")))
    others += [random_graph(seed) for seed in range(30)]
    for index, graph in enumerate(others):
        paths.append(tmp_path / f"other{index}.net")
        netx.write(graph, paths[-1])
    printed = in_subprocess(REFUSED, *map(str, paths))
    expected = simulate(plain, emitted, 4).potentials["out"][-1, 0]
    assert json.loads(printed.splitlines()[-1]) == expected.tolist()


# --- bad files -------------------------------------------------------------------------------------------------


def replaced(key: str, value: object) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        if key in file:
            del file[key]
        if value is not None:
            file[key] = value

    return change


def attribute(value: object) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file.attrs[netx_file.VERSION_KEY]
        if value is not None:
            file.attrs[netx_file.VERSION_KEY] = value

    return change


def huge(file: h5py.File) -> None:
    del file["layer/1/weight"]
    file["layer/1"].create_dataset("weight", shape=(2**20, 2**20, 3, 3), dtype="i1")


def packed(key: str, shape: tuple[int, ...], **options: object) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        kind = file[key].dtype
        del file[key]
        file.create_dataset(key, shape=shape, dtype=kind, **options)

    return change


def outside(file: h5py.File) -> None:
    del file["layer/1/weight"]
    file["layer/1"].create_dataset("weight", shape=(4, 2, 3, 2), dtype="i1", external=[("other.bin", 0, 48)])


def gap(file: h5py.File) -> None:
    file.move("layer/2", "layer/9")


WEIGHT = np.zeros((4, 2, 3, 2), np.int8)

CHANGES: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "no version": (attribute(None), "another program"),
    "other version": (attribute(1), "version 1, this program reads version 3"),
    "version text": (attribute("one"), "version one"),
    "no layers": (replaced("layer", None), "'/layer' is missing"),
    "gap": (gap, "'/layer/2' is missing"),
    "no weight": (replaced("layer/1/weight", None), "layer 1: key '/layer/1/weight' is missing"),
    "no threshold": (replaced("layer/1/neuron/threshold", None), "threshold' is missing"),
    "negative threshold": (replaced("layer/1/neuron/threshold", np.array([5, -3, 5, 5])), "threshold -3 of channel 1"),
    "short threshold": (replaced("layer/1/neuron/threshold", np.array([5])), "'threshold' is int64 of shape (1,)"),
    "real threshold": (replaced("layer/1/neuron/threshold", np.ones(4)), "'threshold' is float64"),
    "large threshold": (replaced("layer/1/neuron/threshold", np.full(4, 2**62)), "at most 2147483647"),
    "large ceiling": (replaced("layer/1/neuron/ceiling", 2**40), "layer 1: 'floor, ceiling, min_spike, max_spike'"),
    "neuron": (replaced("layer/1/neuron/type", "CUBA"), "'neuron/type' is 'CUBA'"),
    "spikes": (replaced("layer/1/neuron/max_spike", 0), "spike bounds [-1, 0]"),
    "real weight": (replaced("layer/1/weight", WEIGHT.astype("f4")), "'weight' is float32, must be int8"),
    "exponent": (replaced("layer/1/synapse/0/weight_exponent", np.array([14, 0, 0, 0])), "'weight_exponent'"),
    "wrong rank": (replaced("layer/1/weight", WEIGHT[0]), "'weight' is of shape (2, 3, 2)"),
    "bias": (replaced("layer/1/bias", np.array([0.5] * 4, "f4")), "'bias' is 0.5"),
    "stride": (replaced("layer/1/stride", np.array([0, 1])), "stride is (0, 1)"),
    "other stride": (replaced("layer/1/stride", np.array([1, 1])), "has shape (4, 5, 8), but its inputs make"),
    "groups": (replaced("layer/1/groups", np.array([1])), "'groups' is int64 of shape (1,)"),
    "type": (replaced("layer/1/type", "avgpool"), "'type' is avgpool, must be one of input, pool"),
    "type number": (replaced("layer/1/type", 3), "'type' is int64 of shape (), must be one string"),
    "operator": (replaced("layer/1/synapse/0/operator", "fft"), "'operator' is 'fft'"),
    "other operator": (replaced("layer/1/synapse/0/operator", "linear"), "must be 'dense' for operator 'linear'"),
    "not depthwise": (replaced("layer/1/synapse/0/operator", "identity"), "must be depthwise"),
    "later source": (replaced("layer/1/synapse/0/source", 2), "'source' is 2, must be the number of an earlier"),
    "negative source": (replaced("layer/1/synapse/0/source", -1), "'source' is -1"),
    "delay": (replaced("layer/1/synapse/0/delay", 0), "delay (0,)"),
    "order": (replaced("layer/1/ext/order", 0), "'order'"),
    "same names": (replaced("layer/1/ext/name", "image"), "its name is used twice"),
    "hostile shape": (replaced("layer/0/shape", np.array([2**31, 2**31, 2**31])), "layer 0: 'shape'"),
    "shapes differ": (replaced("layer/0/shape", np.array([2, 7, 9])), "'shape' is (2, 7, 9), must be (2, 9, 7)"),
    "scale": (replaced("layer/0/ext/scale", np.inf), "'scale' is inf, must be finite"),
    "no outputs": (replaced("fastsnn_deploy/outputs", np.zeros(0, np.int64)), "has no output"),
    "output": (replaced("fastsnn_deploy/outputs", np.array([99])), "'outputs' is 99"),
    "window": (replaced("fastsnn_deploy/schedule/window", 0), "window 0 must be from 1"),
    "mode": (replaced("fastsnn_deploy/schedule/bias", "later"), "bias='later'"),
    "metadata": (replaced("fastsnn_deploy/metadata", "[1]"), "a JSON object of strings"),
    "deep metadata": (replaced("fastsnn_deploy/metadata", "[" * 100_000), "nested more than 50 deep"),
    "group for data": (lambda f: (f.__delitem__("layer/1/bias"), f.create_group("layer/1/bias")), "is a group"),
    "soft link": (replaced("layer/1/bias", h5py.SoftLink("/layer/2/bias")), "a SoftLink"),
    "link to itself": (replaced("layer/1/ext", h5py.SoftLink("/layer/1/ext")), "a SoftLink"),
    "external link": (replaced("layer/1/bias", h5py.ExternalLink("other.net", "/bias")), "a ExternalLink"),
    "external data": (outside, "stored elsewhere"),
    "compressed": (packed("layer/1/bias", (4,), chunks=(4,), compression="gzip"), "chunked"),
    "other filter": (packed("layer/1/weight", WEIGHT.shape, chunks=WEIGHT.shape, shuffle=True), "by other filters"),
    "not there": (packed("layer/1/weight", WEIGHT.shape, chunks=WEIGHT.shape), "no larger than the file"),
    "huge": (huge, "no larger than the file"),
    "cyclic group": (lambda f: f["layer"].__setitem__("5", f["layer"]), "layer 5: key"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_file_gives_one_clear_error(tmp_path: Path, name: str) -> None:
    change, message = CHANGES[name]
    path = tmp_path / "graph.net"
    netx.write(sequential(), path)
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(InputError) as caught:
        netx.read(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)
    h5py.File(path, "r+").close()  # the reader closed the file


def test_missing_empty_foreign_and_truncated_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such NetX file"):
        netx.read(tmp_path / "none.net")
    with pytest.raises(InputError, match="is a folder"):
        netx.read(tmp_path)
    path = tmp_path / "graph.net"
    path.write_bytes(b"")
    with pytest.raises(InputError, match="is empty"):
        netx.read(path)
    path.write_bytes(b"not HDF5" * 100)
    with pytest.raises(InputError, match="is not an HDF5 file or is damaged"):
        netx.read(path)
    h5py.File(path, "w").close()
    with pytest.raises(InputError, match="not a NetX file"):
        netx.read(path)
    netx.write(sequential(), path)
    whole = path.read_bytes()
    for part in range(1, 12):
        path.write_bytes(whole[: len(whole) * part // 12])
        with pytest.raises(InputError):
            netx.read(path)


def test_flipped_bytes_never_give_anything_but_a_graph_or_an_error(tmp_path: Path) -> None:
    path = tmp_path / "graph.net"
    netx.write(sequential(), path)
    whole = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for position in rng.integers(0, len(whole), 8):
            damaged[position] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            assert isinstance(netx.read(path), SpikingGraph)
        except InputError as error:
            assert str(path) in str(error)  # noqa: PT017
            refused += 1
    assert refused > 0


# --- failing writes --------------------------------------------------------------------------------------------


def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "graph.net"
    netx.write(sequential(), path)
    before = path.read_bytes()

    def full_disk(file: h5py.File, graph: SpikingGraph) -> None:
        file.create_group("layer/0")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(netx_file, "_fill", full_disk)
    with pytest.raises(InputError, match="No space left"):
        netx.write(sequential("graded"), path)
    with pytest.raises(InputError, match="No space left"):
        netx.write(sequential("graded"), tmp_path / "new.net")
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["graph.net"]


def test_a_file_that_reads_back_differently_is_not_written(tmp_path: Path) -> None:
    graph = sequential()
    nodes = [replace(node, ceiling=np.int64(7)) if node.name == "pop2" else node for node in graph.nodes]
    with pytest.raises(InputError, match=r"ceiling of 'pop2' is .*7.* \(int64\)"):
        netx.write(replace(graph, nodes=tuple(nodes)), tmp_path / "graph.net")
    named = replace(graph["image"], module="a\x00b")
    with pytest.raises(InputError, match="cannot be written"):
        netx.write(replace(graph, nodes=(named, *graph.nodes[1:])), tmp_path / "graph.net")
    assert not list(tmp_path.iterdir())


def test_an_unwritable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        netx.write(sequential(), tmp_path / "file" / "graph.net")
