"""`compare` finds the fault that was planted, names its layer first, and what it advises brings back what it cost."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn

import fastsnn_deploy as fd
from fastsnn_deploy.analysis.comparison.result import Comparison
from fastsnn_deploy.passes.spike_bounds import with_neurons
from fastsnn_deploy.passes.window import for_window
from fastsnn_deploy.quantisation.layers import QuantActivation, quantisers_off
from tests.commands import Result, runner

SHAPE = (1, 8, 8)
MEAN, STD = (0.305,), (0.376,)
IMAGES: dict[str, Any] = {
    "mean": MEAN, "std": STD, "input_step": 1 / 16, "input_levels": (0, 16), "input_shape": SHAPE
}  # fmt: skip


class DigitsNet(nn.Module):
    """Three convolutions, the last around a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12)
        self.conv2, self.bn2 = nn.Conv2d(12, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16)
        self.conv3, self.bn3 = nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.fc = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        x = torch.relu(self.bn3(self.conv3(x)) + x)
        return self.fc(x.mean((2, 3)))


@pytest.fixture(scope="module")
def float_model() -> nn.Module:
    """Trained on the digits for some seconds."""
    torch.manual_seed(0)
    model, train = DigitsNet(), fd.load_data("digits", "train")
    images = (train.raw(slice(None)) - MEAN[0]) / STD[0]
    optimiser = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(16):
        for chosen in torch.randperm(len(images)).split(128):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(images[chosen]), train.labels[chosen]).backward()
            optimiser.step()
    return model.eval()


@pytest.fixture(scope="module")
def test_images() -> Any:
    return fd.load_data("digits", "test")


@pytest.fixture(scope="module")
def sound(float_model: nn.Module) -> fx.GraphModule:
    """The quantised model without a fault: 4-bit activations, 8-bit weights."""
    model = fd.prepare(
        float_model, 4, 8, mean=MEAN, std=STD, input_step=1 / 16, input_levels=(0, 16), input_shape=SHAPE
    )
    fd.calibrate(model, fd.load_data("digits", "train"))
    return model.eval()


@pytest.fixture(scope="module")
def unplanted(sound: fx.GraphModule, test_images: Any) -> Comparison:
    return fd.compare(sound, test_images, advise=False)


def activation(model: fx.GraphModule, number: int) -> QuantActivation:
    return [module for module in model.modules() if isinstance(module, QuantActivation)][number]


def small_step(model: fx.GraphModule) -> None:
    activation(model, 1).learned.data /= 6


def large_step(model: fx.GraphModule) -> None:
    activation(model, 1).learned.data *= 12


def dead_channels(model: fx.GraphModule) -> None:
    """Equal in floating point: eight channels a hundredth of what they were, the weights that read them 100 times."""
    conv: Any = model.get_submodule("conv2")
    norm: Any = model.get_submodule("bn1")
    norm.weight.data[:8] /= 100
    norm.bias.data[:8] /= 100
    conv.weight.data[:, :8] *= 100
    conv.reset_weight_step()


def coarse_weights(model: fx.GraphModule) -> None:
    layer: Any = model.get_submodule("conv2")
    layer.set_weight_bits(2)


def wrong_bias(model: fx.GraphModule) -> None:
    norm: Any = model.get_submodule("bn2")
    norm.running_mean += 0.7 * norm.running_var.sqrt()


FAULTS: list[tuple[Callable[[fx.GraphModule], None], str, set[str]]] = [
    (small_step, "conv2", {"step"}),
    (large_step, "conv2", {"step"}),
    (dead_channels, "conv1", {"equalisation"}),
    (coarse_weights, "conv2", {"weight bits", "biases"}),  # correcting biases is free, and brings nearly all back
]


