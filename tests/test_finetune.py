"""Layer-wise fine-tuning: it learns, keeps only what helps, goes on where it stopped, and says what is wrong."""

from __future__ import annotations

import copy
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn

from fastsnn_deploy.analysis.evaluate import evaluate
from fastsnn_deploy.cli.main import main
from fastsnn_deploy.conversion.convert import convert
from fastsnn_deploy.errors import InputError, LoweringError
from fastsnn_deploy.graph import Schedule
from fastsnn_deploy.quantisation import Checkpoint, load, prepare, save
from fastsnn_deploy.quantisation.capture import canonicalise
from fastsnn_deploy.quantisation.layers import QuantActivation
from fastsnn_deploy.simulators.integer import integer_outputs
from fastsnn_deploy.training import finetune as module
from fastsnn_deploy.training.data import Images, load_images
from fastsnn_deploy.training.finetune import Finetuner, LayerRecord, Settings, published_graph
from fastsnn_deploy.training.finetune_layers import activation, find_layers, proxy, spike_rates
from tests.random_networks import random_network

FEW = Settings(images=100, held_out=200, batch=25, learning_rate=0.01)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def checkpoint(checkpoint_file: Path) -> Checkpoint:
    return load(checkpoint_file)


@pytest.fixture(scope="module")
def data() -> Images:
    return load_images("digits", "train")


def finetuner(checkpoint: Checkpoint, data: Images, wanted: Settings = FEW, **options: Any) -> Finetuner:
    return Finetuner(checkpoint, data, wanted, threads=1, **options)


def state_of(checkpoint: Checkpoint) -> dict[str, Tensor]:
    return canonicalise(checkpoint.model).state_dict()


def different(a: Checkpoint, b: Checkpoint) -> set[str]:
    """Names of all tensors whose bits differ."""
    first, second = state_of(a), state_of(b)
    assert first.keys() == second.keys()
    return {name for name in first if not torch.equal(first[name], second[name])}


def distance(source: Checkpoint, tuned: Checkpoint, data: Images, neurons: str) -> float:
    """Mean squared error of the last layer's counts after the window to the activation of `source`, on other images."""
    quantised, graph = canonicalise(source.model).eval(), published_graph(tuned, neurons)
    layer = find_layers(quantised, graph)[-1]
    target = activation(quantised, layer, data.raw(slice(600, 800)))
    emitted = graph.input.encode(data.raw(slice(600, 800)))
    return float(((spike_rates(graph, (layer.name,), emitted, "cpu", 1)[layer.name] - target) ** 2).mean())


# --- what it does


def test_the_published_schedule(checkpoint: Checkpoint, data: Images):
    graph = published_graph(checkpoint, "unsigned")
    assert graph.schedule == Schedule(window=3, input="spread", bias="spread", stop="window")
    assert {node.neurons for node in graph.populations} == {"unsigned"}
    levels = data.raw(slice(20)).numpy()
    # the integer network does not know about time
    np.testing.assert_array_equal(integer_outputs(graph, levels), integer_outputs(convert(checkpoint), levels))


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000))
def test_a_layer_on_settled_counts_is_the_activation(seed: int):
    network, shape, images = random_network(seed, blocks=2)
    quantised = canonicalise(network).eval()
    try:
        graph = convert(Checkpoint(quantised, shape))
    except LoweringError:
        assume(False)
    emitted = graph.input.encode(np.round(images * 16).astype(np.int64))
    for layer in find_layers(quantised, graph):
        rates = spike_rates(graph, (*layer.sources, layer.name), emitted, "reference", 1)
        own = rates.pop(layer.name)
        smooth = proxy(quantised, layer, torch.from_numpy(images).float(), rates)
        torch.testing.assert_close(smooth, own)
        torch.testing.assert_close(activation(quantised, layer, torch.from_numpy(images).float()), own)


def test_a_layer_learns(checkpoint: Checkpoint, data: Images):
    wanted = Settings(images=500, held_out=10, neurons="unsigned", force=True, learning_rate=0.02)
    losses, distances = [], [distance(checkpoint, checkpoint, data, "unsigned")]
    for epochs in (1, 3):
        tuner = finetuner(checkpoint, data, dataclasses.replace(wanted, epochs=epochs))
        tuner.layers = tuner.layers[-1:]
        tuned = tuner.run()
        losses.append(tuned.metadata["finetune"]["layers"][0]["loss"])
        distances.append(distance(checkpoint, tuned, data, "unsigned"))
    assert losses[1] < losses[0]
    assert distances[2] < distances[1] < distances[0]


