"""Quantisers: values and gradients against the papers' neurons, integers equal to the floats that training sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fastsnn_deploy.conversion.lower import lower
from fastsnn_deploy.conversion.trace import trace
from fastsnn_deploy.errors import InputError, LoweringError
from fastsnn_deploy.graph import Population
from fastsnn_deploy.graph.integer_network import integer_values
from fastsnn_deploy.quantisation import (
    Checkpoint,
    QuantActivation,
    QuantConv2d,
    QuantLinear,
    calibrate,
    load,
    prepare,
    save,
)
from fastsnn_deploy.quantisation.bit_plan import set_bits
from fastsnn_deploy.quantisation.known_modules import construct, describe
from fastsnn_deploy.quantisation.quantisers import ACTIVATION_QUANTISERS, WEIGHT_QUANTISERS
from fastsnn_deploy.quantisation.quantisers.apot import LEVELS
from fastsnn_deploy.simulators.reference import simulate

GENERATOR = torch.Generator().manual_seed(0)


def activation(quantiser: str, levels: int, learned: float, signed: bool = False) -> QuantActivation:
    layer = QuantActivation(levels.bit_length(), signed, quantiser, levels)
    layer.initialised.fill_(True)
    with torch.no_grad():
        layer.learned.fill_(learned)
    return layer


class Net(nn.Module):
    """A stem, a residual block with batch norm, a max pool, a concatenation and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.conv = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.side = nn.Conv2d(6, 4, 1)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.classifier = nn.Linear(10 * 9, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.stem(x))
        x = self.relu(self.norm(self.conv(x)) + x)
        x = torch.cat([self.pool(x), self.pool(self.relu(self.side(x)))], 1)
        return self.classifier(torch.flatten(x, 1))  # type: ignore[no-any-return]


IMAGES = torch.rand(16, 3, 6, 6, generator=GENERATOR)


def quantised_of(seed: int = 0, **options: Any) -> Any:
    torch.manual_seed(seed)
    quantised = prepare(Net().eval(), input_shape=(3, 6, 6), **options)
    calibrate(quantised, IMAGES)
    return quantised.eval()


# --- activations -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [1, 3, 4, 8, 15, 100, 255])
@pytest.mark.parametrize("quantiser", ["clip", "qcfs"])
def test_learned_clip_is_the_official_function_with_its_gradients(quantiser: str, levels: int) -> None:
    alpha = 1.7
    layer = activation(quantiser, levels, alpha)
    x = (2 * torch.randn(2000, generator=GENERATOR)).requires_grad_()
    upstream = torch.randn(2000, generator=GENERATOR)
    result = layer(x)
    (result * upstream).sum().backward()
    scaled = x.detach() / alpha
    q = torch.floor(scaled.clamp(0, 1) * levels + 0.5) / levels
    assert torch.allclose(result, q * alpha, atol=1e-5)
    assert torch.allclose(x.grad, upstream * ((scaled >= 0) & (scaled <= 1)))  # type: ignore[arg-type]
    to_alpha = torch.where(scaled > 1, 1.0, torch.where(scaled < 0, 0.0, q - scaled))
    assert torch.allclose(layer.learned.grad, (to_alpha * upstream).sum(), rtol=1e-3, atol=1e-3)  # type: ignore[arg-type]
    counts = result.detach() / layer.step_in_use()
    assert set(counts.round().int().tolist()) <= set(range(levels + 1))


@pytest.mark.parametrize("quantiser", list(ACTIVATION_QUANTISERS))
def test_ties_round_up_or_as_the_quantiser_says(quantiser: str) -> None:
    rule = ACTIVATION_QUANTISERS[quantiser]
    layer = activation(quantiser, 4, 1.0 if rule.parameter == "step" else 4.0)
    wanted = [0, 0, 2, 2, 4, 4] if rule.even else [0, 0, 1, 2, 3, 4] if rule.shift else [0, 1, 2, 3, 4, 4]
    assert layer(torch.tensor([[-0.5, 0.5, 1.5, 2.5, 3.5, 9.0]])).tolist() == [wanted]


@pytest.mark.parametrize("quantiser", list(ACTIVATION_QUANTISERS))
@pytest.mark.parametrize(("levels", "low", "high"), [(3, -2, 1), (4, -2, 2), (15, -8, 7), (255, -128, 127)])
def test_signed_grids_share_the_step_of_unsigned_ones(quantiser: str, levels: int, low: int, high: int) -> None:
    layer = activation(quantiser, levels, 1.3, signed=True)
    assert (layer.low, layer.high) == (low, high)
    other = activation(quantiser, levels, 0.1)
    other.share(layer)
    assert other.step_in_use() == layer.step_in_use()
    assert other.learned is layer.learned


