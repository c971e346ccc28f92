"""Networks quantised by the modules of other projects, in look-alikes of these: the same integers in every layer."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fastsnn_deploy as fd
from fastsnn_deploy.quantisation.calibration import OFFICIAL
from fastsnn_deploy.quantisation.layers import QUANT_WEIGHTED, QuantActivation
from fastsnn_deploy.quantisation.others.find import grid_of
from fastsnn_deploy.quantisation.others.take import NOTES, compare_with_official
from tests.commands import runner

SHAPE = (3, 8, 8)
OPTIONS = {"mean": (125 / 255, 0.5, 0.4), "std": (0.25, 0.25, 0.25), "input_shape": SHAPE}


class IF(nn.Module):
    """As QCFS has it: thresh is trained, L and T are set."""

    def __init__(self, T: int = 0, L: int = 8, thresh: float = 8.0) -> None:  # noqa: N803  QCFS's names
        super().__init__()
        self.thresh = nn.Parameter(torch.tensor([thresh]))
        self.L, self.T = L, T

    def forward(self, x: Tensor) -> Tensor:
        if self.T > 0:
            raise RuntimeError("no time axis")
        return torch.floor((x / self.thresh).clamp(0, 1) * self.L + 0.5) / self.L * self.thresh


class MyFloor(nn.Module):
    """As QCFS had it first."""

    def __init__(self, up: float = 8.0, t: int = 32) -> None:
        super().__init__()
        self.up, self.t = nn.Parameter(torch.tensor([up])), t

    def forward(self, x: Tensor) -> Tensor:
        return torch.clamp(torch.floor(x / self.up * self.t + 0.5) / self.t, 0, 1) * self.up


class Spreads(nn.Module):
    """Fast-SNN's way of clipping and rounding, after a float operation."""

    def setup(self, bit: int, power: bool) -> None:
        self.layer_type, self.bit, self.power = type(self).__name__, bit, power
        self.act_alpha = nn.Parameter(torch.tensor(6.0))

    def rounded(self, x: Tensor) -> Tensor:
        data = (x / self.act_alpha).clamp(0, 1)
        if self.power:
            levels = torch.tensor([0.0, 0.25, 0.5, 1.0]).type_as(x)
            return levels[(data.unsqueeze(-1) - levels).abs().argmin(-1)] * self.act_alpha
        data = data * (2**self.bit - 1)
        return ((data.round() - data).detach() + data) / (2**self.bit - 1) * self.act_alpha


class QuantReLU(Spreads):
    def __init__(self, bit: int, power: bool = False) -> None:
        super().__init__()
        self.setup(bit, power)

    def forward(self, x: Tensor) -> Tensor:
        return self.rounded(F.relu(x))


class QuantAvgPool2d(Spreads):
    def __init__(self, kernel_size: int, stride: int, bit: int) -> None:
        super().__init__()
        self.setup(bit, False)
        self.kernel_size, self.stride = kernel_size, stride

    def forward(self, x: Tensor) -> Tensor:
        return self.rounded(F.avg_pool2d(x, self.kernel_size, self.stride))


class QuantConv2d(nn.Conv2d):
    """Fast-SNN's weights: normalised, then sums of powers of two or a uniform grid, times weight_alpha."""

    def __init__(self, *args: int, bit: int, power: bool = True, **kwargs: int) -> None:
        super().__init__(*args, bias=False, **kwargs)
        self.layer_type, self.bit, self.power = "QuantConv2d", bit, power
        self.weight_alpha = nn.Parameter(torch.tensor(1.4))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.add(-self.weight.mean()).div(self.weight.std()) / self.weight_alpha
        weight = weight.clamp(-1, 1)
        if self.power:
            levels = torch.tensor([0, 1, 2, 3, 4, 6, 8, 10], dtype=torch.float32).div(10).type_as(weight)
            hard = levels[(weight.abs().unsqueeze(-1) - levels).abs().argmin(-1)] * weight.sign()
        else:
            hard = (weight * (2 ** (self.bit - 1) - 1)).round() / (2 ** (self.bit - 1) - 1)
        weight = ((hard - weight).detach() + weight) * self.weight_alpha
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class first_conv(nn.Conv2d):  # noqa: N801  Fast-SNN's name
    layer_type = "FConv2d"

    def forward(self, x: Tensor) -> Tensor:
        most = self.weight.data.max()
        weight = self.weight.div(most).mul(127).round().div(127).mul(most)
        weight = (weight - self.weight).detach() + self.weight
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class last_fc(nn.Linear):  # noqa: N801  Fast-SNN's name
    layer_type = "LFC"

    def forward(self, x: Tensor) -> Tensor:
        most = self.weight.data.max()
        return F.linear(x, self.weight.div(most).mul(127).round().div(127).mul(most), self.bias)