@pytest.mark.parametrize("neurons", ["unary", "unsigned"])
def test_changes_stay_only_where_they_help(checkpoint: Checkpoint, data: Images, neurons: str):
    before = copy.deepcopy(state_of(checkpoint))
    lines: list[str] = []
    tuner = finetuner(checkpoint, data, dataclasses.replace(FEW, neurons=neurons), log=lines.append)
    tuned = tuner.run()
    report = tuned.metadata["finetune"]
    records = [LayerRecord(**record) for record in report["layers"]]
    assert [record.name for record in records] == [layer.name for layer in tuner.layers]
    assert len(lines) == len(records)
    best = report["held_out_correct_before"]
    for record in records:
        assert record.kept == (record.correct > best)
        best = max(best, record.correct)
    assert report["held_out_correct_after"] == best >= report["held_out_correct_before"]
    graph = published_graph(tuned, neurons)
    levels, labels = data.raw(tuner.held_out).numpy(), data.labels[tuner.held_out].numpy()
    assert evaluate(graph, levels, labels, engine="cpu").topk[0].correct == best
    # nothing else has changed: no statistics, no thresholds, no first or last layer, nothing undone
    kept = {
        name for layer, record in zip(tuner.layers, records, strict=True) if record.kept for name in layer.parameters
    }
    assert different(checkpoint, tuned) <= kept
    assert all(torch.equal(before[name], tensor) for name, tensor in state_of(checkpoint).items())
    assert "quantised_accuracy" not in tuned.metadata
    assert tuned.metadata["data"] == "digits"


def test_force_keeps_every_change(checkpoint: Checkpoint, data: Images):
    tuner = finetuner(checkpoint, data, dataclasses.replace(FEW, force=True, images=50, held_out=10))
    tuned = tuner.run()
    changed = different(checkpoint, tuned)
    quantised = canonicalise(checkpoint.model)
    for layer in tuner.layers:
        assert set(layer.parameters) & changed
    assert not any(isinstance(quantised.get_submodule(name.rpartition(".")[0]), QuantActivation) for name in changed)
    assert not any("running" in name or "num_batches" in name for name in changed)
    assert all(record["kept"] for record in tuned.metadata["finetune"]["layers"])
    assert all(parameter.requires_grad for parameter in tuned.model.parameters())


def test_only_the_tuned_layer_has_gradients(checkpoint: Checkpoint, data: Images, monkeypatch: pytest.MonkeyPatch):
    quantiseds: list[fx.GraphModule] = []
    saved: list[int] = []
    seen: list[set[str]] = []

    def watched(quantised: fx.GraphModule, *arguments: Any) -> Tensor:
        quantiseds.append(quantised)
        kept: list[Tensor] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
            result = proxy(quantised, *arguments)
        saved.append(len(kept))
        return result

    step = torch.optim.SGD.step

    def checked(self: torch.optim.SGD, *arguments: Any) -> Any:
        seen.append({name for name, parameter in quantiseds[-1].named_parameters() if parameter.grad is not None})
        return step(self, *arguments)

    monkeypatch.setattr(module, "proxy", watched)
    monkeypatch.setattr(torch.optim.SGD, "step", checked)
    tuner = finetuner(checkpoint, data, Settings(images=20, held_out=10, batch=20))
    tuned = tuner.run()
    assert seen == [set(layer.parameters) for layer in tuner.layers]
    assert all(parameter.grad is None for parameter in tuned.model.parameters())
    whole: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: whole.append(t) or t, lambda t: t):
        tuned.model(data.raw(slice(0, 20)))
    assert max(saved) < len(whole) / 2  # what is kept for a gradient does not grow with the depth


# --- interrupted and resumed


@pytest.mark.parametrize("progress", [0, 5, 8])
def test_resuming_gives_the_same_bits(checkpoint: Checkpoint, data: Images, tmp_path: Path, progress: int):
    wanted = dataclasses.replace(FEW, epochs=2, images=50)  # 4 steps a layer
    whole = finetuner(checkpoint, data, wanted, state_file=tmp_path / "whole").run()

    def stop(done: int, total: int) -> None:
        assert total == 16
        if done > progress:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetuner(checkpoint, data, wanted, state_file=tmp_path / "state", progress=stop).run()
    lines: list[str] = []
    resumed = finetuner(checkpoint, data, wanted, state_file=tmp_path / "state", log=lines.append).run(resume=True)
    assert len(lines) == 4 - progress // 4
    assert different(whole, resumed) == set()
    assert resumed.metadata == whole.metadata
    assert list(tmp_path.iterdir()) == []


# --- wrong input


def test_wrong_settings(checkpoint: Checkpoint, data: Images):
    for name in ("images", "held_out", "epochs", "batch"):
        with pytest.raises(InputError, match=f"{name} is 0, must be at least 1"):
            Settings(**{name: 0})
    for rate in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(InputError, match="learning_rate"):
            Settings(learning_rate=rate)
    with pytest.raises(InputError, match="has 1437 training images; 1000 to learn from and 438 held out are 1438"):
        Finetuner(checkpoint, data, Settings(images=1000, held_out=438))
    with pytest.raises(InputError, match="neurons"):
        Finetuner(checkpoint, data, dataclasses.replace(FEW, neurons="loud"))


def test_a_network_without_inner_layers(data: Images):
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(72, 10))
    quantised = prepare(network.eval(), bits=2, mean=(0.3,), std=(0.4,), input_step=1 / 16, input_levels=(0, 16))
    quantised(data.raw(slice(0, 50)))
    with pytest.raises(InputError, match="nothing can be fine-tuned"):
        Finetuner(Checkpoint(quantised, (1, 8, 8)), data, FEW)


