"""LSQ against its formula, capture against the float network, `prepare` against networks made to break it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from fastsnn_deploy.conversion.convert import convert
from fastsnn_deploy.errors import InputError, LoweringError
from fastsnn_deploy.quantisation import (
    Checkpoint,
    QuantActivation,
    QuantConv2d,
    QuantInput,
    QuantLinear,
    calibrate,
    canonicalise,
    prepare,
)
from fastsnn_deploy.quantisation.functional import best_step, integers, lsq, round_half_up, weight_limit
from fastsnn_deploy.quantisation.layers import quantisers_off

IMAGES = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Layers by name, and a forward given as a function of the network and its input."""

    def __init__(self, forward: Callable[[Any, Tensor], Any], **layers: nn.Module) -> None:
        super().__init__()
        self.call = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Any:
        return self.call(self, x)


def conv(inputs: int = 3, outputs: int = 4, kernel: int = 3, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **options)


def activations(quantised: nn.Module) -> list[QuantActivation]:
    return [module for module in quantised.modules() if isinstance(module, QuantActivation)]


def refused(model: nn.Module, *fragments: str, **options: Any) -> LoweringError:
    with pytest.raises(LoweringError) as caught:
        prepare(model, **options)
    for fragment in fragments:
        assert fragment in str(caught.value)
    return caught.value


# --- LSQ -------------------------------------------------------------------------------------------------------


def test_ties_round_up_for_both_signs() -> None:
    x = torch.tensor([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])
    assert round_half_up(x).tolist() == [-2, -1, 0, 1, 2, 3]
    assert integers(x * 0.25, torch.tensor(0.25), -2, 2).tolist() == [-2, -1, 0, 1, 2, 2]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 3), (0, 255), (-2, 1), (-7, 7)])
def test_lsq_gradients_are_the_papers(low: int, high: int) -> None:
    generator = torch.Generator().manual_seed(low + 300 * high)
    x = (torch.randn(500, generator=generator, dtype=torch.float64).float() * high).requires_grad_()
    step = torch.tensor(0.37, requires_grad=True)
    upstream = torch.randn(500, generator=generator)
    (lsq(x, step, low, high, 125) * upstream).sum().backward()
    ratio = x.detach() / 0.37
    inside = (ratio > low) & (ratio < high)
    to_step = torch.where(inside, torch.floor(ratio + 0.5) - ratio, ratio.clamp(low, high))
    expected = (to_step * upstream).sum() / math.sqrt(125 * high)
    assert x.grad is not None
    assert step.grad is not None
    assert torch.allclose(x.grad, upstream * inside, atol=1e-6)
    assert torch.allclose(step.grad, expected, rtol=1e-4)


def test_step_never_crosses_zero() -> None:
    x = torch.linspace(-1, 1, 50)
    for raw in (-0.3, -1e-12, 0.0, 1e-12):
        quantised = lsq(x, torch.tensor(raw), 0, 3, 50)
        assert torch.isfinite(quantised).all()
        assert quantised.min() >= 0
    assert torch.equal(lsq(x, torch.tensor(-0.3), 0, 3, 50), lsq(x, torch.tensor(0.3), 0, 3, 50))


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("bits", range(2, 9))
def test_integer_weights_are_the_quantised_weights(bits: int, per_channel: bool) -> None:
    torch.manual_seed(bits)
    for layer in (
        QuantConv2d(6, 8, 3, groups=2, weight_bits=bits, per_channel=per_channel),
        QuantLinear(9, 5, weight_bits=bits, per_channel=per_channel),
    ):
        whole, scale = layer.integer_weight()
        assert whole.dtype == torch.int8
        assert scale.shape == (len(layer.weight),)
        assert int(whole.abs().max()) <= weight_limit(bits) == 2 ** (bits - 1) - 1
        shape = (-1, *[1] * (whole.dim() - 1))
        assert torch.equal((whole.double() * scale.view(shape)).float(), layer.quantised_weight().detach())
        assert len(layer.weight_step) == (len(layer.weight) if per_channel else 1)


