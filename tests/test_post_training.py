"""Quantisation from images alone: every stage does what it says, on networks small enough to see it."""

from __future__ import annotations

import copy
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

import fastsnn_deploy as fd
from fastsnn_deploy.quantisation import load
from fastsnn_deploy.quantisation.calibration import set_steps
from fastsnn_deploy.quantisation.layers import QuantActivation, QuantConv2d, quantisers_off, switch_quantisers
from fastsnn_deploy.quantisation.post_training.bias import correct_biases
from fastsnn_deploy.quantisation.post_training.equalise import equalise
from fastsnn_deploy.quantisation.post_training.report import PostTraining
from fastsnn_deploy.quantisation.post_training.rounding import round_weights
from fastsnn_deploy.quantisation.post_training.segments import segments
from fastsnn_deploy.quantisation.post_training.thresholds import RULES, entropy, least_error, percentile
from tests.commands import runner
from tests.pages import ROOT

SHAPE = (1, 8, 8)


def images(count: int = 64, seed: int = 0) -> Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


class Residual(nn.Module):
    """A convolution, a residual block, and a linear layer on the flattened maps."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.conv1, self.norm1 = nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1)
        self.linear = nn.Linear(6 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.conv(x)))
        x = F.relu(x + self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return self.linear(F.max_pool2d(x, 2).flatten(1))


def network(seed: int = 0) -> Residual:
    """With channels of very different ranges and statistics that are not trivial."""
    torch.manual_seed(seed)
    model = Residual().eval()
    for norm in (model.norm, model.norm1):
        norm.weight.data = torch.rand(6) * 3 + 0.1
        norm.bias.data = torch.randn(6) * 0.3
        norm.running_mean = torch.randn(6) * 0.1
    return model


@functools.cache
def prepared_residual(weight_bits: int) -> Any:
    return fd.prepare(network(), 4, weight_bits, first_bits=weight_bits, input_shape=SHAPE).eval()


def float_and_quantised(model: nn.Module | None = None, weight_bits: int = 4) -> tuple[Any, Any]:
    """(prepared with its quantisers off, calibrated) of a network, by default the residual one."""
    if model is None:
        prepared = copy.deepcopy(prepared_residual(weight_bits))
    else:
        prepared = fd.prepare(model, 4, weight_bits, first_bits=weight_bits, input_shape=SHAPE).eval()
    reference = copy.deepcopy(prepared)
    switch_quantisers(reference, on=False)
    set_steps(prepared, images(), least_error)
    return reference, prepared


def error(found: Any, reference: Any, seed: int = 9) -> float:
    with torch.no_grad():
        return float((found(images(seed=seed)) - reference(images(seed=seed))).square().mean())


# thresholds


def test_eight_bits_keep_a_plain_network():
    """Steps came from values at regular distances, all of them from the first column of the maps."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Flatten(),
        nn.Linear(32 * 256, 10),
    ).eval()  # fmt: skip
    pictures = torch.nn.functional.interpolate(torch.rand(64, 3, 8, 8), 32, mode="bilinear")
    prepared = fd.prepare(model, 8, 8, input_shape=(3, 32, 32))
    fd.calibrate(prepared, pictures)
    with torch.no_grad():
        both = torch.stack([model(pictures).flatten(), prepared.eval()(pictures).flatten()])
    assert torch.corrcoef(both)[0, 1] >= 0.9999


@pytest.mark.parametrize("high", [1, 15, 255])
def test_the_least_error_is_the_least(high: int):
    values = torch.randn(4000, generator=torch.Generator().manual_seed(0)).clamp_min(0)

    def loss(step: Tensor) -> float:
        return float(((values / step + 0.5).floor().clamp(0, high) * step - values).square().sum())

    chosen = least_error(values, high)
    others = values.max() * torch.linspace(0.05, 1.2, 300) / high
    assert loss(chosen) <= 1.02 * min(loss(step) for step in others)