def test_a_layer_that_diverges(checkpoint: Checkpoint, data: Images, tmp_path: Path):
    for rate in (1e20, 1e38):
        wanted = Settings(images=100, held_out=10, batch=10, learning_rate=rate)
        with pytest.raises(InputError, match="Lower the learning rate"):
            finetuner(checkpoint, data, wanted, state_file=tmp_path / "state").run(restart=True)
    assert (tmp_path / "state").exists()


def test_wrong_states(checkpoint: Checkpoint, data: Images, tmp_path: Path):
    state = tmp_path / "state"

    def resume(wanted: Settings = FEW, given: Checkpoint = checkpoint, file: Path | None = state) -> None:
        finetuner(given, data, wanted, state_file=file).run(resume=True)

    with pytest.raises(InputError, match="no state file"):
        resume(file=None)
    with pytest.raises(InputError, match="no such"):
        resume()

    def stop(done: int, total: int) -> None:
        if done > 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetuner(checkpoint, data, state_file=state, progress=stop).run()
    with pytest.raises(InputError, match="another run"):
        resume(dataclasses.replace(FEW, seed=1))
    other = dataclasses.replace(checkpoint, model=copy.deepcopy(checkpoint.model))
    with torch.no_grad():
        next(other.model.parameters()).add_(1e-3)
    with pytest.raises(InputError, match="another run"):
        resume(given=other)
    content = torch.load(state, weights_only=True)
    for key, wrong in (
        ("before", "many"),
        ("records", [{"name": "x"}]),
        ("records", content["records"][::-1] * 2),
        ("model", {}),
    ):
        torch.save({**content, key: wrong}, state)
        with pytest.raises(InputError, match="is damaged"):
            resume()
    torch.save({"format": "something else"}, state)
    with pytest.raises(InputError, match="is not a fine-tuning state"):
        resume()
    for damaged in (b"", b"not a file of ours"):
        state.write_bytes(damaged)
        with pytest.raises(InputError, match="state"):
            resume()


# --- the command


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Run `fastsnn-deploy finetune` in `tmp_path`, inside this process: (exit neurons, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run_command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["fastsnn-deploy", "finetune", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_call:
            main()
        printed = capsys.readouterr()
        return int(exit_call.value.code or 0), printed.out, printed.err

    return run_command


SMALL = ("--images", 100, "--held-out", 100, "--batch", 25, "--learning-rate", 0.01, "--threads", 1)


def test_the_command(run, checkpoint_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    neurons, printed, log = run(checkpoint_file, "-o", "new/tuned.pt", *SMALL, "--json")
    assert neurons == 0, log
    report = json.loads(printed)
    assert report["checkpoint"] == "new/tuned.pt"
    assert report["settings"]["images"] == 100
    assert report["held_out_correct_after"] >= report["held_out_correct_before"]
    assert log.count("held-out images right") == len(report["layers"]) == 4
    tuned = load(tmp_path / "new" / "tuned.pt")
    assert tuned.metadata["quantised_accuracy"] == report["quantised_accuracy"] > 0.8
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["tuned.pt"]
    convert(tuned)

    # the same in two parts: interrupted in the second layer
    step, steps = torch.optim.SGD.step, []

    def interrupting(self: torch.optim.SGD, *arguments: Any) -> Any:
        steps.append(0)
        if len(steps) == 6:
            raise KeyboardInterrupt
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.SGD, "step", interrupting)
        neurons, printed, log = run(checkpoint_file, *SMALL, "--json")
    assert (neurons, printed) == (130, "")
    assert "tuned.pt.resume: go on with --resume" in " ".join(log.split())
    neurons, printed, log = run(checkpoint_file, *SMALL, "--resume")
    assert neurons == 0, log
    assert f"{sum(layer['kept'] for layer in report['layers'])} of 4 layers changed" in printed
    assert different(load(tmp_path / "tuned.pt"), tuned) == set()
    assert not (tmp_path / "tuned.pt.resume").exists()


def test_the_command_with_wrong_input(run, checkpoint: Checkpoint, checkpoint_file: Path, tmp_path: Path):
    unnamed = tmp_path.parent / f"{tmp_path.name}-unnamed.pt"
    save(dataclasses.replace(checkpoint, metadata={}), unnamed)
    cases: list[tuple[tuple[object, ...], str]] = [
        (("ghost.pt",), "ghost.pt"),
        ((checkpoint_file, "-o", tmp_path.parent), "is a folder"),
        ((checkpoint_file, "--images", 0), "images"),
        ((checkpoint_file, "--images", 1437), "Ask for fewer"),
        ((checkpoint_file, "--learning-rate", -1), "learning_rate"),
        ((checkpoint_file, *SMALL, "--resume"), "tuned.pt.resume"),
        ((unnamed,), "Name it with --data"),
    ]
    for arguments, message in cases:
        neurons, printed, log = run(*arguments)
        assert (neurons, printed) == (2, ""), arguments
        assert message in " ".join(log.split())
        assert "Traceback" not in log
        assert list(tmp_path.iterdir()) == []