def test_best_step_beats_every_other_candidate() -> None:
    rows = torch.randn(3, 40, generator=torch.Generator().manual_seed(1))
    steps = best_step(rows, 3)
    for row, step in zip(rows, steps, strict=True):
        errors = [
            ((integers(row, row.abs().max() * f / 3, -3, 3) * row.abs().max() * f / 3 - row) ** 2).sum()
            for f in torch.linspace(0.2, 1.0, 80)
        ]
        error = ((integers(row, step, -3, 3) * step - row) ** 2).sum()
        assert torch.allclose(error, torch.stack(errors).min(), rtol=1e-5)


def test_best_step_does_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.randn(5, 64, generator=torch.Generator().manual_seed(2))
    whole = best_step(rows, 7)
    for block in (16, 100, 128):
        monkeypatch.setattr("fastsnn_deploy.quantisation.functional._BLOCK", block)
        assert torch.equal(best_step(rows, 7), whole)


@pytest.mark.parametrize("bits", [0, 9, 2.5, True])
def test_layers_refuse_impossible_bits(bits: Any) -> None:
    with pytest.raises(ValueError, match="bits"):
        QuantActivation(bits)
    with pytest.raises(ValueError, match="bits"):
        QuantLinear(2, 2, weight_bits=bits)


def test_unsigned_activation_contains_relu_and_signed_does_not() -> None:
    x = torch.tensor([[-10.0, -0.6, 0.4, 10.0]])
    for signed, expected in ((False, [0, 0, 0, 3]), (True, [-2, -1, 0, 1])):
        activation = QuantActivation(2, signed)
        activation.initialised.fill_(True)
        assert activation(x).tolist() == [expected]


# --- capture: the captured float network computes the same -------------------------------------------------------