def test_percentile_leaves_one_value_in_ten_thousand():
    values = torch.arange(50_001).float()
    assert float(percentile(values, 10)) * 10 == pytest.approx(0.9999 * 50_000, rel=1e-4)


def test_entropy_gives_up_a_lonely_value():
    values = torch.cat([torch.rand(20_000, generator=torch.Generator().manual_seed(0)), torch.tensor([20.0])])
    for high in (7, 127):
        assert 0.5 < float(entropy(values, high)) * high < 4


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("values", [torch.zeros(10), torch.tensor([3.0]), torch.full((5,), 1e-30)])
def test_rules_give_steps_for_any_values(name: str, values: Tensor):
    for high in (1, 15, 255):
        assert float(RULES[name](values, high)) > 0


# segments


def test_a_residual_block_is_one_segment():
    prepared = copy.deepcopy(prepared_residual(4))
    parts = list(segments(prepared))
    calls = [sum(isinstance(m, QuantConv2d) for m in part.modules(prepared)) for part in parts]
    assert calls == [0, 1, 2, 0]
    assert [part.start for part in parts[1:]] == [part.end for part in parts[:-1]]
    covered = [name for part in parts for name in part.nodes]
    assert covered == [node.name for node in prepared.graph.nodes if node.op not in ("placeholder", "output")]


def test_segments_compute_what_the_network_computes():
    _, prepared = float_and_quantised()
    value = images()
    for part in segments(prepared):
        value = part.run_all(prepared, value)
    with torch.no_grad():
        assert torch.equal(value, prepared(images()))


# equalisation


def plain(*layers: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), *layers).eval()


EQUALISED: dict[str, tuple[nn.Module | None, int]] = {
    "residual block": (None, 1),
    "convolution and linear": (plain(nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(96, 3)), 1),
    "groups": (plain(nn.ReLU(), nn.Conv2d(6, 4, 3, groups=2), nn.ReLU(), nn.Conv2d(4, 2, 1)), 2),
    "depthwise": (plain(nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3, groups=6), nn.ReLU(), nn.Conv2d(6, 2, 1)), 2),
    "transposed": (plain(nn.ReLU(), nn.ConvTranspose2d(6, 4, 2, 2, groups=2), nn.ReLU(), nn.Conv2d(4, 2, 1)), 2),
    "a limit": (plain(nn.ReLU6(), nn.Conv2d(6, 2, 1)), 0),
}


@pytest.mark.parametrize("name", EQUALISED)
def test_equalisation_leaves_the_float_network_as_it_is(name: str):
    model, count = EQUALISED[name]
    reference, _ = float_and_quantised(model)
    equal = copy.deepcopy(reference)
    assert equalise(equal, images(), 0.5) == count
    with torch.no_grad():
        torch.testing.assert_close(equal(images()), reference(images()), rtol=1e-4, atol=1e-5)
        assert count == 0 or any(
            not torch.equal(a, b) for a, b in zip(equal.parameters(), reference.parameters(), strict=False)
        )


def test_equalisation_makes_channels_alike():
    model = plain(nn.ReLU(), nn.Conv2d(6, 2, 1))
    model[0].weight.data *= torch.tensor([0.05, 0.2, 1, 2, 4, 8]).view(-1, 1, 1, 1)
    reference, _ = float_and_quantised(model)
    found: list[Tensor] = []
    for module in reference.modules():
        if isinstance(module, QuantActivation):
            module.register_forward_hook(lambda _, __, result: found.append(result.amax((0, 2, 3))))
    before_and_after: list[float] = []
    for share in (None, 1.0):
        if share is not None:
            equalise(reference, images(), share)
        found.clear()
        with torch.no_grad():
            reference(images())
        alive = found[-1][found[-1] > 0]
        before_and_after.append(float(alive.max() / alive.min()))
    assert before_and_after[1] < 0.5 * before_and_after[0]


# biases