class Residual(nn.Module):
    def __init__(self, first: nn.Module, second: nn.Module, relu: nn.Module) -> None:
        super().__init__()
        self.first, self.second, self.relu = first, second, relu

    def forward(self, x: Tensor) -> Tensor:
        out = self.second(self.first(x))
        out += x
        return self.relu(out)  # type: ignore[no-any-return]


def spread(network: nn.Module, margin: float = 1.013) -> nn.Module:
    """Statistics and thresholds from random images, so that every level occurs. margin: 1 makes exact ties."""
    torch.manual_seed(3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
            module.weight.data[0] *= -1
        for name in ("thresh", "act_alpha", "up"):
            if hasattr(module, name):

                def set_top(module: nn.Module, arguments: tuple[Tensor], name: str = name) -> None:
                    getattr(module, name).data.fill_(margin * float(arguments[0].clamp_min(0).quantile(0.97)))

                module.register_forward_pre_hook(set_top)
    with torch.no_grad():
        network.train()(torch.randn(32, *SHAPE))
    for module in network.modules():
        module._forward_pre_hooks.clear()
    return network.eval()


def qcfs(act=IF) -> nn.Module:
    torch.manual_seed(0)
    return spread(
        nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), act(), nn.Dropout(0.1), nn.AvgPool2d(2),
            nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), act(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(32, 16), act(), nn.Linear(16, 10),
        )
    )  # fmt: skip


def fast_snn(bit: int = 3, power: bool = True, margin: float = 1.013) -> nn.Module:
    torch.manual_seed(1)
    norm = lambda *layers: nn.Sequential(*layers, nn.BatchNorm2d(8))  # noqa: E731
    conv = lambda: QuantConv2d(8, 8, 3, padding=1, bit=4, power=power)  # noqa: E731
    block = Residual(nn.Sequential(norm(conv()), QuantReLU(bit)), norm(conv()), QuantReLU(bit))
    network = nn.Sequential(
        norm(first_conv(3, 8, 3, padding=1)), QuantReLU(bit), block, QuantAvgPool2d(2, 2, bit),
        nn.Flatten(), last_fc(128, 10),
    )  # fmt: skip
    network[0][0].weight.data[0, 0, 0, 0] = -1.6 * network[0][0].weight.data.max()  # beyond 8 bits
    return spread(network, margin)


