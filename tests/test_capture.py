"""Capture: every spelling is the user's network, or refused by name; and what was prepared trains, keeps, converts."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import prune

from fastsnn_deploy.conversion.convert import convert
from fastsnn_deploy.conversion.trace import trace
from fastsnn_deploy.errors import InputError, LoweringError
from fastsnn_deploy.graph import MaxPool2d, Population, SpikingGraph
from fastsnn_deploy.graph.integer_network import integer_values
from fastsnn_deploy.quantisation import Checkpoint, QuantActivation, QuantConv2d, calibrate, load, prepare, save
from fastsnn_deploy.quantisation.layers import quantisers_off
from fastsnn_deploy.quantisation.moves import Affine, PadSpace, Scale, SelectChannels
from fastsnn_deploy.simulators.integer import integer_logits
from fastsnn_deploy.simulators.reference import simulate
from tests.test_quantize import Net, activations, conv

SHAPE = (3, 8, 8)
IMAGES = (torch.rand(8, *SHAPE, generator=torch.Generator().manual_seed(3)) * 255).round() / 255


def prepared(model: nn.Module, shape: tuple[int, ...] = SHAPE, bits: int = 8, **options: Any) -> Any:
    return prepare(model, bits, 8, input_shape=shape, **options)


def same_with_quantisers_off(model: nn.Module, quantised: nn.Module, images: Tensor = IMAGES) -> None:
    original = model.training
    with torch.no_grad(), quantisers_off(quantised):
        wanted = model.eval()(images.clone())
        got = quantised.eval()(images)
    model.train(original)
    assert torch.allclose(got, wanted, atol=2e-4 * float(wanted.abs().max()))


def graph_of(quantised: Any, folder: Path, shape: tuple[int, ...] = SHAPE) -> SpikingGraph:
    """Saved, loaded and converted."""
    save(Checkpoint(quantised, shape), folder / "model.pt")
    return convert(load(folder / "model.pt"), neurons="graded")


def integers_follow(quantised: Any, folder: Path, images: Tensor = IMAGES) -> SpikingGraph:
    """Calibrated and converted, the integer network answers as the prepared one, and its spikes settle to it."""
    calibrate(quantised, images)
    graph = graph_of(quantised, folder, tuple(images.shape[1:]))
    with torch.no_grad():
        wanted = quantised.eval()(images).numpy().reshape(len(images), -1)
    got = integer_logits(graph, images.numpy()).reshape(wanted.shape)
    assert np.abs(got - wanted).max() <= 0.02 * np.abs(wanted).max()
    assert np.corrcoef(got.ravel(), wanted.ravel())[0, 1] > 0.9999
    encoded = graph.input.encode(images[:2].numpy())
    values, run = integer_values(graph, encoded), simulate(graph, encoded)
    for node in graph.nodes:
        if isinstance(node, (Population, MaxPool2d)) or node.name in graph.outputs:
            assert np.array_equal(run.final(node.name), values[node.name]), node.name
    return graph


# --- spellings ---------------------------------------------------------------------------------------------------


def shuffled(n: Any, x: Tensor) -> Tensor:
    x = F.relu(n.c(x))
    a, b = x.chunk(2, 1)
    x = torch.cat([a, F.relu(n.d(b))], 1)
    x = x.view(x.shape[0], 2, 2, 8, 8).transpose(1, 2).reshape(x.shape[0], 4, 8, 8)
    return n.e(x)  # type: ignore[no-any-return]


def twice(n: Any, x: Tensor) -> Tensor:
    x = F.relu(n.c(x))
    return n.d(F.relu(n.e(F.relu(n.e(x)) + x)))  # type: ignore[no-any-return]


SPELLINGS: dict[str, Callable[[], nn.Module]] = {
    "channel shuffle": lambda: Net(shuffled, c=conv(), d=conv(2, 2), e=conv(4, 5)),
    "split": lambda: Net(
        lambda n, x: (p := F.relu(n.c(x)).split([1, 3], 1), n.d(p[1]) + n.e(p[0]))[-1],
        c=conv(), d=conv(3, 2), e=conv(1, 2),
    ),
    "a slice of channels and a crop": lambda: Net(
        lambda n, x: n.d(F.relu(n.c(x))[:, 1:3, 1:, :-2]), c=conv(), d=conv(2)
    ),
    "every second pixel": lambda: Net(lambda n, x: n.d(F.relu(n.c(x))[:, :, 1::2, ::2]), c=conv(), d=conv(4)),
    "asymmetric pads": lambda: Net(
        lambda n, x: n.d(F.pad(F.relu(n.c(F.pad(x, (0, 1, 0, 1)))), (2, 0, 1, 0))),
        c=nn.Conv2d(3, 4, 2), d=nn.Conv2d(4, 2, 3, 2),
    ),
    "padding='same' with an even kernel": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 2, padding="same"), nn.ReLU(), nn.Conv2d(4, 2, 4, padding="same")
    ),
    "channels of zeros": lambda: Net(
        lambda n, x: (y := F.relu(n.c(x)), n.d(torch.cat([y, torch.zeros(len(y), 2, 8, 8)], 1)))[-1],
        c=conv(), d=conv(6, 2),
    ),
    "height, width, channels": lambda: Net(
        lambda n, x: n.f(F.relu(n.c(x)).permute(0, 2, 3, 1).flatten(1)), c=conv(), f=nn.Linear(256, 4)
    ),
    "one mean after the other": lambda: Net(
        lambda n, x: n.f(F.relu(n.c(x)).mean(3).mean(2)), c=conv(), f=nn.Linear(4, 3)
    ),
    "mean of a flattened map": lambda: Net(
        lambda n, x: n.f(F.relu(n.c(x)).flatten(2).mean(-1)), c=conv(), f=nn.Linear(4, 3)
    ),
    "pool over the whole map": lambda: Net(
        lambda n, x: n.f(F.max_pool2d(F.relu(n.c(x)), x.size()[2:]).squeeze(3).squeeze(2)), c=conv(), f=nn.Linear(4, 3)
    ),
    "amax": lambda: Net(lambda n, x: n.f(F.relu(n.c(x)).amax((2, 3))), c=conv(), f=nn.Linear(4, 3)),
    "sum, sub, alpha": lambda: Net(
        lambda n, x: n.d(F.relu(sum([n.a(x), n.b(x)]) - torch.add(n.c(x), n.b(x), alpha=0.5))),
        a=conv(), b=conv(), c=conv(), d=conv(4),
    ),
    "factors": lambda: Net(
        lambda n, x: n.d(F.relu(n.c(x) * torch.tensor([1.0, -2.0, 0.5, 3.0]).view(4, 1, 1) / 2) * 0.25),
        c=conv(), d=conv(4),
    ),
    "normalisation in forward": lambda: Net(
        lambda n, x: n.d(F.relu(n.c((x - torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1)) / torch.tensor([0.2, 0.3, 0.25]
        ).view(1, 3, 1, 1)))), c=conv(), d=conv(4),
    ),
    "batch norm on the image": lambda: nn.Sequential(settled(nn.BatchNorm2d(3)), conv(), nn.ReLU(), conv(4)),
    "average pool on the image": lambda: nn.Sequential(nn.AvgPool2d(2), conv(), nn.ReLU(), conv(4)),
    "image beside features": lambda: Net(lambda n, x: n.d(torch.cat([x, F.relu(n.c(x))], 1)), c=conv(), d=conv(7)),
    "image beside features, flattened": lambda: Net(
        lambda n, x: n.f(torch.cat([x, F.relu6(n.c(x))], 1).flatten(1)), c=conv(), f=nn.Linear(448, 3)
    ),
    "clips beside ReLU": lambda: Net(
        lambda n, x: n.d(torch.cat([F.relu(n.c(x)), n.c(x).clamp(0, 0.3), F.hardtanh(n.c(x), 0, 1)], 1)),
        c=conv(), d=conv(12),
    ),
    "clamp from below": lambda: Net(lambda n, x: n.d(n.c(x).clamp(min=0)), c=conv(), d=conv(4)),
    "a layer called twice": lambda: Net(twice, c=conv(), d=conv(4), e=conv(4, 4)),
    "weights shared by two layers": lambda: shared_weights(),
    "addmm": lambda: Net(lambda n, x: torch.addmm(n.f.bias, x.flatten(1), n.f.weight.t()), f=nn.Linear(192, 3)),
    "linear, batch norm": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(192, 6), settled(nn.BatchNorm1d(6)), nn.ReLU(), nn.Linear(6, 3)
    ),
    "upsampled to a size": lambda: Net(
        lambda n, x: n.d(F.interpolate(F.relu(n.c(x)), size=(16, 24))), c=conv(), d=conv(4)
    ),
    "in place, read again through Identity": lambda: Net(
        lambda n, x: (x := n.c(x), y := n.i(x), n.d(n.r(x)) + y)[-1],
        c=conv(), d=conv(4), i=nn.Identity(), r=nn.ReLU(inplace=True),
    ),
    "in place, read again through dropout": lambda: Net(
        lambda n, x: (x := n.c(x), y := n.i(x), n.d(n.r(x)) + y)[-1],
        c=conv(), d=conv(4), i=nn.Dropout(), r=nn.ReLU(inplace=True),
    ),
    "in place, read again through a view": lambda: Net(
        lambda n, x: (x := n.c(x), y := x.view(len(x), -1), F.relu_(x), n.f(y))[-1], c=conv(), f=nn.Linear(256, 3)
    ),
    "in place on a part": lambda: Net(
        lambda n, x: (x := F.relu(n.c(x)), y := x[:, :2], y.mul_(0.5), n.d(x))[-1], c=conv(), d=conv(4)
    ),
    "added in place to what is read later": lambda: Net(
        lambda n, x: (y := F.relu(n.c(x)), z := n.d(y), y.add_(z), F.relu(y) + z)[-1], c=conv(), d=conv(4)
    ),
    "default arguments and asserts": lambda: Asserting(),
}  # fmt: skip


def settled(norm: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    size = norm.num_features
    with torch.no_grad():
        norm.running_mean.copy_(torch.rand(size, generator=generator))  # type: ignore[operator]
        norm.running_var.copy_(torch.rand(size, generator=generator) + 0.1)  # type: ignore[operator]
        norm.weight.copy_(torch.randn(size, generator=generator))
        norm.bias.copy_(torch.randn(size, generator=generator))
    return norm


def shared_weights() -> nn.Module:
    model = nn.Sequential(conv(3, 4), nn.ReLU(), conv(4, 4), nn.ReLU(), conv(4, 4))
    model[4].weight = model[2].weight
    return model


class Asserting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c, self.d = conv(), conv(4)

    def forward(self, x: Tensor, features: bool = False, *, scale: float = 0.5) -> Any:
        assert x.dim() == 4
        assert x.shape[2] == x.shape[3]
        y = F.relu(self.c(x)) * scale
        return (y, self.d(y)) if features else self.d(y)


@pytest.mark.parametrize("name", SPELLINGS)
def test_every_spelling_is_the_network(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = SPELLINGS[name]()
    quantised = prepared(model)
    same_with_quantisers_off(model, quantised)
    integers_follow(quantised, tmp_path)


@pytest.mark.parametrize(
    "name", ["channel shuffle", "clips beside ReLU", "a layer called twice", "image beside features"]
)
@pytest.mark.parametrize("activation", ["lsq", "clip", "qcfs"])
def test_whatever_is_prepared_trains(name: str, activation: str) -> None:
    torch.manual_seed(0)
    quantised = prepared(SPELLINGS[name](), bits=3, activation=activation).train()
    optimiser = torch.optim.SGD(quantised.parameters(), lr=0.05)
    losses = []
    for _ in range(4):
        loss = (quantised(IMAGES) - 1).square().mean()
        losses.append(float(loss.detach()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < losses[0]


# --- the model's own arithmetic ------------------------------------------------------------------------------------


def test_hooks_are_part_of_the_network() -> None:
    for where in ("c", "", "pre"):
        model = Net(lambda n, x: n.d(F.relu(n.c(x))), c=conv(), d=conv(4))
        if where == "pre":
            model.d.register_forward_pre_hook(lambda module, args: (args[0] * 0.5,))
        else:
            model.get_submodule(where).register_forward_hook(lambda module, args, out: out * 2.0 - 0.3)
        same_with_quantisers_off(model, prepared(model))


def test_capture_is_of_evaluation_mode_and_leaves_modes() -> None:
    def forward(n: Any, x: Tensor) -> Tensor:
        x = F.relu(n.b(n.c(x)))
        return n.d(x * 0.1 + 3 if n.training else x)  # type: ignore[no-any-return]

    model = Net(forward, c=conv(), b=nn.BatchNorm2d(4), d=conv(4)).train()
    model.b.eval()
    quantised = prepared(model)
    assert model.training
    assert not model.b.training
    assert quantised.training
    assert not quantised.get_submodule("b").training
    same_with_quantisers_off(model, quantised)


def test_dropout_survives_operations_in_place() -> None:
    model = nn.Sequential(conv(), nn.ReLU(True), nn.Dropout(0.3), nn.Dropout2d(0.2), conv(4), nn.ReLU(True), conv(4))
    quantised = prepared(model)
    assert [m.p for m in quantised.modules() if isinstance(m, (nn.Dropout, nn.Dropout2d))] == [0.3, 0.2]
    calibrate(quantised, IMAGES)
    assert not torch.equal(quantised.train()(IMAGES), quantised(IMAGES))


def test_old_reparametrisations_have_their_present_weights() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        normed = nn.utils.weight_norm(conv(4))
    normed.weight_g.data.mul_(3)
    spectral = nn.utils.spectral_norm(conv(4))
    pruned = conv(4)
    prune.l1_unstructured(pruned, "weight", 0.5)
    pruned.weight_orig.data.add_(1)
    for layer in (normed, spectral, pruned, nn.utils.parametrizations.weight_norm(conv(4))):
        model = nn.Sequential(conv(), nn.ReLU(), layer)
        same_with_quantisers_off(model, prepared(model))


def test_buffers_that_change_are_refused_if_the_answer_depends_on_them() -> None:
    class Counting(nn.Module):
        def __init__(self, used: bool) -> None:
            super().__init__()
            self.c, self.used = conv(), used
            self.register_buffer("calls", torch.ones(1))

        def forward(self, x: Tensor) -> Tensor:
            self.calls.add_(1)  # type: ignore[operator]
            return self.c(x * self.calls if self.used else x)  # type: ignore[no-any-return]

    prepared(Counting(False))
    with pytest.raises(LoweringError, match="changes a buffer"):
        prepared(Counting(True))


def test_what_capture_gets_wrong_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that forgets something must not get through."""
    from fastsnn_deploy.quantisation import exported

    monkeypatch.setitem(exported.ATEN_RULES, "hardtanh", exported.ATEN_RULES["relu"])
    with pytest.raises(LoweringError, match=r"r: computes something else|r \(.*computes something else"):
        prepared(Net(lambda n, x: n.d(n.r(n.c(x) * 9)), c=conv(), d=conv(4), r=nn.ReLU6()))