SAME: dict[str, Net] = {
    "functional": Net(
        lambda n, x: n.fc(torch.flatten(F.adaptive_avg_pool2d(F.max_pool2d(F.relu(n.c(x)), 2), (2, 2)), 1)),
        c=conv(), fc=nn.Linear(16, 5),
    ),
    "keywords": Net(
        lambda n, x: F.adaptive_avg_pool2d(F.max_pool2d(F.relu(input=n.c(x)), kernel_size=3, stride=2, padding=1), 1),
        c=conv(),
    ),
    "max pool without stride": Net(lambda n, x: F.max_pool2d(n.c(x).relu(), 3), c=conv()),
    "average pool": Net(lambda n, x: n.d(F.avg_pool2d(torch.relu(n.c(x)), 2, 1)), c=conv(), d=conv(4)),
    "mean": Net(lambda n, x: n.fc(F.relu(n.c(x)).mean((2, 3))), c=conv(), fc=nn.Linear(4, 2)),
    "mean with negative axes": Net(lambda n, x: torch.mean(F.relu(n.c(x)), [-1, -2], keepdim=True), c=conv()),
    "view by size": Net(lambda n, x: n.fc(n.c(x).relu().view(x.size(0), -1)), c=conv(), fc=nn.Linear(256, 2)),
    "view by shape": Net(lambda n, x: n.fc(n.c(x).relu().reshape(x.shape[0], -1)), c=conv(), fc=nn.Linear(256, 2)),
    "view by product": Net(
        lambda n, x: n.fc(x.view(x.size(0), x.size(1) * x.size(2) * x.size(3))), fc=nn.Linear(192, 2)
    ),
    "reshape with a tuple": Net(lambda n, x: n.fc(torch.reshape(x, (-1, 192))), fc=nn.Linear(192, 2)),
    "concat": Net(lambda n, x: n.d(torch.cat((F.relu(n.c(x)), F.relu(n.e(x))), dim=1)), c=conv(), e=conv(), d=conv(8)),
    "concat on axis -3": Net(lambda n, x: torch.cat([n.c(x), x], -3), c=conv()),
    "interpolate": Net(lambda n, x: n.d(F.interpolate(F.relu(n.c(x)), scale_factor=2.0)), c=conv(), d=conv(4)),
    "x + x": Net(lambda n, x: n.d(torch.add(y := F.relu(n.c(x)), y)), c=conv(), d=conv(4)),
    "option A": Net(
        lambda n, x: F.relu(n.d(F.relu(n.c(x))) + F.pad(F.relu(n.c(x))[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))),
        c=conv(), d=nn.Conv2d(4, 8, 3, 2, 1),
    ),
    "in place, result not assigned": Net(lambda n, x: (y := n.c(x), F.relu_(y), n.d(y))[-1], c=conv(), d=conv(4)),
    "in place, read later": Net(lambda n, x: (y := n.c(x), n.d(n.relu(y)) + y)[-1], c=conv(), d=conv(4, 4),
                                relu=nn.ReLU(inplace=True)),
    "add in place": Net(lambda n, x: (y := n.c(x), y.add_(n.d(x)), F.relu(y))[-1], c=conv(), d=conv()),
    "a layer alone": nn.Sequential(conv()),  # type: ignore[dict-item]
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_capture_computes_the_same(name: str) -> None:
    model = SAME[name].eval()
    with torch.no_grad():
        expected = model(IMAGES.clone())
        captured = canonicalise(copy.deepcopy(model))
        assert torch.equal(captured(IMAGES.clone()), expected)
        assert captured(IMAGES).abs().sum() > 0


def test_a_bare_layer_can_be_prepared() -> None:
    layer = nn.Linear(12, 3)
    quantised = prepare(layer, last_bits=8)
    assert torch.allclose(quantised(IMAGES.view(-1, 12)), layer(IMAGES.view(-1, 12)), atol=0.05)


def test_dropout_of_a_network_in_eval_mode_stays_off() -> None:
    model = Net(lambda n, x: F.dropout(n.c(x), 0.5, n.training), c=conv()).eval()
    quantised = prepare(model)
    assert not any(module.training for module in quantised.modules() if isinstance(module, nn.Dropout))
    assert torch.equal(quantised(IMAGES), quantised(IMAGES))


# --- prepare: structure ------------------------------------------------------------------------------------------


def test_reused_relu_gets_a_step_for_each_call() -> None:
    model = Net(
        lambda n, x: n.e(n.relu(n.d(n.relu(n.c(x))))), c=conv(), d=conv(4), e=conv(4), relu=nn.ReLU(inplace=True)
    )
    quantised = prepare(model)
    assert len({id(module.step) for module in activations(quantised)}) == 2
    assert not any(module.signed for module in activations(quantised))


def test_relu_moves_before_the_max_pool() -> None:
    quantised = prepare(nn.Sequential(conv(), nn.BatchNorm2d(4), nn.MaxPool2d(2), nn.ReLU(), conv(4)), bits=3)
    names = [
        type(quantised.get_submodule(node.target)).__name__
        for node in quantised.graph.nodes
        if node.op == "call_module"
    ]
    assert names == ["QuantInput", "QuantConv2d", "BatchNorm2d", "QuantActivation", "MaxPool2d", "QuantConv2d"]
    assert [(module.bits, module.signed) for module in activations(quantised)] == [(3, False)]


@pytest.mark.parametrize(
    ("name", "model", "signed"),
    [
        ("sum without ReLU", Net(lambda n, x: n.d(n.c(x) + n.b(x)), b=conv(), c=conv(), d=conv(4)), [True]),
        ("bottleneck", nn.Sequential(conv(), nn.ReLU6(), conv(4, 4, 1), nn.BatchNorm2d(4), conv(4)), [False, True]),
        ("pool of counts", nn.Sequential(conv(), nn.ReLU(), nn.AvgPool2d(2), conv(4)), [False, False]),
        ("pool of signed", nn.Sequential(conv(), nn.AvgPool2d(2), conv(4)), [True, True]),
        ("upsampled sum", nn.Sequential(conv(), nn.Upsample(scale_factor=2), conv(4)), [True]),
        (
            "pool folded into linear",
            nn.Sequential(conv(), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(64, 2)),
            [False],
        ),
        (
            "dropout between pool and linear",
            nn.Sequential(conv(), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(4, 2)),
            [False],
        ),
    ],
)
def test_activations_where_spikes_must_leave(name: str, model: nn.Module, signed: list[bool]) -> None:
    quantised = prepare(model.eval(), bits=2)
    calibrate(quantised, IMAGES)
    order = [quantised.get_submodule(n.target) for n in quantised.graph.nodes if n.op == "call_module"]
    assert [module.signed for module in order if isinstance(module, QuantActivation)] == signed
    convert(Checkpoint(quantised, (3, 8, 8)))


def test_concatenated_activations_share_one_step_through_pools_and_nesting() -> None:
    def forward(n: Any, x: Tensor) -> Tensor:
        a = F.relu(n.a(x))
        b = F.max_pool2d(F.relu(n.b(a)), 3, 1, 1)
        c = F.relu(n.c(torch.cat([a, b], 1)))
        return n.d(torch.cat([torch.cat([a, b], 1), c], 1))  # type: ignore[no-any-return]

    quantised = prepare(Net(forward, a=conv(), b=conv(4), c=conv(8), d=conv(12)))
    assert len(activations(quantised)) == 3
    assert len({id(module.step) for module in activations(quantised)}) == 1
    assert len([p for name, p in quantised.named_parameters() if name.endswith(".step")]) == 1


def test_first_and_last_layers_have_bits_and_scales_of_their_own() -> None:
    def forward(n: Any, x: Tensor) -> Tensor:
        hidden = F.relu(n.mid(F.relu(n.a(x) + n.b(x))))
        return n.out(hidden) + n.other(hidden)  # type: ignore[no-any-return]

    model = Net(forward, a=conv(), b=conv(), mid=conv(4), out=conv(4), other=conv(4))
    quantised = prepare(model, 2, 3, first_bits=7, last_bits=6)
    bits = {name: module.weight_bits for name, module in quantised.named_modules() if isinstance(module, QuantConv2d)}
    assert bits == {"a": 7, "b": 7, "mid": 3, "out": 6, "other": 6}
    assert [name for name, m in quantised.named_modules() if isinstance(m, QuantConv2d) and not m.per_channel] == [
        "out", "other"
    ]  # fmt: skip


def test_float_network_is_not_changed() -> None:
    model = nn.Sequential(conv(), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2), conv(4)).train()
    before = copy.deepcopy(model.state_dict())
    quantised = prepare(model, mean=(0.4, 0.5, 0.6), std=(0.1, 0.2, 0.4))
    quantised(IMAGES).sum().backward()
    assert model.training
    assert [type(module) for module in model] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d, nn.Conv2d]
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_calibration_leaves_modes_and_batch_norm_alone() -> None:
    quantised = prepare(nn.Sequential(conv(), nn.BatchNorm2d(4), nn.ReLU(), conv(4))).train()
    norm = next(module for module in quantised.modules() if isinstance(module, nn.BatchNorm2d))
    calibrate(quantised, IMAGES)
    assert all(module.initialised for module in activations(quantised))
    assert norm.running_mean is not None
    assert quantised.training
    assert not norm.running_mean.any()