NETWORKS = {
    "qcfs": lambda: qcfs(lambda: IF(L=5)),
    "qcfs, first version": lambda: qcfs(lambda: MyFloor(t=8)),
    "fast-snn, powers of two": fast_snn,
    "fast-snn, uniform": lambda: fast_snn(2, power=False),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_counts_what_the_official_module_counts(name):
    network = NETWORKS[name]()
    before = copy.deepcopy(network.state_dict())
    quantised = fd.from_quantised(network, **OPTIONS)
    levels = torch.randint(0, 256, (20, *SHAPE), generator=torch.Generator().manual_seed(5))
    counts, (ours, theirs), official = compare_with_official(quantised, quantised.meta[OFFICIAL], levels, chained=True)
    assert (
        counts.differing == counts.ties == 0 < counts.compared == sum(c.numel() for v in official.values() for c in v)
    )
    assert torch.allclose(ours, theirs, rtol=1e-12)
    for path, taken in quantised.meta[OFFICIAL].activations.items():
        assert len(torch.cat(official[path]).unique()) == taken.levels + 1, path  # none is trivially equal
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    snn = fd.convert(quantised)
    assert fd.verify(snn, levels.numpy().astype(np.uint8)).exact
    assert "of counts differ" in snn.metadata["agreement"]


def test_where_they_differ_it_is_on_exact_ties_and_said():
    quantised = fd.from_quantised(fast_snn(margin=1.0), **OPTIONS)  # averages of counts lie halfway between two
    levels = torch.randint(0, 256, (20, *SHAPE), generator=torch.Generator().manual_seed(5))
    counts, _, _ = compare_with_official(quantised, quantised.meta[OFFICIAL], levels)
    assert 0 < counts.differing == counts.edges <= counts.ties
    assert any("half to even" in line for line in quantised.meta[NOTES])
    assert f"{counts.differing} of them on a rounding edge" in str(counts)


def test_a_wrong_count_would_be_seen():
    network = NETWORKS["qcfs"]()
    quantised = fd.from_quantised(network, **OPTIONS)
    next(m for m in quantised.modules() if isinstance(m, nn.BatchNorm2d)).bias.data += 0.02
    levels = torch.randint(0, 256, (20, *SHAPE), generator=torch.Generator().manual_seed(5))
    counts, _, _ = compare_with_official(quantised, quantised.meta[OFFICIAL], levels)
    assert counts.differing > counts.edges


def test_official_integer_weights_are_taken_and_those_beyond_8_bits_in_two_layers():
    network = fast_snn()
    quantised = fd.from_quantised(network, **(OPTIONS | {"std": (0.2, 0.25, 0.3)}))
    layers = {path: m for path, m in quantised.named_modules() if isinstance(m, QUANT_WEIGHTED)}
    first = [layer.integer_weight()[0].int() for path, layer in layers.items() if path.startswith("0.0.parts")]
    weight = network[0][0].weight.detach().double()
    assert torch.equal(sum(first), (weight / weight.max() * 127).round().int())
    assert sum(first).min() < -128
    assert layers["2.second.0"].integer_weight()[0].abs().max() == 10
    assert layers["2.second.0"].weight_bits == 5
    assert any("more than 8 bits" in line for line in quantised.meta[NOTES])
    assert any("4 of 4 layers have integer weights" in line for line in quantised.meta[NOTES])
    snn = fd.convert(quantised)
    assert float(snn.metadata["agreement"].split(" %")[0]) < 0.5


def test_thresholds_survive_saving_and_loading(tmp_path):
    quantised = fd.from_quantised(NETWORKS["qcfs"](), **OPTIONS)
    fd.save(quantised, tmp_path / "q.pt")
    again = fd.load(tmp_path / "q.pt")
    steps = [
        [float(m.step_in_use()) for m in q.modules() if isinstance(m, QuantActivation)] for q in (quantised, again)
    ]
    assert steps[0] == steps[1]
    assert len(steps[0]) == 3
    assert fd.convert(again).nodes == fd.convert(quantised).nodes


class Timed(nn.Sequential):
    """QCFS networks are told their number of steps."""

    def set_T(self, T: int) -> None:  # noqa: N802, N803  QCFS's names
        for module in self.modules():
            if hasattr(module, "T"):
                module.T = T


def test_a_network_in_its_spiking_form_is_taken_for_its_quantised_one():
    network = Timed(*NETWORKS["qcfs"]())
    still = fd.convert(fd.from_quantised(network, **OPTIONS))
    network.set_T(4)
    assert fd.convert(fd.from_quantised(nn.Sequential(*network), **OPTIONS)).nodes == still.nodes
    assert network[2].T == 4


# SpikingJelly


class VoltageScaler(nn.Module):
    def __init__(self, scale: float) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class IFNode(nn.Module):
    """SpikingJelly's, single step: v is the potential, 0. after reset."""

    start = 0.0

    def __init__(self, v_threshold: float = 1.0, v_reset: float | None = None) -> None:
        super().__init__()
        self.v_threshold, self.v_reset, self.step_mode = v_threshold, v_reset, "s"
        self.reset()

    def reset(self) -> None:
        self.v: float | Tensor = self.start * self.v_threshold

    def forward(self, x: Tensor) -> Tensor:
        self.v = self.v + x
        spike = (self.v >= self.v_threshold).to(x)
        self.v = self.v - spike * self.v_threshold
        return spike


class HalfThresholdIFNode(IFNode):
    start = 0.5


def spikingjelly(node=IFNode, **options) -> nn.Module:
    torch.manual_seed(2)
    act = lambda s: nn.Sequential(VoltageScaler(1 / s), node(**options), VoltageScaler(s))  # noqa: E731
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), act(1.1), nn.AvgPool2d(2), nn.Conv2d(8, 8, 3), act(0.4), nn.Flatten(), nn.Linear(8, 10)
    ).eval()  # fmt: skip


@pytest.mark.parametrize("node", [IFNode, HalfThresholdIFNode])
def test_rates_of_spikingjelly_under_steady_input(node):
    quantised = fd.from_quantised(spikingjelly(node), steps=15, **OPTIONS)
    levels = torch.randint(0, 256, (20, *SHAPE), generator=torch.Generator().manual_seed(5))
    counts, (ours, theirs), official = compare_with_official(quantised, quantised.meta[OFFICIAL], levels, chained=True)
    assert counts.compared > 0 == counts.differing
    assert torch.allclose(ours, theirs, rtol=1e-9)
    assert min(len(torch.cat(calls).unique()) for calls in official.values()) > 8
    assert any("rounds down" in line for line in quantised.meta[NOTES]) == (node is IFNode)
    assert fd.verify(fd.convert(quantised), levels.numpy().astype(np.uint8)).exact


