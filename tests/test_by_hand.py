"""Networks from arrays of integers: what they compute, and what is said of a slip."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import fastsnn_deploy as fd
from fastsnn_deploy.graph.integer_network import integer_values

RNG = np.random.default_rng(0)


def draw(*shape: int, most: int = 9) -> np.ndarray:
    return RNG.integers(-most, most + 1, shape)


def counted(total: torch.Tensor, threshold: np.ndarray, ceiling: int) -> torch.Tensor:
    limit = torch.from_numpy(threshold).view(1, -1, *[1] * (total.dim() - 2))
    return ((total + limit // 2) // limit).clamp(0, ceiling)


def test_ten_lines_make_the_network_that_the_integers_say():
    w1, w2, w3, b1 = draw(4, 1, 3, 3), draw(4, 2, 3, 3), draw(10, 16), draw(4, most=500)
    t1, t2 = RNG.integers(200, 500, 4), RNG.integers(15, 40, 4)
    net = fd.Graph((1, 8, 8))
    a = net.neurons(net.conv(net.image, w1, padding=1), threshold=t1, bias=b1, ceiling=15, name="a")
    b = net.neurons(net.conv(a, w2, padding=1, groups=2), net.identity(a, 5), threshold=t2, ceiling=15, name="b")
    c = net.neurons(net.sum_pool(net.max_pool(b, 2), 2), threshold=4, ceiling=15, name="c")
    snn = net.build(net.readout(net.dense(c, w3), bias=7))
    images = RNG.integers(0, 256, (3, 1, 8, 8)).astype(np.uint8)
    x = torch.from_numpy(images.astype(np.int64)).double()
    first = counted(
        F.conv2d(x, torch.from_numpy(w1).double(), padding=1) + torch.from_numpy(b1).view(1, -1, 1, 1), t1, 15
    )
    second = counted(F.conv2d(first, torch.from_numpy(w2).double(), padding=1, groups=2) + 5 * first, t2, 15)
    third = counted(4 * F.avg_pool2d(F.max_pool2d(second, 2), 2), np.full(4, 4), 15)
    answer = third.flatten(1) @ torch.from_numpy(w3).double().T + 7
    values = integer_values(snn, snn.encode(images))
    for name, wanted in (("a", first), ("b", second), ("c", third), ("output", answer)):
        assert np.array_equal(values[name], wanted.numpy().astype(np.int64)), name
        assert len(np.unique(values[name])) > 3
    assert np.array_equal(fd.simulate(snn, images).logits, answer.numpy())
    assert fd.verify(snn, images).exact


def test_concat_transposed_upsampled_and_spiking_outputs(tmp_path):
    net = fd.Graph((2, 4, 4), high=15, step=1)
    up = net.neurons(net.upsample(net.image, 2), threshold=1, ceiling=15)
    wide = net.neurons(
        net.conv_transpose(net.image, draw(3, 2, 2, 2), stride=2), threshold=20, ceiling=7, kind="graded"
    )
    end = net.neurons(net.conv(net.concat(up, wide), draw(5, 5, 1, 1)), threshold=9, ceiling=3, initial=0)
    snn = net.build(end)
    images = RNG.integers(0, 16, (2, 2, 4, 4))
    assert fd.verify(snn, snn.encode(images.astype(np.float64))).exact
    fd.export(snn, tmp_path / "hand.net")
    assert fd.read(tmp_path / "hand.net") == snn


def test_weights_of_more_than_8_bits_take_an_exponent_where_one_holds_them():
    net = fd.Graph((2,), high=3)
    snn = net.build(net.readout(net.dense(net.image, [[1280, -640], [3, 4]])))
    assert snn["dense"].exponent.tolist() == [4, 0]
    assert snn["dense"].effective_weight.tolist() == [[1280, -640], [3, 4]]


@pytest.mark.parametrize(
    ("slip", "message"),
    [
        (lambda n: n.conv(n.image, np.ones((4, 2, 3, 3))), r"conv: expects a source of 2 channels"),
        (lambda n: n.conv(n.image, np.ones((4, 3, 3))), "needs 4 dimensions"),
        (lambda n: n.conv(n.image, np.full((4, 1, 3, 3), 0.5)), "holds 0.5, needs whole numbers"),
        (lambda n: n.conv(n.image, [[1, 2], [3]]), "needs whole numbers"),
        (lambda n: n.dense(n.image, [[1001] + [1] * 63]), "channel 0 holds 1001"),
        (lambda n: n.dense(n.image, np.ones((2, 3), int)), "dense: "),
        (lambda n: n.neurons(n.image, threshold=1, ceiling=3), "needs synaptic input"),
        (lambda n: n.neurons(threshold=1, ceiling=3), "got no synaptic input"),
        (lambda n: n.dense(n.identity(n.image), np.ones((2, 64))), "needs spikes"),
        (lambda n: n.neurons(n.identity(n.image), threshold=0, ceiling=3), "threshold is 0, must be at least 1"),
        (lambda n: n.neurons(n.identity(n.image), threshold=[1, 2], ceiling=3), "one for each channel"),
        (lambda n: n.neurons(n.identity(n.image), threshold=1, ceiling=0), "ceiling is 0"),
        (lambda n: n.neurons(n.identity(n.image), n.sum_pool(n.image, 2), threshold=1, ceiling=3), "do not add"),
        (lambda n: n.neurons(n.identity(n.image), threshold=1, ceiling=3, kind="loud"), "loud"),
        (lambda n: n.max_pool(n.image, 9), "does not fit"),
        (lambda n: n.concat(n.image, n.flatten(n.image)), "side by side"),
        (lambda n: fd.Graph((1, 8, 8)).max_pool(n.image, 2), "another Graph"),
        (lambda n: n.build(n.image), "give what readout or neurons returned"),
        (lambda n: n.build(n.readout(n.dense(n.image, np.full((1, 64), 127 * 8192)))), "beyond 24 signed bits"),
        (lambda n: fd.Graph((1, 8)), "input_shape"),
    ],
)
def test_a_slip_is_one_message(slip, message):
    with pytest.raises(fd.InputError, match=message):
        slip(fd.Graph((1, 8, 8)))