@pytest.mark.parametrize("std", [(0.3,), (0.1, 0.2, 0.6)])
def test_normalisation_is_folded(std: tuple[float, ...]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4)).eval()
    mean = torch.tensor([round(255 * m) / 255 for m in (0.2, 0.5, 0.7)])
    levels = torch.randint(256, (16, 3, 8, 8)).float() / 255
    expected = model((levels - mean.view(1, 3, 1, 1)) / torch.tensor(std).view(1, -1, 1, 1))
    quantised = prepare(model, 8, 8, mean=mean.tolist(), std=std)
    first = next(module for module in quantised.modules() if isinstance(module, QuantConv2d))
    ratio = (sum(std) / len(std) / torch.tensor(std)).view(1, -1, 1, 1)
    assert torch.allclose(first.weight, model[0].weight * ratio, rtol=1e-6)
    calibrate(quantised, levels)
    for module in activations(quantised):
        module.step.data.fill_(0.03)
    assert torch.allclose(quantised(levels), expected, atol=0.06 * float(expected.detach().abs().max()))


def test_input_layer_rounds_clips_and_centres() -> None:
    layer = QuantInput(2, step=0.25, low=0, high=3, mean=(0.25, 0.6), std=0.5)
    raw = torch.tensor([-1.0, 0.124, 0.125, 0.7, 9.0]).view(1, 1, 1, 5).expand(1, 2, 1, 5)
    assert (layer(raw) / layer.scale).tolist() == [[[[-1, -1, 0, 2, 2]], [[-2, -2, -1, 1, 1]]]]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_quantised_is_float32(dtype: torch.dtype) -> None:
    quantised = prepare(nn.Sequential(conv(), nn.BatchNorm2d(4), nn.ReLU(), conv(4)).to(dtype))
    assert quantised(IMAGES).dtype == torch.float32