@pytest.mark.parametrize(("plant", "layer", "kinds"), FAULTS, ids=[fault[0].__name__ for fault in FAULTS])
def test_a_planted_fault_is_named_first_and_its_cure_brings_back_what_it_cost(
    plant: Callable[[fx.GraphModule], None], layer: str, kinds: set[str], sound: fx.GraphModule, unplanted: Comparison,
    float_model: nn.Module, test_images: Any,
) -> None:  # fmt: skip
    model = copy.deepcopy(sound)
    plant(model)
    found = fd.compare(model, test_images)
    first = found.advice[0]
    assert (first.layer, first.chosen.kind) in {(layer, kind) for kind in kinds}, found.verdict
    assert found.verdict[0].startswith(f"{layer}: ")
    faulty, healthy = (each.stage("quantised") for each in (found, unplanted))
    assert faulty.error > 3 * healthy.error
    # on images that took no part, the loss goes to within a fifth of what the fault had added to it
    assert first.chosen.after.loss < healthy.error + 0.2 * (faulty.error - healthy.error)
    # against the float network itself: corrected biases are in the model without its quantisers, too
    options: Any = {"float_model": float_model, "mean": MEAN, "std": STD, "input_shape": SHAPE, "advise": False}
    again = fd.compare(found.model, test_images, **options).stage("quantised")
    assert again.error < healthy.error + 0.2 * (faulty.error - healthy.error)
    assert again.accuracy >= faulty.accuracy


def test_what_a_fault_looks_like_in_the_table(sound: fx.GraphModule, test_images: Any) -> None:
    clipping, dead = copy.deepcopy(sound), copy.deepcopy(sound)
    small_step(clipping)
    dead_channels(dead)
    layer = fd.compare(clipping, test_images, advise=False).layer("conv2")
    x = _entering(clipping, activation(clipping, 1), test_images)
    assert layer.clipped == pytest.approx(float((x >= 15.5).double().mean()))
    assert layer.clipped > 0.1
    assert (layer.levels_used, layer.levels) == (15, 15)
    layer = fd.compare(dead, test_images, advise=False).layer("conv1")
    assert layer.lost_channels == layer.dead_channels == 8


def _entering(model: fx.GraphModule, module: QuantActivation, images: Any) -> Tensor:
    kept: list[Tensor] = []
    hook = module.register_forward_pre_hook(lambda _, arguments: kept.append(arguments[0].detach()))
    with torch.no_grad():
        model(images.raw(slice(None)))
    hook.remove()
    return kept[0] / module.step_in_use()


def test_every_form_is_what_the_other_commands_say(
    sound: fx.GraphModule, unplanted: Comparison, test_images: Any
) -> None:
    labels, raw = test_images.labels, test_images.raw(slice(None))
    with torch.no_grad():
        quantised = sound(raw)
        with quantisers_off(sound):
            floating = sound(raw)
    snn = fd.convert(sound, SHAPE)
    right = {stage.name: stage.accuracy for stage in unplanted.stages}
    assert right["float"] == pytest.approx(float((floating.argmax(1) == labels).double().mean()))
    assert right["quantised"] == pytest.approx(float((quantised.argmax(1) == labels).double().mean()))
    evaluation = fd.evaluate(snn, test_images)
    assert right["integer"] == right["SNN"] == pytest.approx(evaluation.accuracy())
    curve = evaluation.topk[0].extended(evaluation.length) / evaluation.images
    assert [step.accuracy for step in unplanted.steps] == pytest.approx(curve.tolist())
    assert unplanted.settle_steps == pytest.approx(evaluation.mean_settle_steps)
    error = (quantised - floating).square().mean() / floating.var(correction=0)
    assert unplanted.stage("quantised").error == pytest.approx(float(error), rel=1e-4)
    assert unplanted.layers[-1].error == pytest.approx(float((quantised - floating).norm() / floating.norm()), rel=1e-4)


def test_local_errors_leave_out_what_came_before(unplanted: Comparison) -> None:
    first, *rest = unplanted.layers
    assert first.local_error == pytest.approx(first.error, rel=1e-5)
    assert all(layer.local_error < layer.error for layer in rest)