# what cannot be taken


class LIFNode(IFNode):
    pass


class Spiking(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.T, self.idem, self.block = 3, False, nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)  # type: ignore[no-any-return]


class Liar(IF):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + 0.3)


Liar.__name__ = "IF"


def per_channel() -> nn.Module:
    act = IF()
    act.thresh = nn.Parameter(torch.ones(8))
    return nn.Sequential(nn.Conv2d(3, 8, 3), act)


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        (lambda: nn.Conv2d(3, 8, 3), {}, "holds no quantisers of QCFS"),
        (lambda: nn.Sequential(nn.Conv2d(3, 8, 3), Liar()), {}, r"1: IF of QCFS does not compute 8 even levels"),
        (per_channel, {}, "differs between channels"),
        (lambda: nn.Sequential(nn.Conv2d(3, 8, 3), IF(thresh=-1.0)), {}, "thresh is -1, must be positive"),
        (lambda: nn.Sequential(nn.Conv2d(3, 8, 3), IF(L=300)), {}, "L is 300"),
        (lambda: nn.Sequential(nn.Conv2d(3, 8, 3), QuantReLU(2, power=True)), {}, "sums of powers of two"),
        (lambda: nn.Sequential(nn.Conv2d(3, 8, 3), QuantReLU(32)), {}, "bit is 32"),
        (lambda: nn.Sequential(Spiking(), IF()), {}, "spiking form"),
        (spikingjelly, {}, "2 places.*as many steps as it is run.*steps=16"),
        (lambda: spikingjelly(v_reset=0.0), {"steps": 8}, "resets its potential to 0"),
        (lambda: spikingjelly(LIFNode), {"steps": 8}, "leaks"),
        (qcfs, {"weight_bits": 9}, "weight_bits is 9"),
        (lambda: {"a": 1}, {}, "got a dict"),
        (fast_snn, {"std": ("a", "b")}, "must hold positive numbers"),
    ],
)
def test_what_has_no_exact_form_is_said_with_what_to_do(network, options, message):
    with pytest.raises(fd.InputError, match=message):
        fd.from_quantised(network(), **(OPTIONS | options))


def test_prepare_points_to_the_way_in():
    network = qcfs()
    with pytest.raises(fd.InputError, match=r"quantised already \(3 QCFS IF\). fd.from_quantised takes it"):
        fd.prepare(network)
    assert fd.check(network, **OPTIONS).ok
    with pytest.raises(fd.InputError, match="thresholds of this network came with it"):
        fd.calibrate(fd.from_quantised(network, **OPTIONS), torch.rand(4, *SHAPE))


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run a command line in a folder with the weights of a QCFS network, the code that makes it, and images."""
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": qcfs().state_dict()}, "weights.pth")
    Path("net.py").write_text("from tests.test_others import qcfs, spikingjelly\n")
    images = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3)).astype(np.uint8)
    np.savez("images.npz", images=images, labels=np.arange(24) % 10)
    return runner(monkeypatch, capsys)


def test_official_weights_are_exported_from_the_shell(run):
    weights = ("weights.pth", "--model", "net.py:qcfs", "--data", "images.npz")
    result = run("export", *weights, "--mean", "0.49,0.5,0.4", "--std", "0.25,0.25,0.25")
    assert result.returncode == 0, result.stderr
    assert "3 QCFS IF: 3 with 8 levels, taken as they are" in result.stdout
    assert "0 of " in result.stdout
    result = run("verify", "weights-quantised.pt", "weights.net", "--data", "images.npz", "--samples", "4")
    assert result.returncode == 0, result.stderr
    assert "exact" in result.stdout
    for more, message in (
        (("--bits", "4"), "quantised already (3 QCFS IF). Leave out --bits"),
        (("--data", "random"), "Name a data set"),
    ):
        result = run("export", *weights, *more, "-o", "other.net")
        assert result.returncode == 2
        assert message in " ".join(result.stderr.split())
    result = run("quantize", *weights, "-o", "q.pt")
    assert (result.returncode, "is quantised already" in result.stderr) == (2, True)


def test_grids_of_weights():
    generator = torch.Generator().manual_seed(0)
    whole = torch.randint(-300, 301, (50, 40), generator=generator).double()
    step, largest = grid_of(whole * 0.0173)
    assert step is not None
    assert torch.equal((whole * 0.0173 / step).round().abs().max(), torch.tensor(float(largest), dtype=torch.float64))
    assert grid_of(torch.randn(64, 64, generator=generator, dtype=torch.float64)) == (None, 0)
    assert grid_of(torch.zeros(3, dtype=torch.float64)) == (1.0, 1)