# --- grids -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["lsq", "clip", "qcfs"])
def test_clips_are_ceilings(activation: str) -> None:
    model = Net(lambda n, x: n.d(F.relu6(n.c(x))), c=conv(), d=conv(4))
    model.c.weight.data.mul_(200)
    quantised = prepared(model, bits=3, activation=activation)
    calibrate(quantised, IMAGES)
    (act,) = activations(quantised)
    assert float(act.step_in_use() * act.high) == pytest.approx(6, rel=1e-6)
    assert float(act(torch.tensor([[1e6]])).detach()) == pytest.approx(6, rel=1e-6)
    act.learned.data.mul_(100)
    assert float(act.step_in_use() * act.high) == pytest.approx(6, rel=1e-6)
    act.learned.data.mul_(1e-4)
    assert float(act.step_in_use() * act.high) < 1


def test_the_first_weighted_layer_is_the_first_layer() -> None:
    model = nn.Sequential(settled(nn.BatchNorm2d(3)), nn.AvgPool2d(2), conv(), nn.ReLU(), conv(4), nn.ReLU(), conv(4))
    quantised = prepared(model, bits=2)
    layers = [m for m in quantised.modules() if isinstance(m, QuantConv2d)]
    assert [m.weight_bits for m in layers] == [8, 8, 8]
    quantised = prepare(model, 2, 3, first_bits=7, last_bits=6)
    layers = [m for m in quantised.modules() if isinstance(m, QuantConv2d)]
    assert [m.weight_bits for m in layers] == [7, 3, 6]
    assert len(activations(quantised)) == 2