def test_biases_give_each_layer_the_mean_of_its_float_weights():
    _, model = float_and_quantised(weight_bits=2)
    correct_biases(model, images())
    seen: list[tuple[str, float]] = []

    def compare(name: str) -> Any:
        def hook(layer: Any, given: Any, result: Tensor) -> None:
            layer.enabled = False
            wanted = layer.forward(*given)
            layer.enabled = True
            norm = {"conv": model.norm, "conv1": model.norm1}.get(name)
            original = originals[name]
            shift = 0 if norm is None else (norm.running_mean - original).view(1, -1, 1, 1)
            base = 0 if norm is not None else (layer.bias - original).view(1, -1, *[1] * (result.dim() - 2))
            gap = (result - shift - (wanted - base)).transpose(0, 1).flatten(1).mean(1)
            seen.append((name, float(gap.abs().max())))

        return hook

    fresh = network()
    originals = {
        "conv": fresh.norm.running_mean, "conv1": fresh.norm1.running_mean, "conv2": fresh.conv2.bias.detach(),
        "linear": fresh.linear.bias.detach(),
    }  # fmt: skip
    for name in originals:
        model.get_submodule(name).register_forward_hook(compare(name))
    with torch.no_grad():
        model(images())
    assert [name for name, _ in seen] == list(originals)
    assert max(gap for _, gap in seen) < 1e-4
    moved = max(float((model.norm1.running_mean - originals["conv1"]).abs().max()), 0.0)
    assert moved > 1e-3


def test_a_layer_without_bias_gets_one():
    model = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3, bias=False)).eval()
    _reference, quantised = float_and_quantised(model, weight_bits=2)
    correct_biases(quantised, images())
    last = quantised.get_submodule("3")
    assert last.bias is not None
    assert last.bias.abs().max() > 0
    assert last.config()["bias"] is True
    assert fd.verify(quantised, images(4)).exact


# rounding


def test_rounding_comes_closer_and_repeats_itself():
    reference, quantised = float_and_quantised(weight_bits=3)
    results = []
    for _ in range(2):
        rounded = copy.deepcopy(quantised)
        round_weights(rounded, reference, images(128), 60, lambda done, total: None)
        results.append(rounded)
    assert error(results[0], reference) < 0.6 * error(quantised, reference)
    for a, b in zip(results[0].parameters(), results[1].parameters(), strict=True):
        assert torch.equal(a, b)
    assert [p.requires_grad for p in results[0].parameters()] == [p.requires_grad for p in quantised.parameters()]
    assert all(p.grad is None for p in results[0].parameters())


def test_a_layer_that_is_called_twice_stays():
    shared = nn.Conv2d(4, 4, 3, padding=1)
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), shared, nn.ReLU(), shared, nn.ReLU(),
                          nn.Flatten(), nn.Linear(256, 3)).eval()  # fmt: skip
    reference, quantised = float_and_quantised(model)
    before = copy.deepcopy(quantised)
    round_weights(quantised, reference, images(), 5, lambda done, total: None)
    assert torch.equal(quantised.get_submodule("2").weight, before.get_submodule("2").weight)
    assert not torch.equal(quantised.get_submodule("0").weight, before.get_submodule("0").weight)


# all of it


@pytest.fixture(scope="module")
def found() -> PostTraining:
    labels = torch.arange(40) % 5
    return fd.quantize(
        network(), images(200), 3, 3, test=(images(40, seed=3), labels), input_shape=SHAPE, iterations=100
    )


def test_stages_are_judged(found: Any):
    assert [stage.name for stage in found.stages] == ["steps", "equalisation", "bias correction", "rounding"]
    best = float("inf")
    for stage in found.stages:
        assert stage.kept == (stage.error < best)
        best = min(best, stage.error)
    assert found.stages[-1].kept
    assert found.last.error < 0.6 * found.stages[0].error
    assert found.images == (150, 50)
    with torch.no_grad():
        right = (found.model(images(40, seed=3)).argmax(1) == torch.arange(40) % 5).float().mean()
    assert found.last.accuracy == pytest.approx(float(right))
    assert not found.model.training


