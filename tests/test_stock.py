"""Stock networks: files, foreign forms of keys, hostile files, rules, and the simulator's corner cases."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.formats import netx
from fastsnn_deploy.graph import Schedule
from fastsnn_deploy.lava_dl import (
    Lif,
    Reset,
    Sdnn,
    StockConv,
    StockDense,
    StockFlatten,
    StockInput,
    StockNetwork,
    difference,
    problems_of,
    run,
)
from tests.conformance.networks import random_case
from tests.random_graphs import random_graph

WEIGHT = np.arange(-12, 12).reshape(3, 2, 2, 2)


def network() -> StockNetwork:
    """Input 2 x 5 x 4, convolution, flatten, dense with delays."""
    layers = (
        StockInput(shape=(2, 5, 4), name="image"),
        StockConv(shape=(3, 4, 3), weight=WEIGHT, bias=np.array([1, -2, 3]), neuron=Lif(9, 1024, 128), name="conv"),
        StockFlatten(shape=(36,)),
        StockDense(shape=(2,), weight=np.arange(-36, 36).reshape(2, 36), bias=None, delay=np.array([0, 4])),
    )
    return StockNetwork(layers, input_message_bits=24, metadata={"source": "Größe"})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "stock.net"
    netx.write_stock(network(), path, extra={"logits": "scale 0.5", "a/b": "\n"})
    return path


# --- files -----------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.booleans())
def test_a_written_network_reads_back_equal(tmp_path_factory, seed: int, sigma_delta: bool) -> None:
    given_network = random_case(seed, sigma_delta=sigma_delta).network
    path = tmp_path_factory.mktemp("stock") / "stock.net"
    netx.write_stock(given_network, path)
    assert difference(netx.read_stock(path), given_network) is None


def test_extra_text_and_kind(path: Path) -> None:
    assert netx.kind_of(path) == "stock"
    assert netx.read_extra(path) == {"logits": "scale 0.5", "a/b": "\n"}
    netx.write(replace(random_graph(1), schedule=Schedule()), path)
    assert netx.kind_of(path) == "extension"
    with pytest.raises(InputError, match="Read it with netx"):
        netx.read_stock(path)


def test_the_layers_hold_exactly_the_keys_of_slayer(path: Path) -> None:
    with h5py.File(path) as file:
        names: list[str] = []
        file["layer"].visit(names.append)
        dtypes = {name: file["layer"][name].dtype for name in names if isinstance(file["layer"][name], h5py.Dataset)}
    conv = ["bias", "dilation", "groups", "inChannels", "kernelSize", "neuron", "neuron/gradedSpike", "neuron/iDecay",
            "neuron/refDelay", "neuron/type", "neuron/vDecay", "neuron/vThMant", "outChannels", "padding", "shape",
            "stride", "type", "weight"]  # fmt: skip
    assert [name[2:] for name in names if name.startswith("1/")] == conv
    assert dtypes["1/weight"] == np.float32
    assert dtypes["1/stride"] == dtypes["1/neuron/vThMant"] == np.int64
    assert dtypes["1/type"] == "S10"


def test_difference_names_the_first_thing() -> None:
    other = replace(network().layers[1], stride=(2, 1))
    changed = replace(network(), layers=(network().layers[0], other, *network().layers[2:]))
    assert difference(network(), changed) == "stride of layer 1: (1, 1) against (2, 1)"
    assert difference(network(), replace(network(), input_message_bits=0)) == "input_message_bits: 24 against 0"
    assert difference(network(), replace(network(), layers=())) == "4 layers against 0"


Change = Callable[[h5py.File], None]


def put(key: str, value: object) -> Change:
    def change(file: h5py.File) -> None:
        if key in file:
            del file[key]
        if value is not None:
            file[key] = value

    return change


def five_dimensional(file: h5py.File) -> None:
    put("layer/1/weight", WEIGHT[..., None].astype("f4"))(file)


SAME: dict[str, Change] = {
    "5-D kernel": five_dimensional,
    "LOIHI": put("layer/1/neuron/type", "LOIHI"),
    "one stride": put("layer/1/stride", 1),
    "scalar type": put("layer/1/type", "conv"),
    "old dense shape": put("layer/3/shape", np.array([2, 1, 1])),
    "old flatten shape": put("layer/2/shape", np.array([1, 1, 36])),
    "flat dense weight": put("layer/3/weight", np.arange(-36, 36).astype("f4")),
    "simulation": put("simulation/Ts", 1),
    "ignored keys": put("layer/1/neuron/theta", 1600),
    "float64 bias": put("layer/1/bias", np.array([1.0, -2.0, 3.0])),
}


@pytest.mark.parametrize("name", SAME)
def test_other_forms_of_the_same_file(path: Path, name: str) -> None:
    with h5py.File(path, "r+") as file:
        SAME[name](file)
    assert difference(netx.read_stock(path), network()) is None


UNSUPPORTED: dict[str, tuple[Change, str]] = {
    "recurrent": (put("layer/3/type", "dense_rec"), "layer 3: recurrent dense layers (type 'dense_rec')"),
    "pool": (put("layer/1/type", "pool"), "layer 1: pooling (type 'pool') are not supported"),
    "complex": (lambda f: (f.__delitem__("layer/3/weight"), f.create_group("layer/3/weight")), "complex weights"),
    "unknown": (put("layer/1/type", "avgpool"), "type 'avgpool' is unknown; stock lava-dl would skip"),
    "resonate": (put("layer/1/neuron/type", "RF_PHASE"), "layer 1: neuron: type 'RF_PHASE' is not supported"),
    "message bits": (put("layer/1/neuron/messageBits", 8), "'messageBits' is not supported"),
    "conv delay": (put("layer/1/delay", np.zeros(3, "f4")), "'delay' of a convolution is not supported"),
    "fraction": (put("layer/1/weight", WEIGHT + 0.5), "'weight' is -11.5 at (0, 0, 0, 0), must be whole"),
    "thresholds": (put("layer/1/neuron/vThMant", np.array([1, 2, 3])), "'vThMant' is int64 of shape (3,)"),
    "no neuron": (put("layer/1/neuron", None), "'/layer/1/neuron' is missing"),
    "shape": (put("layer/1/shape", np.array([3, 3, 4])), "has shape (3, 3, 4), but its input makes (3, 4, 3)"),
    "groups": (put("layer/1/groups", np.array([1])), "'groups' is int64 of shape (1,)"),
    "zero stride": (put("layer/1/stride", 0), "stride (0, 0)"),
    "all zero": (put("layer/3/weight", np.zeros((2, 36), "f4")), "all weights of a dense layer are 0"),
    "wide": (put("layer/3/weight", np.full((2, 36), 256, "f4")), "weight 256 at (0, 0) is 0 in stock Lava"),
    "bias": (put("layer/1/bias", np.array([40000, 0, 0], "f4")), "bias spans [0, 40000]"),
    "decay": (put("layer/1/neuron/iDecay", 5000), "decays 5000 and 128 are not in 0..4096"),
    "delay": (put("layer/3/delay", np.array([0, 63.0])), "delay spans [0, 63], outside 0..62"),
    "delays": (put("layer/3/delay", np.zeros(5)), "'delay' is of shape (5,)"),
    "gap": (lambda f: f.move("layer/3", "layer/9"), "layer 3: key '/layer/3' is missing"),
    "soft link": (put("layer/1/bias", h5py.SoftLink("/layer/3/bias")), "a SoftLink"),
    "external link": (put("layer/1/bias", h5py.ExternalLink("other.net", "/bias")), "a ExternalLink"),
    "hostile shape": (put("layer/0/shape", np.array([2**31] * 3)), "layer 0: 'shape'"),
    "own bits": (put("fastsnn_deploy_stock/input_message_bits", -1), "input_message_bits -1"),
    "own names": (put("fastsnn_deploy_stock/names", "[1]"), "a JSON list of 4 strings"),
    "activation": (
        lambda f: (put("layer/1/neuron/type", "SDNN")(f), put("layer/1/neuron/activation", "unit")(f)),
        "'activation' is 'unit', must be 'relu'",
    ),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_is_not_supported_is_named(path: Path, name: str) -> None:
    change, message = UNSUPPORTED[name]
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(InputError) as caught:
        netx.read_stock(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)
    h5py.File(path, "r+").close()


def test_every_unsupported_layer_is_listed(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        put("layer/1/neuron/type", "RF")(file)
        put("layer/3/type", "average")(file)
    with pytest.raises(InputError) as caught:
        netx.read_stock(path)
    assert [problem.where for problem in caught.value.problems] == ["layer 1", "layer 3"]


def test_missing_foreign_and_truncated_files(path: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such NetX file"):
        netx.kind_of(tmp_path / "none.net")
    h5py.File(tmp_path / "empty.net", "w").close()
    with pytest.raises(InputError, match="not a NetX file"):
        netx.read_stock(tmp_path / "empty.net")
    whole = path.read_bytes()
    for part in range(1, 12):
        path.write_bytes(whole[: len(whole) * part // 12])
        with pytest.raises(InputError):
            netx.read_stock(path)


def test_damaged_bytes_give_a_clear_error_or_a_valid_network(path: Path) -> None:
    rng = np.random.default_rng(0)
    whole = bytearray(path.read_bytes())
    for _ in range(150):
        damaged = whole.copy()
        for position in rng.integers(0, len(whole), 3):
            damaged[position] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            read = netx.read_stock(path)
        except InputError:
            continue
        assert not problems_of(read)


def test_a_failed_write_leaves_the_old_file(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(InputError, match="cannot run this network as written"):
        netx.write_stock(replace(network(), layers=network().layers[1:]), path)
    with pytest.raises(InputError, match="cannot be written"):
        netx.write_stock(network(), path, extra={"key": 1})
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


# --- rules -----------------------------------------------------------------------------------------------------


def one_conv(**fields) -> StockNetwork:
    shape = fields.pop("source", (2, 5, 4))
    conv = replace(network().layers[1], **fields)
    return StockNetwork((StockInput(shape=shape), conv))


BROKEN = {
    "flatten at the end": (StockNetwork(network().layers[:3]), "is a flatten without a dense layer after it"),
    "second input": (StockNetwork((StockInput(shape=(2,)), StockInput(shape=(2,)))), "not the first layer"),
    "nothing": (StockNetwork((StockInput(shape=(2,)),)), "has no layer with weights"),
    "groups": (
        one_conv(source=(128, 5, 4), shape=(128, 5, 4), weight=np.ones((128, 1, 1, 1), int), groups=128, bias=None),
        "exceed 127, beyond which Lava wraps them",
    ),
    "sigma bias": (one_conv(neuron=Sdnn(sigma_output=True)), "Lava's Sigma neuron does not take"),
    "threshold": (one_conv(neuron=Lif(2**25)), "beyond 25 bits"),
    "float weight": (one_conv(weight=WEIGHT * 1.0), "weight is float64, must be integers"),
    "conv after flatten": (
        StockNetwork((*network().layers[:3], network().layers[1], *network().layers[2:])),
        "cannot read (36,)",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_rules_name_what_stock_lava_would_not_compute(name: str) -> None:
    broken, message = BROKEN[name]
    assert message in " ".join(map(str, problems_of(broken)))


# --- simulator -------------------------------------------------------------------------------------------------


def lif(weight: int, neuron: Lif, frames: list[int], **options) -> tuple[list[int], list[int], list[int]]:
    dense = StockDense(shape=(1,), weight=np.array([[weight]]), bias=None, neuron=neuron)
    one = StockNetwork((StockInput(shape=(1,)), dense), input_message_bits=24)
    result = run(one, np.array(frames).reshape(-1, 1, 1), len(frames), **options)
    return tuple(series[1].ravel().tolist() for series in (result.spikes, result.potentials, result.currents))


def test_threshold_is_strict_and_reset_is_hard() -> None:
    spikes, potentials, _ = lif(1, Lif(5, v_decay=0), [5, 1, 7, 0])
    assert spikes == [0, 0, 1, 1]  # 5 does not fire, 6 does; the surplus is lost
    assert potentials == [0, 320, 0, 0]


def test_decay_rounds_towards_zero() -> None:
    _, _, currents = lif(1, Lif(2**20, i_decay=4095), [-33, 0, 0])
    assert currents == [0, -2112, 0]
    _, _, currents = lif(1, Lif(2**20, i_decay=1), [-33, 0, 0])
    assert currents == [0, -2112, -2111]


def test_current_wraps_and_potential_saturates() -> None:
    _, potentials, currents = lif(1, Lif(2**20, i_decay=0, v_decay=0), [2**17, 1, -(2**17), 0])
    assert currents == [0, 2**23, 64 - 2**23, 64]
    assert potentials[1] == 2**23 - 1


def test_resets_follow_the_layers() -> None:
    spikes, potentials, _ = lif(1, Lif(100, v_decay=0), [3] * 6, reset=Reset(3, 1))
    assert spikes == [0] * 6
    assert potentials == [0, 192, 384, 576, 192, 384]


def test_frames_are_checked() -> None:
    for frames, message in (
        (np.zeros((3, 1, 2, 4, 5), int), "must be integers"),
        (np.zeros((3, 1, 2, 5, 4)), "float64"),
        (np.full((3, 1, 2, 5, 4), 2**40), "outside"),
    ):
        with pytest.raises(InputError, match=message):
            run(network(), frames, 3)
    with pytest.raises(InputError, match="beyond the 32 bits"):
        run(network(), np.full((3, 1, 2, 5, 4), 2**30), 3)


def test_batch_and_later_steps() -> None:
    """A batch is its samples side by side; steps after the last frame have no input."""
    frames = np.random.default_rng(0).integers(-9, 10, (6, 4, 2, 5, 4))
    together = run(network(), frames, 20)
    assert together.potentials[3].any()
    for index in range(4):
        alone = run(network(), frames[:, index : index + 1], 20)
        np.testing.assert_array_equal(alone.potentials[3][:, 0], together.potentials[3][:, index])
    last = run(network(), frames, 20, record="outputs")
    assert last.spikes[:3] == (None, None, None)
    np.testing.assert_array_equal(last.potentials[3], together.potentials[3])


def test_sigma_delta_drops_low_bits_of_every_change() -> None:
    """A change below the threshold waits, the bits below a message are lost."""
    neuron = Sdnn(threshold=2)
    dense = StockDense(shape=(1,), weight=np.array([[1]]), bias=None, neuron=Sdnn(0))
    layers = (StockInput(shape=(1,), neuron=neuron), dense)
    result = run(StockNetwork(layers), np.array([1, 2, 3, 3, 0]).reshape(-1, 1, 1), 5)
    assert result.spikes[0].ravel().tolist() == [0, 128, 0, 0, -128]
    assert result.potentials[1].ravel().tolist() == [0, 0, 128, 128, 128]
    assert result.spikes[1].ravel().tolist() == [0, 0, 2, 0, 0]


def test_stock_networks_work_without_torch_and_lava() -> None:
    code = (
        "import sys; sys.modules['torch'] = sys.modules['lava'] = None\n"
        "import fastsnn_deploy.lava_dl, fastsnn_deploy.formats.netx\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