def test_networks_without_parameters() -> None:
    assert prepare(nn.Sequential(nn.ReLU()))(IMAGES).shape == IMAGES.shape
    assert prepare(nn.Identity())(IMAGES).shape == IMAGES.shape


def test_same_padding_is_kept() -> None:
    assert prepare(nn.Sequential(nn.Conv2d(3, 4, 3, padding="same")))(IMAGES).shape == (4, 4, 8, 8)


# --- prepare: refusals -------------------------------------------------------------------------------------------


class Unsupported(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()
        self.inner = nn.Sequential(nn.Conv2d(4, 4, 1), nn.SiLU(), nn.GroupNorm(2, 4))
        self.table = nn.Parameter(torch.arange(32.0))

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(self.conv(x))
        y = y * y
        y = torch.sigmoid(y) + self.table
        return y[:, :, [1, 0]]


def test_all_problems_are_listed_at_once_with_place_reason_and_fix() -> None:
    error = refused(Unsupported())
    found = {(problem.where.split(" ")[0], problem.what) for problem in error.problems}
    assert {("inner.1", "SiLU is not supported"), ("inner.2", "GroupNorm is not supported")} <= found
    whats = " | ".join(problem.what for problem in error.problems)
    for fragment in ("calls mul()", "calls sigmoid()", "adds a tensor that differs", "moves values between places"):
        assert fragment in whats
    assert all(problem.fix for problem in error.problems)
    lines = [problem.where for problem in error.problems if "mul()" in problem.what or "sigmoid()" in problem.what]
    first = Unsupported.forward.__code__.co_firstlineno
    assert [f"test_quantize.py:{first + 2})" in lines[0], f"test_quantize.py:{first + 3})" in lines[1]] == [True, True]


@pytest.mark.parametrize(
    ("model", "fragment"),
    [
        (Net(lambda n, x: n.c(x) if x.sum() > 0 else x, c=conv()), "control flow"),
        (Net(lambda n, x: (n.c(x), x), c=conv()), "returns several values"),
        (Net(lambda n, x: {"a": n.c(x), "b": x}, c=conv()), "returns several values"),
        (Net(lambda n, x: F.conv2d(x, n.c(x).mean((2, 3))[:1, :3, None, None]), c=conv()), "weight is computed"),
        (Net(lambda n, x: n.c(x)[0], c=conv()), "moves the batch axis"),
        (Net(lambda n, x: n.c(x) + x.size(0), c=conv()), "computes something else"),
        (Net(lambda n, x: torch.cat([n.c(x), x.mT], 1), c=conv()), "moves values between places"),
        (Net(lambda n, x: n.c(x).view(x.size(1), -1), c=conv()), "moves the batch axis"),
        (Net(lambda n, x: n.c(x).mean(1), c=conv()), "mean over axes 1"),
        (Net(lambda n, x: torch.flatten(n.c(x), 2), c=conv()), "moves values between places"),
        (Net(lambda n, x: torch.cat([x, x], 2)), "concatenates along axis 2"),
        (Net(lambda n, x: F.interpolate(x, scale_factor=2, mode="bicubic")), "mode 'bicubic'"),
        (nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"))), "0.0: padding_mode"),
        (nn.Sequential(nn.Conv3d(3, 4, 3)), "Conv3d is not supported"),
        (nn.Sequential(nn.ConvTranspose3d(3, 4, 3)), "ConvTranspose3d is not supported"),
        (nn.Sequential(nn.LSTM(3, 4)), "Recurrent networks need not settle"),
    ],
)
def test_refusals_name_the_reason(model: nn.Module, fragment: str) -> None:
    refused(model, fragment)


def test_two_inputs_are_refused() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y

    refused(Two(), "takes 2 tensors")


def test_unused_unsupported_calls_are_forgiven() -> None:
    def forward(n: Any, x: Tensor) -> Tensor:
        torch.sigmoid(n.c(x)).mean()
        return n.c(x)  # type: ignore[no-any-return]

    assert canonicalise(Net(forward, c=conv()))(IMAGES).shape == (4, 4, 8, 8)


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Flatten(), nn.Linear(192, 2)),
        Net(lambda n, x: n.c(x) + x, c=conv(3, 3)),
        nn.Sequential(nn.MaxPool2d(2), conv()),
    ],
)
def test_std_that_cannot_be_folded_is_refused(model: nn.Module) -> None:
    refused(model, "std", std=(0.1, 0.2, 0.3), input_shape=(3, 8, 8))
    prepare(model, std=(0.2, 0.2, 0.2), input_shape=(3, 8, 8))


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.BatchNorm2d(3), conv()),
        nn.Sequential(nn.AvgPool2d(2), conv()),
        nn.Sequential(conv(3, 3, groups=3)),
    ],
)
def test_std_folds_into_whatever_weights_read_the_image_first(model: nn.Module) -> None:
    mean, std = torch.tensor([0.1, 0.5, 0.9]).view(3, 1, 1), torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)
    quantised = prepare(model, mean=mean.flatten().tolist(), std=std.flatten().tolist()).eval()
    with quantisers_off(quantised):
        assert torch.allclose(quantised(IMAGES), model.eval()((IMAGES - mean) / std), atol=1e-4)