def test_the_teacher_is_the_float_network(found: Any):
    with torch.no_grad():
        torch.testing.assert_close(found.teacher(images()), network()(images()), rtol=1e-4, atol=1e-4)


def test_the_report_says_all(found: Any):
    assert repr(found).startswith("PostTraining(3-bit activations, 3-bit weights")
    assert len(repr(found)) <= 120
    assert "rounding" in found.summary()
    assert "test accuracy" in " ".join(found.summary().split())
    assert json.loads(json.dumps(found.to_dict()))["stages"][0]["name"] == "steps"
    assert "<table>" in found._repr_html_()


def test_the_result_goes_all_the_way(found: Any, tmp_path: Path):
    assert fd.verify(found.model, images(5)).exact
    fd.save(found.model, tmp_path / "a.pt")
    loaded = fd.load(tmp_path / "a.pt").eval()
    assert torch.equal(loaded(images()), found.model(images()))


def test_a_network_stays_as_it_was_and_may_be_asked_for_less():
    model = network()
    before = copy.deepcopy(model.state_dict())
    result = fd.quantize(model, images(), input_shape=SHAPE, stages=["bias correction"], thresholds="entropy")
    assert [stage.name for stage in result.stages] == ["steps", "bias correction"]
    assert result.float_accuracy is None
    assert result.last.error < 1e-2
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_images_of_a_data_set_are_drawn_from_all_of_it():
    sorted_by_class = TensorDataset(torch.cat([images(50), images(50) * 0 + 0.9]), torch.arange(100) // 50)
    result = fd.quantize(network(), sorted_by_class, input_shape=SHAPE, most_images=40, stages=())
    assert result.images == (30, 10)
    small = fd.quantize(network(), fd.load_data("digits").raw(slice(0, 40)), input_shape=SHAPE, stages=())
    assert small.images == (30, 10)


def test_progress_ends_at_its_end():
    seen: list[tuple[int, int]] = []
    fd.quantize(network(), images(), input_shape=SHAPE, iterations=1, progress=lambda *each: seen.append(each))
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1]


# training with the float network as teacher


def test_a_teacher_is_learned_from():
    labels = torch.zeros(64, dtype=torch.long)  # say nothing
    results = {}
    for taught in (False, True):
        result = fd.quantize(network(), images(), 2, 3, input_shape=SHAPE, stages=())
        teacher = result.teacher if taught else None
        before = copy.deepcopy(result.teacher.state_dict())
        fd.fit(result.model, (images(), labels), epochs=3, learning_rate=0.01, batch_size=16, teacher=teacher,
               freeze_batch_norm=True, progress=False)  # fmt: skip
        with torch.no_grad():
            gap = F.kl_div(result.model(images()).log_softmax(1), result.teacher(images()).log_softmax(1),
                           log_target=True, reduction="batchmean")  # fmt: skip
        results[taught] = float(gap)
        assert all(torch.equal(value, before[name]) for name, value in result.teacher.state_dict().items())
        assert torch.equal(result.model.norm.running_mean, network().norm.running_mean)
    assert results[True] < 0.5 * results[False]


def test_images_are_moved_and_mirrored_while_training():
    labels = torch.arange(64) % 5
    weights = []
    for options in ({}, {"flip": True}, {"shift": 2}):
        result = fd.quantize(network(), images(), 4, 4, input_shape=SHAPE, stages=())
        fd.fit(result.model, (images(), labels), epochs=1, progress=False, **options)
        weights.append(result.model.linear.weight.detach())
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("teacher", "says"),
    [(3, "got 3 (int)"), (nn.Conv2d(3, 3, 1), "cannot take the images"), (nn.Flatten(), "with shape (2, 64)")],
)
def test_teachers_that_cannot_teach(teacher: Any, says: str):
    prepared = copy.deepcopy(prepared_residual(4))
    with pytest.raises(fd.InputError, match=None) as caught:
        fd.fit(prepared, (images(), torch.arange(64) % 5), teacher=teacher, progress=False)
    assert says in str(caught.value)
    assert "raw images" in str(caught.value)