@pytest.mark.parametrize("quantiser", list(ACTIVATION_QUANTISERS))
def test_first_batch_sets_the_same_step(quantiser: str) -> None:
    x = torch.rand(8, 50, generator=torch.Generator().manual_seed(3))
    layer = QuantActivation(2, quantiser=quantiser)
    layer(x)
    assert layer.initialised
    assert layer.step_in_use().item() == pytest.approx(float(2 * x.mean() / 3**0.5))


@pytest.mark.parametrize("quantiser", list(ACTIVATION_QUANTISERS))
@pytest.mark.parametrize("learned", [-1.0, 0.0, 1e-12])
def test_step_stays_positive(quantiser: str, learned: float) -> None:
    layer = activation(quantiser, 3, learned)
    assert layer.step_in_use() > 0
    assert torch.isfinite(layer(IMAGES)).all()


# --- weights -----------------------------------------------------------------------------------------------------


def layers(quantiser: str, bits: int) -> list[QuantConv2d | QuantLinear]:
    torch.manual_seed(bits)
    return [
        QuantConv2d(6, 8, 3, groups=2, weight_bits=bits, quantiser=quantiser),
        QuantLinear(40, 5, weight_bits=bits, quantiser=quantiser),
    ]


GRIDS = [
    (name, bits) for name, rule in WEIGHT_QUANTISERS.items() for bits in range(rule.lowest_bits, rule.highest_bits + 1)
]


@pytest.mark.parametrize(("quantiser", "bits"), GRIDS)
def test_integers_times_scale_are_the_trained_weights(quantiser: str, bits: int) -> None:
    for layer in layers(quantiser, bits):
        whole, scale = layer.integer_weight()
        assert whole.dtype == torch.int8
        assert scale.shape == (len(layer.weight),)
        assert int(whole.abs().max()) <= 127
        product = whole.double() * scale.view(-1, *[1] * (whole.dim() - 1))
        assert torch.equal(product.float(), layer.quantised_weight().detach())


def official_apot(bits: int) -> list[float]:
    """Magnitudes of `build_power_value(bits - 1)` of the official neurons, as fractions of the largest."""
    a, b, c = [0.0], [0.0], [0.0]
    if bits == 3:
        a += [2.0 ** (-i - 1) for i in range(3)]
    elif bits == 4:
        a += [2.0**-1, 2.0**-2, 2.0**-4]
        b += [2.0**-3]
    elif bits == 5:
        a += [2.0 ** (-2 * i - 1) for i in range(3)]
        b += [2.0 ** (-2 * i - 2) for i in range(3)]
    elif bits == 6:
        a += [2.0**-1, 2.0**-3, 2.0**-6]
        b += [2.0**-2, 2.0**-4, 2.0**-7]
        c += [2.0**-5]
    values = sorted({x + y + z for x in a for y in b for z in c})
    return [value / values[-1] for value in values]


@pytest.mark.parametrize("bits", [3, 4, 5, 6])
def test_apot_levels_are_the_official_ones_as_whole_numbers(bits: int) -> None:
    grid = np.array(LEVELS[bits])
    assert len(grid) == 2**bits - 1
    assert grid[-1] <= 127
    assert np.allclose(grid[grid >= 0] / grid[-1], official_apot(bits))
    assert np.array_equal(grid, -grid[::-1])


def test_two_bits_are_ternary() -> None:
    assert LEVELS[2] == (-1, 0, 1)


@pytest.mark.parametrize("bits", sorted(LEVELS))
def test_apot_projects_to_the_nearest_level_with_the_official_gradients(bits: int) -> None:
    layer = QuantLinear(300, 4, weight_bits=bits, quantiser="apot")
    with torch.no_grad():
        layer.weight.copy_(0.2 + torch.randn(4, 300, generator=GENERATOR))
        layer.weight_alpha.fill_(1.5)
    upstream = torch.randn(4, 300, generator=GENERATOR)
    result = layer.quantised_weight()
    (result * upstream).sum().backward()
    w = layer.weight.detach()
    std = w.std()
    x = (w - w.mean()) / std / 1.5
    grid = torch.tensor(LEVELS[bits]) / LEVELS[bits][-1]
    q = grid[(x.unsqueeze(-1) - grid).abs().argmin(-1)]
    assert torch.allclose(result.detach(), q * 1.5 * std, atol=1e-5)
    assert torch.allclose(layer.weight.grad, upstream)  # type: ignore[arg-type]
    to_alpha = torch.where(x.abs() > 1, x.sign(), q - x)
    expected = (upstream * to_alpha).sum() * std
    assert torch.allclose(layer.weight_alpha.grad, expected.view(1), rtol=1e-3, atol=1e-3)


