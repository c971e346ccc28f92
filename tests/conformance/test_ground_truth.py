"""NetX files and ground truth of the lava-dl wheel, which are not ours: our reader and simulator against them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.formats import netx
from fastsnn_deploy.lava_dl import Reset, StockNetwork, StockRun, run
from tests.conformance.stock import WHEEL

pytestmark = pytest.mark.lava


def array(name: str) -> np.ndarray:
    """Ground truth in Lava's order W, H, C, T as int64 [T, C, H, W]; without T as [C, H, W]."""
    data = np.load(WHEEL / "gts" / name)
    return np.ascontiguousarray(data.transpose(range(data.ndim)[::-1])).astype(np.int64)


def slayer_array(name: str) -> np.ndarray:
    """Ground truth in slayer's order 1, C, H, W, T as int64 [T, C, H, W]."""
    return np.moveaxis(np.load(WHEEL / "gts" / name)[0], -1, 0).astype(np.int64)


def constant(image: np.ndarray, steps: int) -> np.ndarray:
    return np.broadcast_to(image, (steps, 1, *image.shape))


@pytest.mark.parametrize("path", sorted(WHEEL.rglob("*.net")), ids=lambda path: path.name)
def test_no_file_of_the_wheel_is_a_pointer_to_large_storage(path: Path) -> None:
    assert netx.kind_of(path) == "stock"


def test_tinynet() -> None:
    """LIF input block and two convolutions: input, hidden current and spikes, output spikes."""
    steps = 17
    network = netx.read_stock(WHEEL / "tiny.net")
    result = run(network, constant(array("tinynet/input_bias.npy"), steps), steps, reset=Reset(17))
    # the ground truth has one silent step before the sample
    np.testing.assert_array_equal(result.spikes[0][:15, 0], slayer_array("tinynet/input.npy")[1:])
    np.testing.assert_array_equal(result.spikes[1][1:16, 0], slayer_array("tinynet/layer1.npy")[1:])
    np.testing.assert_array_equal(result.currents[1][1:16, 0], 64 * slayer_array("tinynet/current.npy")[1:])
    np.testing.assert_array_equal(result.spikes[2][2:17, 0], slayer_array("tinynet/output.npy")[1:])
    assert slayer_array("tinynet/output.npy").any()


@pytest.fixture(scope="module")
def pilotnet_lif() -> tuple[StockNetwork, StockRun]:
    """From the image to the output, 24 steps, samples of 17 steps."""
    network = netx.read_stock(WHEEL / "gts/pilotnet_lif/network.net")
    image = array("pilotnet_lif/image.npy")
    return network, run(network, constant(image, 24), 24, reset=Reset(17))


PILOTNET_LAYERS = {
    "conv-0": 1, "conv-1": 2, "conv-2": 3, "conv-3": 4, "conv-4": 5, "fc-0": 7, "fc-1": 8, "fc-2": 9,
}  # fmt: skip


@pytest.mark.parametrize("name", PILOTNET_LAYERS)
def test_pilotnet_lif_layers(pilotnet_lif: tuple[StockNetwork, StockRun], name: str) -> None:
    """Currents, potentials and spikes of every layer in all 24 steps, computed from the image alone."""
    index, result = PILOTNET_LAYERS[name], pilotnet_lif[1]
    spikes = array(f"pilotnet_lif/{name}.npy")
    np.testing.assert_array_equal(result.spikes[index][:, 0], spikes)
    np.testing.assert_array_equal(result.currents[index][:, 0], array(f"pilotnet_lif/{name}-u.npy"))
    # recorded on a chip: where a neuron has fired its potential reads 128 there
    potentials = np.where(spikes, 128, result.potentials[index][:, 0])
    np.testing.assert_array_equal(potentials, array(f"pilotnet_lif/{name}-v.npy"))


def test_pilotnet_lif_input(pilotnet_lif: tuple[StockNetwork, StockRun]) -> None:
    np.testing.assert_array_equal(pilotnet_lif[1].spikes[0][:, 0], array("pilotnet_lif/input.npy"))


def test_ntidigits() -> None:
    """Dense layers with delays and even weights up to 254, 3000 steps; without the average layer, as in the wheel."""
    path = WHEEL / "gts/ntidigits/ntidigits.net"
    with pytest.raises(InputError, match="layer 5: average layers"):
        netx.read_stock(path)
    network = netx.read_stock(path, num_layers=5)
    frames = array("ntidigits/input.npy").reshape(3000, 1, 1, 1, 64)
    result = run(network, frames, 3000, record="outputs")
    truth = array("ntidigits/output.npy")
    # lava-dl's own test compares the output of a step with the truth of the next
    np.testing.assert_array_equal(result.spikes[-1][:-1, 0], truth[1:])


def test_pilotnet_sdnn() -> None:
    """A sigma-delta network with Delta input and Sigma output: spikes, sums and output."""
    network = netx.read_stock(WHEEL / "gts/pilotnet_sdnn/network.net")
    image = array("pilotnet_sdnn/input.npy")[0]
    result = run(network, constant(image, 20), 20)
    np.testing.assert_array_equal(result.spikes[0][:, 0], array("pilotnet_sdnn/act0.npy"))
    np.testing.assert_array_equal(result.potentials[1][:, 0], array("pilotnet_sdnn/sigma1.npy"))
    np.testing.assert_array_equal(result.potentials[2][:, 0], array("pilotnet_sdnn/sigma2.npy"))
    np.testing.assert_array_equal(result.spikes[-1][:9, 0], array("pilotnet_sdnn/output.npy"))


def test_pilotnet_sdnn_square() -> None:
    """The same on a 33 x 33 part of the image."""
    network = netx.read_stock(WHEEL / "gts/pilotnet_sdnn/square_network.net")
    image = array("pilotnet_sdnn/input.npy")[0, :, :33, :33]
    result = run(network, constant(image, 20), 20)
    for layer in range(1, 5):
        truth = array(f"pilotnet_sdnn/sigma{layer}_square.npy")
        np.testing.assert_array_equal(result.potentials[layer][:, 0], truth)


def test_mnist_reads_and_fires() -> None:
    """A network without ground truth: it reads, and its input transform is kept."""
    network = netx.read_stock(WHEEL / "mnist.net")
    result = run(network, np.full((16, 1, 784), 90), 16)
    assert result.spikes[1].any()
    assert network.layers[0].weight.tolist() == [76]
    assert network.layers[0].bias.tolist() == [64]