def test_tied_steps_hold_the_largest_branch() -> None:
    def forward(n: Any, x: Tensor) -> Tensor:
        return n.d(torch.cat([F.relu(n.a(x)), F.relu(n.b(x))], 1))  # type: ignore[no-any-return]

    torch.manual_seed(0)
    model = Net(forward, a=conv(), b=conv(), d=conv(8))
    model.a.weight.data.mul_(50)
    alone = []
    for keep in ("a", "b"):
        single = Net(
            lambda n, x, keep=keep: n.d(F.relu(n.get_submodule(keep)(x))), d=conv(4), **{keep: getattr(model, keep)}
        )
        one = prepared(single)
        calibrate(one, IMAGES)
        alone.append(float(activations(one)[0].step_in_use()))
    for order in (("a", "b"), ("b", "a")):
        swapped = Net(lambda n, x, order=order: n.d(torch.cat([F.relu(n.get_submodule(k)(x)) for k in order], 1)),
                      a=model.a, b=model.b, d=model.d)  # fmt: skip
        quantised = prepared(swapped)
        calibrate(quantised, IMAGES)
        assert [float(a.step_in_use()) for a in activations(quantised)] == [max(alone)] * 2


def test_data_in_microvolts_give_the_same_integers(tmp_path: Path) -> None:
    graphs = []
    for power in (0, -20, 12):
        torch.manual_seed(0)
        model = nn.Sequential(conv(bias=False), nn.ReLU(), conv(4, 4, bias=False), nn.ReLU(), conv(4, bias=False))
        factor = 2.0**power
        quantised = prepared(model, input_step=factor / 255, bits=3)
        calibrate(quantised, IMAGES * factor)
        graphs.append(graph_of(quantised, tmp_path))
    for graph in graphs[1:]:
        for first, other in zip(graphs[0].nodes, graph.nodes, strict=True):
            for field in ("weight", "threshold", "bias", "exponent"):
                if hasattr(first, field):
                    assert np.array_equal(getattr(first, field), getattr(other, field)), (first.name, field)