def test_apot_keeps_its_clip_through_other_bits_and_uniform_searches_anew() -> None:
    layer = layers("apot", 4)[0]
    with torch.no_grad():
        layer.weight_alpha.fill_(2.25)
    layer.set_weight_bits(3)
    assert (layer.weight_bits, layer.weight_alpha.item()) == (3, 2.25)
    uniform = layers("uniform", 4)[0]
    before = uniform.weight_step.clone()
    uniform.set_weight_bits(2)
    assert (uniform.weight_step > before).all()


def test_absmax_never_leaves_its_bits_and_passes_gradients_on() -> None:
    layer = QuantLinear(6, 1, weight_bits=8, quantiser="absmax")
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[-2.0, 1.0, 0.5, 0.0, -1.0, 0.25]]))
    whole, scale = layer.integer_weight()
    assert whole.tolist() == [[-127, 64, 32, 0, -63, 16]]
    assert scale.tolist() == pytest.approx([2 / 127])
    layer.quantised_weight().sum().backward()
    assert layer.weight.grad.tolist() == [[1.0] * 6]  # type: ignore[union-attr]
    assert not [name for name, _ in layer.named_parameters() if name.startswith("weight_")]


@pytest.mark.parametrize("quantiser", list(WEIGHT_QUANTISERS))
@pytest.mark.parametrize("fill", [0.0, 1.0])
def test_constant_weights_stay_finite(quantiser: str, fill: float) -> None:
    for layer in (QuantLinear(3, 2, weight_bits=4, quantiser=quantiser), QuantLinear(1, 1, quantiser="uniform")):
        nn.init.constant_(layer.weight, fill)
        layer.reset_weight_step()
        assert torch.isfinite(layer.quantised_weight()).all()
        assert torch.isfinite(layer.integer_weight()[1]).all()


# --- layers, checkpoints, lowering -------------------------------------------------------------------------------


def counts_of(quantised: Any) -> dict[str, np.ndarray]:
    """The integers of every activation of a quantised model, by node name."""
    names = {str(node.target): node.name for node in quantised.graph.nodes}
    found: dict[str, np.ndarray] = {}
    for path, module in quantised.named_modules():
        if isinstance(module, QuantActivation):
            module.register_forward_hook(
                lambda layer, _, result, name=names[path]: found.update(
                    {name: (result / layer.step_in_use()).round().detach().numpy()}
                )
            )
    quantised(IMAGES)
    return found


COMBINATIONS = [(a, w) for a in ACTIVATION_QUANTISERS for w in ("uniform", "apot")]


def exact(quantised: Any, neurons: str = "unary") -> Any:
    """Lower, and require that the run settles to the integer network; return graph and values."""
    graph = lower(trace(quantised, (3, 6, 6)), neurons=neurons)
    emitted = graph.input.encode(IMAGES.numpy())
    values, run = integer_values(graph, emitted), simulate(graph, emitted)
    for node in graph.populations:
        assert np.array_equal(run.counts[node.name][-1], values[node.name])
    return graph, values


@pytest.mark.parametrize(("activation_name", "weight"), COMBINATIONS)
def test_quantiseds_of_all_quantisers_lower_to_their_integers(activation_name: str, weight: str) -> None:
    quantised = quantised_of(bits=3, weight_bits=4, activation=activation_name, weight=weight)
    graph, values = exact(quantised)
    steps = [module.step_in_use() for module in quantised.modules() if isinstance(module, QuantActivation)]
    assert len({float(step) for step in steps}) == 2  # those that meet in the concatenation share one
    for name, counts in counts_of(quantised).items():
        assert np.mean(values[name] != counts) < 0.02, name  # rounded thresholds move a count now and then
    assert np.abs(graph[graph.outputs[0]].scale).min() > 0


@pytest.mark.parametrize(("activation_name", "weight"), COMBINATIONS)
def test_checkpoints_keep_quantisers(activation_name: str, weight: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"levels": 4} if activation_name == "qcfs" else {"bits": 2}
    quantised = quantised_of(activation=activation_name, weight=weight, **options)
    save(Checkpoint(quantised, (3, 6, 6)), tmp_path / "model.pt")
    read = load(tmp_path / "model.pt").model.eval()
    assert torch.equal(read(IMAGES), quantised(IMAGES))
    found = [m for m in read.modules() if isinstance(m, QuantActivation)]
    assert {(m.quantiser, m.levels) for m in found} == {(activation_name, options.get("levels", 3))}
    assert found[1].learned is found[2].learned
    assert {m.quantiser for m in read.modules() if isinstance(m, (QuantConv2d, QuantLinear))} == {
        weight, WEIGHT_QUANTISERS[weight].ends
    }  # fmt: skip