def test_nothing_is_lost_with_eight_bits(float_model: nn.Module, test_images: Any) -> None:
    model = fd.prepare(
        float_model, 8, 8, mean=MEAN, std=STD, input_step=1 / 16, input_levels=(0, 16), input_shape=SHAPE
    )
    fd.calibrate(model, fd.load_data("digits", "train"))
    found = fd.compare(model, test_images, float_model=float_model, mean=MEAN, std=STD)
    assert found.verdict[0].startswith("Quantisation loses nothing")
    assert not found.advice
    assert (found.float_form, found.same, found.neurons) == ("float", True, "graded")
    assert found.stage("SNN").agreement == 1


def test_a_given_float_network_is_the_model_without_its_quantisers(
    sound: fx.GraphModule, float_model: nn.Module, unplanted: Comparison, test_images: Any
) -> None:
    found = fd.compare(sound, test_images, float_model=float_model, mean=MEAN, std=STD, advise=False)
    for ours, given in zip(unplanted.layers, found.layers, strict=True):
        assert given.error == pytest.approx(ours.error, rel=1e-3)
    wrong = fd.compare(sound, test_images, float_model=float_model, mean=(0.0,), std=(1.0,), advise=False)
    assert wrong.stage("float").accuracy < found.stage("float").accuracy


def test_a_given_float_network_takes_images_as_the_model_was_stored_to(
    float_model: nn.Module, test_images: Any
) -> None:
    """Not as the data set would have them, and not as the input's whole levels round them."""
    own: dict[str, Any] = {"mean": (0.2,), "std": (0.5,)}
    model = fd.prepare(float_model, 4, 8, **{**IMAGES, **own})
    fd.calibrate(model, fd.load_data("digits", "train"))
    found, said, other = (
        fd.compare(model, test_images, float_model=float_model, advise=False, **given).stage("float")
        for given in ({}, own, {"mean": MEAN, "std": STD})
    )
    assert found == said != other


def test_classes_in_another_order_are_those_of_the_model(float_model: nn.Module, test_images: Any) -> None:
    train = fd.load_data("digits", "train")
    model = fd.prepare(float_model, 4, 8, preprocessing=train.preprocessing, input_shape=SHAPE)
    fd.calibrate(model, train)
    names = test_images.class_names[::-1]
    turned = dataclasses.replace(test_images, labels=9 - test_images.labels, class_names=names)
    plain = fd.compare(model, test_images, advise=False)
    with pytest.warns(UserWarning, match="order"):
        other = fd.compare(model, turned, advise=False)
    assert other.stages == plain.stages
    assert plain.stage("quantised").accuracy > 0.9


def test_a_file_with_one_other_weight(sound: fx.GraphModule, test_images: Any, tmp_path: Path) -> None:
    snn = fd.convert(sound, SHAPE)

    def changed(node: Any) -> Any:
        if node.name != "conv2.weight":
            return node
        weight = node.weight.astype(np.int64)
        weight[3, 2, 1, 1] += 40 if weight[3, 2, 1, 1] < 80 else -40
        return dataclasses.replace(node, weight=weight)

    other = dataclasses.replace(snn, nodes=tuple(map(changed, snn.nodes)))
    fd.export(other, tmp_path / "other.net")
    found = fd.compare(sound, test_images, net=tmp_path / "other.net", advise=False)
    assert not found.same
    assert found.verdict[0].startswith("other.net is not the network of this model: weights 'conv2.weight': 1 of")
    assert "[3, 2, 1, 1]" in found.verdict[0]
    assert found.layer("conv1").file_differing == 0
    assert found.layer("conv2").file_differing > 0
    assert found.converted.accuracy == fd.compare(sound, test_images, advise=False).stage("integer").accuracy