def test_calibration_says_what_it_cannot_use_and_can_be_repeated() -> None:
    quantised = prepared(nn.Sequential(conv(), nn.ReLU(), conv(4)))
    for images, what in (
        (torch.zeros(4, *SHAPE), "constant"), (IMAGES * 255, "outside"), (IMAGES - 0.5, "outside"),
        (IMAGES * float("nan"), "NaN"), (IMAGES[:0], "no images"), (IMAGES.permute(0, 2, 3, 1), "channels first"),

    ):  # fmt: skip
        with pytest.raises(InputError, match=what):
            calibrate(quantised, images)  # type: ignore[arg-type]
        assert not any(a.initialised for a in activations(quantised))
    calibrate(quantised, IMAGES * 0.1)
    before = [float(a.step_in_use()) for a in activations(quantised)]
    calibrate(quantised, (IMAGES * 255).to(torch.uint8).numpy())
    assert all(float(a.step_in_use()) > 2 * b for a, b in zip(activations(quantised), before, strict=True))


# --- what is written is what was meant -----------------------------------------------------------------------------


def test_any_module_name_survives(tmp_path: Path) -> None:
    names = ["conv-1", "relu/1", "a b", "class", "graph", "meta", "training", "self", "image", "café", "import:os"]
    with warnings.catch_warnings():
        model: Any = nn.Sequential()
        for i, name in enumerate(names):
            layer = nn.ReLU() if i % 2 else conv(3 if i == 0 else 4)
            if name == "training":
                name = "forward_"
            model.add_module(name, layer)
    quantised = prepared(model)
    graph = integers_follow(quantised, tmp_path)
    assert {"conv-1", "a b", "graph", "café"} <= {node.module for node in graph.nodes}
    assert prepared(model, weight_bits_by_layer={"a b": 3}).get_submodule("a_b").weight_bits == 3


