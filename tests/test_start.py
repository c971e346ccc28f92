"""Starting: what is imported, what is unpacked, and that what was made faster gives the same integers."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph import Conv2d, Linear
from fastsnn_deploy.graph.arithmetic import IntArray
from fastsnn_deploy.graph.synapses.base import mantissa_sums
from fastsnn_deploy.simulators.cpu import compilation
from fastsnn_deploy.simulators.cpu.assembly import available
from fastsnn_deploy.simulators.cpu.products import Shape, products
from fastsnn_deploy.simulators.notices import HEARERS
from fastsnn_deploy.training import threads
from fastsnn_deploy.training.data import load_images
from fastsnn_deploy.training.images import Images, arrays
from fastsnn_deploy.training.unpacked import Unpacked

ROOT = Path(__file__).resolve().parent.parent
LISTED = ("data", "hardware", "engines", "targets")
EXPORTED = "netx_exports/resnet20-2bit-unary.net"

WITHOUT = """
import sys

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision"):
            raise AssertionError(f"imports {name}")

sys.meta_path.insert(0, Refused())
"""

DOOR = """
import numpy as np
import fastsnn_deploy as fd

network = fd.read("netx_exports/digits-2bit-unary.net")
images = fd.load_data("digits")
fd.evaluate(network, images)
fd.profile(network, np.zeros((2, *network.input.shape)))
"""


def test_an_exported_file_is_evaluated_without_torch(tmp_path: Path):
    """A network for CIFAR-10, whose offsets differ. Where the engine has no loops of its own, PyTorch computes them."""
    (tmp_path / "cifar10").mkdir()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 32, 32, 3)).astype(np.uint8)
    np.savez_compressed(tmp_path / "cifar10" / "test.npz", images=images, labels=rng.integers(0, 10, 20))
    commands = [["info", EXPORTED], ["map", EXPORTED], *(["list", what] for what in LISTED)]
    if available():
        commands += [["evaluate", EXPORTED, "--samples", "2"], ["profile", EXPORTED, "--samples", "2"]]
    code = WITHOUT + (
        "from fastsnn_deploy.cli.main import main\n"
        f"for command in {commands!r}:\n"
        "    sys.argv = ['fastsnn-deploy', *command]\n"
        f"    sys.argv += ['--data-root', {str(tmp_path)!r}] if command[0] in ('evaluate', 'profile') else []\n"
        "    try:\n        main()\n    except SystemExit as ended:\n        assert not ended.code, command\n"
    )
    code += DOOR * available()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


@given(
    st.integers(0, 2**20), st.sampled_from([1, 2, 4]), st.integers(1, 6), st.integers(1, 6), st.integers(1, 3),
    st.booleans(),
)  # fmt: skip
def test_bounds_of_synaptic_input_are_the_sums_of_what_each_weight_adds(
    seed: int, groups: int, outputs: int, inputs: int, kernel: int, same: bool
):
    rng = np.random.default_rng(seed)
    weight = rng.integers(-128, 128, (outputs * groups, inputs, kernel, kernel))
    exponent = rng.integers(0, 14, len(weight))
    low, high = (rng.integers(0, 2**20, inputs * groups) for _ in range(2))
    low, high = (np.full_like(each, each[0]) for each in (low, high)) if same else (low, high)

    def summed(each: np.ndarray, taps: int) -> tuple[IntArray, IntArray]:
        ends = np.stack([each * np.repeat(-low, taps), each * np.repeat(high, taps)])
        return ends.min(0).sum(1) << exponent, ends.max(0).sum(1) << exponent

    conv = Conv2d(name="conv", shape=(len(weight), 1, 1), weight=weight, exponent=exponent, groups=groups)
    wide = np.zeros((len(weight), groups, inputs, kernel**2), dtype=np.int64)
    for group in range(groups):
        rows = slice(group * outputs, (group + 1) * outputs)
        wide[rows, group] = weight[rows].reshape(outputs, inputs, -1)
    wide = wide.reshape(len(weight), -1)
    for found, right in zip(conv.input_bounds(-low, high), summed(wide, kernel**2), strict=True):
        assert np.array_equal(found, right)
    dense = Linear(name="dense", shape=(len(weight),), weight=wide[:, :: kernel**2], exponent=exponent)
    for found, right in zip(dense.input_bounds(-low, high), summed(wide[:, :: kernel**2], 1), strict=True):
        assert np.array_equal(found, right)


def test_sums_of_mantissas_belong_to_their_array():
    """Sums are kept by the identity of an array, which another one may have later."""
    for seed in range(50):
        weight = np.random.default_rng(seed).integers(-128, 128, (3, 5)).astype(np.int8)
        weight.flags.writeable = False
        negative, positive = mantissa_sums(weight)
        assert np.array_equal(negative, np.minimum(weight, 0).sum(1, dtype=np.int64))
        assert np.array_equal(positive, np.maximum(weight, 0).sum(1, dtype=np.int64))
        assert all(a is b for a, b in zip((negative, positive), mantissa_sums(weight), strict=True))
        del weight


def test_the_input_goes_through_bytes_whatever_its_offsets():
    """The range of all channels together is wider than a byte; that of each is not."""
    rng = np.random.default_rng(0)
    offset = np.tile([125, 123, 114], 30)
    rows = rng.integers(0, 256, (7, 90)) - offset
    conv = Conv2d(name="conv", shape=(16, 5, 6), weight=rng.integers(-128, 128, (16, 3, 3, 3)),
                  exponent=rng.integers(0, 3, 16), padding=(1, 1))  # fmt: skip
    maps = rows.reshape(7, 5, 6, 3).transpose(0, 3, 1, 2)
    expected = conv.apply(maps).transpose(0, 2, 3, 1).reshape(7, -1)
    for way in products(conv, Shape((3, 5, 6), (16, 5, 6)), 141, None, True, offset):
        found, shift = way.call(rows.astype(np.float32), 0), way.shift(np.float32, 0)
        assert np.array_equal(found - shift if len(shift) else found, expected)


def test_images_are_unpacked_as_far_as_they_are_asked_for(tmp_path: Path):
    images = np.random.default_rng(0).integers(0, 256, (5000, 16, 16, 3)).astype(np.uint8)
    files = [tmp_path / f"{i}.npz" for i in range(2)]
    for file, part in zip(files, np.split(images, [3000]), strict=True):
        np.savez_compressed(file, images=part)
    right = images.transpose(0, 3, 1, 2)
    found = Unpacked(files, "images")
    assert found.shape == right.shape
    assert np.array_equal(found[2:9:3], right[2:9:3])
    assert 0 < found.parts[0].filled < found.parts[0].bytes.size
    assert found.parts[1].filled == 0
    chosen = found.select(slice(2990, 3010))
    assert np.array_equal(chosen[:], right[2990:3010])
    found.begin()
    assert np.array_equal(found[np.array([4999, 0])], right[[4999, 0]])
    assert np.array_equal(np.asarray(found[:]), right)
    made = Images("x", *arrays(found, np.zeros(5000, np.int64)), 2, (0.0,) * 3, (1.0,) * 3)
    assert isinstance(made.levels, torch.Tensor)
    assert isinstance(made.labels, torch.Tensor)
    assert np.array_equal(made.levels.numpy(), right)
    assert made.select(slice(3, 5)).levels.shape == (2, 3, 16, 16)


def test_a_damaged_file_is_refused_when_its_images_are_read(tmp_path: Path):
    (tmp_path / "cifar10").mkdir()
    file = tmp_path / "cifar10" / "test.npz"
    images = np.random.default_rng(0).integers(0, 256, (2000, 32, 32, 3)).astype(np.uint8)
    np.savez_compressed(file, images=images, labels=np.zeros(2000, np.int64))
    with zipfile.ZipFile(file) as archive:
        start = archive.getinfo("images.npy").header_offset
    data = bytearray(file.read_bytes())
    data[start + 2**22 : start + 2**22 + 5000] = bytes(5000)
    file.write_bytes(data)
    read = load_images("cifar10", "test", tmp_path)
    assert read.select(slice(0, 2)).array().shape == (2, 3, 32, 32)
    with pytest.raises(InputError, match=r"test.npz: is not an .npz file or is damaged"):
        read.array()


def test_the_first_compilation_is_told_once(monkeypatch: pytest.MonkeyPatch):
    lines: list[str] = []
    monkeypatch.setattr(compilation.LISTENER, "told", False)
    HEARERS.append(lines.append)
    try:
        for module in ("elsewhere", "fastsnn_deploy.somewhere", "fastsnn_deploy.somewhere"):
            loop = njit(lambda x: x + 1)
            loop.py_func.__module__ = module
            assert loop(1) == 2
            assert len(lines) == (module != "elsewhere")
    finally:
        HEARERS.remove(lines.append)
    assert "once" in lines[0]


@pytest.mark.parametrize(("channels", "inside"), [(2, 1), (400, 2)])
def test_only_tiny_networks_have_one_thread(channels: int, inside: int):
    model, images = torch.nn.Conv2d(3, channels, 3, bias=False), torch.zeros(2, 3, 18, 18)
    assert threads.multiplies(model, images) == 2 * 16 * 16 * channels * 27
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with threads.suited_threads(model, images, 40, torch.device("cpu")):
            assert torch.get_num_threads() == inside
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