@pytest.mark.parametrize("made", ["graded", "window", "short window", "longer window", "unsigned"])
def test_the_same_network_in_other_clothes(
    made: str, sound: fx.GraphModule, unplanted: Comparison, test_images: Any, tmp_path: Path
) -> None:
    snn = fd.convert(sound, SHAPE)
    made_of = {
        "graded": lambda: with_neurons(snn, "graded"), "unsigned": lambda: with_neurons(snn, "unsigned"),
        "window": lambda: for_window(snn),
        "short window": lambda: fd.convert(sound, SHAPE, schedule="window", steps=4),
        "longer window": lambda: fd.convert(sound, SHAPE, schedule="window", steps=20),
    }  # fmt: skip
    fd.export(made_of[made](), tmp_path / "model.net")
    found = fd.compare(sound, test_images, net=tmp_path / "model.net", advise=False)
    assert found.same, found.file_differences
    assert found.stage("integer").accuracy == unplanted.stage("integer").accuracy
    if made == "graded":
        assert found.stage("SNN").agreement == 1
        assert found.settled is None
    elif made != "window":  # which happens to be right on these images
        assert found.stage("SNN").agreement < 1
        assert found.settled.agreement == 1
        assert "Spikes: " in found.verdict[-1]


def test_another_network_is_refused_with_everything_that_differs(sound: fx.GraphModule, test_images: Any) -> None:
    other = fd.prepare(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5)), 2, 4)
    fd.calibrate(other, torch.rand(4, 3, 8, 8))
    with pytest.raises(fd.InputError) as caught:
        fd.compare(sound, test_images, net=fd.convert(other, (3, 8, 8)))
    assert [problem.where for problem in caught.value.problems] == ["images", "step of the input", "answers"]


def test_labels_guide_where_the_float_answers_are_wrong(sound: fx.GraphModule, test_images: Any) -> None:
    faulty = copy.deepcopy(sound)
    small_step(faulty)
    found = fd.compare(faulty, test_images, float_model=DigitsNet().eval(), mean=MEAN, std=STD)
    assert found.labels_guide
    assert "judged by the labels" in found.notes[-1]
    assert found.advice[0].layer == "conv2"
    assert found.advice[0].chosen.after.accuracy > 0.95
    assert found.verdict[0].startswith("conv2: ")
    assert "shows only beside the float network" in dataclasses.replace(found, advice=()).verdict[0]


def test_what_the_float_column_is(checkpoint_file: Path, float_model: nn.Module, test_images: Any) -> None:
    trained = fd.compare(checkpoint_file, test_images, advise=False)
    assert "its weights were trained with the quantisers" in trained.notes[0]
    made = fd.quantize(float_model, fd.load_data("digits", "train"), 4, 4, iterations=5, **IMAGES)
    for stages, text in [((), "nothing has moved its weights"), (("bias correction",), "bias correction moved its")]:
        known = tuple(stage for stage in made.stages if stage.name in ("steps", *stages))
        plain = {"post_training": dataclasses.replace(made, stages=known).to_dict()}
        found = fd.compare(fd.Checkpoint(made.model, SHAPE, plain), test_images.raw(slice(0, 8)))
        assert text in found.notes[0]
        assert "too few to try" in found.notes[1]


def test_without_labels_and_with_maps(sound: fx.GraphModule, test_images: Any) -> None:
    found = fd.compare(sound, test_images.raw(slice(0, 40)), input_shape=SHAPE)
    assert {stage.accuracy for stage in found.stages} == {None}
    assert "accuracy" not in found.summary()
    maps = fd.prepare(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 1)), 3, 8, input_shape=SHAPE)
    fd.calibrate(maps, torch.rand(8, *SHAPE))
    found = fd.compare(maps, torch.rand(20, *SHAPE))
    assert found.stage("SNN").agreement == 1
    with pytest.raises(fd.InputError, match="labels are one class an image"):
        fd.compare(maps, torch.rand(20, *SHAPE), labels=np.zeros(20, dtype=np.int64))