def test_all_wrong_bits_are_listed() -> None:
    with pytest.raises(InputError) as caught:
        prepare(nn.Sequential(conv()), 0, 1, first_bits=9, last_bits="8")  # type: ignore[arg-type]
    assert [problem.where for problem in caught.value.problems] == [
        "bits=0", "weight_bits=1", "first_bits=9", "last_bits='8'"
    ]  # fmt: skip


def test_all_wrong_input_options_are_listed() -> None:
    with pytest.raises(InputError) as caught:
        prepare(nn.Sequential(conv()), mean=(float("nan"),), std=(), input_step=0, input_levels=(3, 3))
    assert len(caught.value.problems) == 4
    with pytest.raises(InputError, match="mean has 2 values, the image 3 channels"):
        prepare(nn.Sequential(conv()), mean=(0.1, 0.2))


# --- networks of the wild ----------------------------------------------------------------------------------------


def zoo(name: str) -> nn.Module:
    options: dict[str, Any] = {"init_weights": False} if name == "googlenet" else {}
    model: nn.Module = getattr(torchvision.models, name)(weights=None, num_classes=7, **options)
    if name == "vgg11_bn":  # its own classifier has 120 million weights
        model.avgpool, model.classifier = nn.AdaptiveAvgPool2d(1), nn.Linear(512, 7)
    return model.eval()


@pytest.mark.parametrize("name", ["resnet18", "vgg11_bn", "googlenet", "densenet121", "mobilenet_v2", "squeezenet1_1"])
def test_torchvision_networks_prepare_and_run(name: str) -> None:
    torch.manual_seed(0)
    model, images = zoo(name), torch.rand(2, 3, 64, 64)
    assert torch.allclose(canonicalise(copy.deepcopy(model))(images), model(images), atol=1e-4)
    quantised = prepare(model, std=(0.229, 0.224, 0.225), mean=(0.485, 0.456, 0.406))
    calibrate(quantised, images)
    assert quantised(images).shape == (2, 7)
    assert all(module.initialised for module in activations(quantised))
    assert torch.isfinite(quantised(images)).all()