def test_descriptions_without_quantisers_are_those_of_the_first_format() -> None:
    for layer in (QuantActivation(3, True), QuantConv2d(2, 3, 3, weight_bits=4), QuantLinear(2, 3)):
        description = describe(layer)
        for key in ("quantiser", "levels"):
            description["config"].pop(key, None)
        again = construct(description)
        assert describe(again) == describe(layer)
        assert again.state_dict().keys() == layer.state_dict().keys()
    assert set(QuantActivation(2).state_dict()) == {"step", "initialised"}
    assert set(QuantLinear(2, 3).state_dict()) == {"weight", "bias", "weight_step"}


def test_unknown_quantisers_and_impossible_grids_are_refused() -> None:
    with pytest.raises(ValueError, match="not one of"):
        QuantActivation(2, quantiser="pact")
    with pytest.raises(ValueError, match="not one of"):
        QuantLinear(2, 2, quantiser="dorefa")
    with pytest.raises(ValueError, match="2 to 6 bits"):
        QuantLinear(2, 2, weight_bits=7, quantiser="apot")
    for levels in (0, 4, 2.0):
        with pytest.raises(ValueError, match="levels"):
            QuantActivation(2, levels=levels)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="cannot share"):
        QuantActivation(2).share(QuantActivation(2, quantiser="clip"))


# --- bits by layer, spiking outputs ------------------------------------------------------------------------------


def test_bits_by_layer_follow_patterns_and_survive_other_stages() -> None:
    chosen = {"bits_by_layer": {"rel*": 4, "relu": 1}, "weight_bits_by_layer": {"conv": 2, "classifier": 5}}
    quantised = quantised_of(bits=2, weight_bits=3, **chosen)
    assert [m.bits for m in quantised.modules() if isinstance(m, QuantActivation)] == [4, 4, 4]
    assert [quantised.get_submodule(name).weight_bits for name in ("stem", "conv", "side", "classifier")] == [
        8,
        2,
        3,
        5,
    ]
    set_bits(quantised, 3, 4)
    assert [quantised.get_submodule(name).weight_bits for name in ("stem", "conv", "side", "classifier")] == [
        8,
        4,
        4,
        5,
    ]
    assert [m.bits for m in quantised.modules() if isinstance(m, QuantActivation)] == [3, 3, 3]


def test_patterns_that_match_nothing_and_impossible_plans_are_listed() -> None:
    with pytest.raises(InputError, match=r"bits_by_layer 'layer1.\*': matches no layer. Layers there: relu") as caught:
        prepare(Net(), input_shape=(3, 6, 6), bits_by_layer={"layer1.*": 2}, weight_bits_by_layer={"convolution": 2})
    assert len(caught.value.problems) == 2
    with pytest.raises(InputError) as caught:
        prepare(
            Net(),
            input_shape=(3, 6, 6),
            levels=256,
            output_bits=0,
            weight_bits=7,
            weight="apot",
            bits_by_layer={"relu": 9},
        )
    assert len(caught.value.problems) == 4
    with pytest.raises(InputError, match="activation='pact'"):
        prepare(Net(), activation="pact")


@pytest.mark.parametrize(("signed", "low", "high"), [(False, 0, 7), (True, -4, 3)])
@pytest.mark.parametrize("neurons", ["unary", "graded"])
def test_a_spiking_output_has_bits_of_its_own(signed: bool, low: int, high: int, neurons: str) -> None:
    quantised = quantised_of(bits=2, output_bits=3, output_signed=signed, last_bits=6)
    graph, values = exact(quantised, neurons)
    (output,) = (graph[name] for name in graph.outputs)
    assert isinstance(output, Population)
    assert (output.floor, output.ceiling) == (low, high)
    assert {node.ceiling for node in graph.populations} == {3, high}
    answer = values[output.name] * output.scale
    assert np.mean(answer.argmax(1) == quantised(IMAGES).argmax(1).numpy()) > 0.9
    set_bits(quantised, 1, 2)
    assert quantised.get_submodule("spiking_output").bits == 3
    assert quantised.get_submodule("classifier").weight_bits == 6


def test_an_output_that_spikes_already_is_refused() -> None:
    with pytest.raises(LoweringError, match="spikes already"):
        prepare(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten()), input_shape=(3, 6, 6), output_bits=3)