def test_a_data_set_changes_its_images_itself():
    prepared = copy.deepcopy(prepared_residual(4))
    with pytest.raises(fd.InputError, match="Let the Dataset change its images itself"):
        fd.fit(prepared, TensorDataset(images(), torch.arange(64) % 5), flip=True, progress=False)


# the shell


BUILDER = """
from torch import nn

def tiny(channels=1, classes=10):
    return nn.Sequential(nn.Conv2d(channels, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(36, classes))
"""


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the user's own network and its float weights."""
    folder = tmp_path_factory.mktemp("digits")
    (folder / "own.py").write_text(BUILDER)
    torch.manual_seed(0)
    torch.save(nn.Sequential(nn.Conv2d(1, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 10)).state_dict(),
               folder / "float.pt")  # fmt: skip
    return folder


def test_the_command(digits: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    run = runner(monkeypatch, capsys)
    out = digits / "quantised.pt"
    builder = f"{digits / 'own.py'}:tiny"
    arguments = ("quantize", digits / "float.pt", "--model", builder, "--data", "digits", "--bits", "4", "-o", out)
    few = ("--images", "64", "--samples", "20", "--iterations", "5")
    done = run(*arguments, *few, "--epochs", "1")
    assert done.returncode == 0, done.stderr
    for word in ("equalisation", "rounding", "float", "quantised", "integer network", "SNN, unary, settled", "epoch"):
        assert word in done.stdout
    checkpoint = load(out)
    assert checkpoint.metadata["post_training"]["bits"] == 4
    assert checkpoint.metadata["data"] == "digits"
    again = run(*arguments, *few, "--json")
    assert again.returncode == 0, again.stderr
    as_json = json.loads(again.stdout)
    right = as_json["accuracies"]
    assert right["images"] == 20
    assert right["snn"] == right["integer"]
    assert right["float_network"] == as_json["float_accuracy"]
    assert right["quantised"] == [stage["accuracy"] for stage in as_json["stages"] if stage["kept"]][-1]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "Name a data set with --data"),
        (("--data", "digits", "--mean", "a,b"), "--mean 'a,b': must be numbers"),
        (("--data", "digits", "--mean", "1,2"), "mean has 2 values, the image 1 channels"),
        (("--data", "digits", "--thresholds", "msee"), "Did you mean 'mse'?"),
        (("--data", "digits", "--bits", "9"), "must be a whole number from 1 to 8"),
        (("--data", "digits", "--samples", "9999"), "9999 were asked for"),
        (("--data", "digits", "--model", "digit-net"), "Did you mean 'digits-net'?"),
    ],
)
def test_mistakes_in_the_shell(
    options: tuple[str, ...], says: str, digits: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    run = runner(monkeypatch, capsys)
    builder = f"{digits / 'own.py'}:tiny"
    result = run("quantize", digits / "float.pt", "--model", builder, "-o", digits / "no.pt", *options)
    assert result.returncode == 2, result.stderr
    assert says in " ".join(result.stderr.split())
    assert not (digits / "no.pt").exists()


def test_quantisers_are_on_again_after_the_proof():
    _, quantised = float_and_quantised()
    with torch.no_grad():
        before = quantised(images())
        with quantisers_off(quantised):
            assert not torch.equal(quantised(images()), before)
        assert torch.equal(quantised(images()), before)
    assert np.isfinite(before.numpy()).all()


# what is published


def test_the_page_has_the_figures_of_the_record():
    record = json.loads((ROOT / "docs/records/post_training.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs/post_training.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.count(" % |") == 3]
    assert len(rows) == len(record)
    for entry in record.values():
        right = entry["accuracy"]
        figures = [right["float"], right.get("trained", right["quantised"]), right["integer"]]
        end = " | ".join(f"{100 * figure:.2f} %" for figure in figures)
        assert any(f"| {entry['bits']} / {entry['weight_bits']} | {end} |" in row for row in rows), entry["network"]
        assert entry["test_images"] == 10_000