def test_only_the_shape_whose_sizes_are_built_in_is_taken(tmp_path: Path) -> None:
    def forward(n: Any, x: Tensor) -> Tensor:
        return n.d(F.max_pool2d(F.relu(n.c(x)), x.shape[2] // 4))  # type: ignore[no-any-return]

    quantised = prepared(Net(forward, c=conv(), d=conv(4)))
    calibrate(quantised, IMAGES)
    for use in (
        lambda: trace(quantised, (3, 16, 16)),
        lambda: save(Checkpoint(quantised, (3, 16, 16)), tmp_path / "m.pt"),
    ):
        with pytest.raises(InputError, match="prepared for images of shape"):
            use()
    trace(quantised, SHAPE)
    anywhere = prepared(nn.Sequential(conv(), nn.ReLU(), conv(4)))
    calibrate(anywhere, IMAGES)
    trace(anywhere, (3, 16, 16))


def test_what_the_user_set_stays() -> None:
    model = nn.Sequential(conv(), nn.BatchNorm2d(4), nn.ReLU(), conv(4)).train()
    model[0].weight.requires_grad_(False)
    model[1].bias.requires_grad_(False)
    quantised = prepared(model)
    frozen = {name for name, p in quantised.named_parameters() if not p.requires_grad}
    assert frozen == {"_0.weight", "_1.bias"} or frozen == {"0.weight", "1.bias"}
    assert [p.requires_grad for p in model.parameters()] == [False, True, True, False, True, True]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_floating_point_network_becomes_float32(dtype: torch.dtype) -> None:
    quantised = prepared(nn.Sequential(conv(), nn.BatchNorm2d(4), nn.ReLU(), conv(4)).to(dtype))
    assert {t.dtype for t in quantised.state_dict().values() if t.is_floating_point()} == {torch.float32}
    torch.set_default_dtype(torch.float64)
    try:
        quantised = prepared(nn.Sequential(conv(), nn.ReLU(), conv(4)))
    finally:
        torch.set_default_dtype(torch.float32)
    assert {t.dtype for t in quantised.state_dict().values() if t.is_floating_point()} == {torch.float32}


# --- refusals --------------------------------------------------------------------------------------------------------


REFUSED: list[tuple[Callable[[], nn.Module], str]] = [
    (lambda: nn.Sequential(conv(), nn.AvgPool2d(3, 2, 0, True, True, 2)), "1: average pool with ceil_mode"),
    (lambda: nn.Sequential(conv(), nn.Upsample(scale_factor=1.5)), "1: upsample"),
    (lambda: nn.Sequential(conv(), nn.BatchNorm2d(4, track_running_stats=False)), "1: batch norm without running"),
    (lambda: nn.Sequential(conv(), nn.Hardtanh()), "1: clips to -1"),
    (lambda: nn.Sequential(conv(), nn.ConstantPad2d(1, 3.0)), "1: pads with 3"),
    (lambda: nn.Sequential(conv(), nn.LeakyReLU()), "1: LeakyReLU is not supported. Use ReLU"),
    (lambda: Net(lambda n, x: F.dropout(n.c(x), 0.5, True), c=conv()), "drops values in evaluation mode"),
    (lambda: Net(lambda n, x: n.c(x) * n.c(x), c=conv()), "calls mul()"),
    (lambda: Net(lambda n, x: n.c(x) + torch.arange(8.0), c=conv()), "differs between places"),
    (lambda: Net(lambda n, x: n.c(x).transpose(0, 1), c=conv()), "batch"),
    (lambda: Net(lambda n, x: n.c(x).flip(3), c=conv()), "moves values between places"),
]  # fmt: skip


@pytest.mark.parametrize(("build", "what"), REFUSED, ids=[what for _, what in REFUSED])
def test_refusals_come_first_and_name_the_place(build: Callable[[], nn.Module], what: str) -> None:
    with pytest.raises(LoweringError) as caught:
        prepared(build())
    assert what in str(caught.value)
    assert all(problem.where for problem in caught.value.problems)


def test_all_problems_at_once_and_one_cause_once() -> None:
    model = nn.Sequential(
        *[layer for _ in range(9) for layer in (conv(3, 3), nn.SiLU())], nn.GroupNorm(1, 3), nn.Softmax(1)
    )
    with pytest.raises(LoweringError) as caught:
        prepared(model)
    assert [problem.what for problem in caught.value.problems] == [
        "SiLU is not supported", "GroupNorm is not supported", "Softmax is not supported"
    ]  # fmt: skip
    assert caught.value.problems[0].where == "9 places, first 1"


@pytest.mark.parametrize(
    ("model", "what"),
    [
        ({"0.weight": torch.ones(1)}, "takes a torch.nn.Module, not a dict"),
        (nn.Linear(3, 3, device="meta"), "meta device"),
        (nn.Linear(3, 3, dtype=torch.complex64), "complex64"),
        (nn.LazyLinear(3), "no shape yet"),
    ],
)
def test_what_is_no_float_network_is_refused(model: Any, what: str) -> None:
    with pytest.raises(InputError, match=what):
        prepare(model)


def test_a_shape_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match=r"shape \(4, 8, 8\) does not pass"):
        prepare(nn.Sequential(conv()), input_shape=(4, 8, 8))


# --- layers that move ------------------------------------------------------------------------------------------------


def test_layers_that_move() -> None:
    x = torch.randn(2, 3, 4, 5)
    assert torch.equal(SelectChannels([2, -1, 0])(x), torch.stack([x[:, 2], x[:, 0] * 0, x[:, 0]], 1))
    assert torch.equal(PadSpace(1, -2, 0, 3)(x), F.pad(x, (1, -2, 0, 3)))
    assert torch.equal(Scale(0.5)(x), x * 0.5)
    affine = Affine(3)
    affine.weight.data.copy_(torch.tensor([1.0, 2.0, -1.0]))
    affine.bias.data.fill_(1)
    assert torch.equal(affine(x)[:, 1], x[:, 1] * 2 + 1)
    for wrong in (lambda: SelectChannels([]), lambda: SelectChannels([-2]), lambda: Scale(0.0)):
        with pytest.raises(ValueError, match=r"channels|positive"):
            wrong()


def test_a_limited_activation_cannot_be_signed() -> None:
    with pytest.raises(ValueError, match="unsigned"):
        QuantActivation(3, signed=True, limit=6)
    assert copy.deepcopy(QuantActivation(3, limit=6)).config()["limit"] == 6