def test_the_user_s_model_stays_as_it_is(sound: fx.GraphModule, test_images: Any) -> None:
    before = copy.deepcopy(sound.state_dict())
    fd.compare(sound, test_images.raw(slice(0, 40)), input_shape=SHAPE)
    assert all(torch.equal(tensor, before[name]) for name, tensor in sound.state_dict().items())
    assert all(getattr(module, "enabled", True) for module in sound.modules())


def test_wrong_arguments(sound: fx.GraphModule, test_images: Any) -> None:
    raw = test_images.raw(slice(0, 4))
    for options, text in [
        ({"labels": [0, 1]}, "labels for the network"), ({"labels": [0, 1, 2, 99]}, "has 10 classes"),
        ({"steps": 0}, "steps is 0"), ({"spiking_images": 0}, "spiking_images is 0"), ({"advise": 1}, "advise: got 1"),
        ({"float_model": "float.pt"}, "float_model: got"), ({"net": 3}, "the network: got 3"),
        ({"neurons": "urnary"}, "urnary"), ({"progress": 1}, "progress: got 1"),
        ({"float_model": nn.Sequential(nn.Flatten(), nn.Linear(64, 3))}, "answers with [3]"),
    ]:  # fmt: skip
        with pytest.raises(fd.InputError) as caught:
            fd.compare(sound, raw, input_shape=SHAPE, **options)
        assert text in str(caught.value)
    with pytest.raises(fd.InputError, match="there is no image"):
        fd.compare(sound, raw[:0], input_shape=SHAPE)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    return runner(monkeypatch, capsys)


def test_the_command(run: Callable[..., Result], sound: fx.GraphModule, float_model: nn.Module, tmp_path: Path) -> None:
    model = copy.deepcopy(sound)
    small_step(model)
    fd.save(model, tmp_path / "model.pt", input_shape=SHAPE, metadata={"data": "digits"})
    torch.save(float_model.state_dict(), tmp_path / "float.pt")
    fd.export(fd.convert(sound, SHAPE), tmp_path / "model.net")
    found = run(
        "compare", tmp_path / "model.pt", "--plot", tmp_path / "a.svg", "-o", tmp_path / "better.pt", "--samples", 100
    )
    assert found.returncode == 0
    assert "Verdict\n- conv2: " in found.stdout
    assert (tmp_path / "a.svg").read_text().startswith("<?xml")
    better = run("compare", tmp_path / "better.pt", "--no-advise", "--json")
    assert json.loads(better.stdout)["stages"][1]["accuracy"] > 0.9
    found = run(
        "compare", tmp_path / "model.pt", tmp_path / "model.net", "--json", "--samples", 40, "--no-advise",
        "--float", tmp_path / "float.pt", "--model", "tests.test_compare:DigitsNet", "--plot", tmp_path / "a.png",
    )  # fmt: skip
    report = json.loads(found.stdout)
    assert (found.returncode, report["same_network"], report["float"]) == (1, False, "float")
    assert "'conv2" in report["differences"][0]
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--plot", "a.pdf"], "written as .png or .svg"),
        (["--no-advise", "-o", "b.pt"], "Leave out one"),
        (["--mean", "0.5"], "Name its file with --float"),
        (["--float", "model.pt"], "is a quantised model"),
        (["--float", "nothing.pt"], "nothing.pt"),
        (["--data", "mnits"], "Did you mean 'mnist'?"),
        (["--samples", "9999"], "360 test images"),
        (["model.pt"], "model.pt"),
        (["nothing.net"], "nothing.net"),
        (["-o", "model.pt"], "model.pt"),
        (["--neurons", "urnary", "--data", "random"], "urnary"),
    ],
)
def test_wrong_input(
    arguments: list[str], text: str, run: Callable[..., Result], checkpoint_file: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.pt").write_bytes(checkpoint_file.read_bytes())
    result = run("compare", "model.pt", *arguments)
    assert result.returncode == 2
    assert text in result.stderr
    assert "Traceback" not in result.stderr
