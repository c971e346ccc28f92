"""The door: `import fastsnn_deploy as fd` and nothing else takes a network from PyTorch to a verified file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import fastsnn_deploy as fd
from fastsnn_deploy.analysis.agreement import RoundingWarning
from fastsnn_deploy.errors import BackendError, LoweringError
from fastsnn_deploy.graph.integer_network import integer_values
from fastsnn_deploy.passes.window import for_window
from fastsnn_deploy.simulators import open_engine
from fastsnn_deploy.simulators.recorded import recorded_run
from fastsnn_deploy.simulators.reference import simulate
from tests.random_graphs import random_graph, random_images


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (12, 1, 8, 8)).astype(np.uint8)


@pytest.fixture(scope="module")
def quantised(pictures: np.ndarray) -> nn.Module:
    model = fd.prepare(network(), bits=2, weight_bits=4)
    fd.calibrate(model, pictures)
    return model


def test_the_door_is_small_and_lazy():
    code = (
        "import sys, fastsnn_deploy as fd; assert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
        "assert sorted(fd.__all__) == sorted(dir(fd)) and 15 <= len(dir(fd)) <= 45, dir(fd)\n"
        "for name in dir(fd): assert getattr(fd, name) is not None\n"
        "assert callable(fd.convert)"  # also after everything was imported
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_the_whole_way(quantised: nn.Module, pictures: np.ndarray, tmp_path: Path):
    snn = fd.convert(quantised, input_shape=(1, 8, 8))
    assert [node.name for node in snn.populations] == ["0", "4"]
    assert snn.outputs == ("7",)
    proof = fd.verify(quantised, pictures, input_shape=(1, 8, 8))
    assert proof.exact
    assert proof.total.compared > 12 * 100
    run = fd.simulate(snn, pictures)
    assert np.array_equal(run.counts["4"][-1], integer_values(snn, pictures)["4"])
    assert run.logits.shape == (12, 10)
    found = fd.evaluate(snn, pictures, np.arange(12) % 10)
    assert found.images == 12
    assert fd.profile(snn, pictures, hardware="loihi2").counts.images == 12
    fd.save(quantised, tmp_path / "model.pt", input_shape=(1, 8, 8), metadata={"note": "small"})
    again = fd.load(tmp_path / "model.pt")
    assert again.meta["metadata"]["note"] == "small"
    assert fd.convert(again).nodes == snn.nodes
    fd.export(snn, tmp_path / "model.net")
    assert fd.read(tmp_path / "model.net") == snn
    assert fd.verify(tmp_path / "model.pt", pictures, net=tmp_path / "model.net").exact
    for result in (snn, run, found, proof):
        assert len(repr(result)) <= 120
        assert "\n" not in repr(result)
        assert result.summary()
        assert result._repr_html_().startswith("<")
        assert result.to_dict()


def test_one_function_for_any_kind_of_images(quantised: nn.Module, pictures: np.ndarray):
    """Pixels, real values, torch, one image, Encoded: the same integers, and the count of operations of all agrees."""
    snn = fd.convert(quantised, input_shape=(1, 8, 8))
    encoded = snn.encode(pictures)
    kinds: list[Any] = [pictures, pictures / 255, torch.from_numpy(pictures), torch.from_numpy(pictures) / 255, encoded]
    operations = fd.profile(snn, pictures).counts.total("synaptic_operations")
    for images in kinds:
        assert np.array_equal(snn.encode(images), encoded)
        assert fd.profile(snn, images).counts.total("synaptic_operations") == operations > 0
    assert np.array_equal(snn.encode(pictures[0]), encoded[:1])


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 8, 8, 1)), "channels first"),
        (np.zeros((2, 3, 8, 8)), r"takes \(N, 1, 8, 8\)"),
        (np.full((1, 1, 8, 8), -0.5), "seem normalised"),
        (np.full((1, 1, 8, 8), 200.0), "divide them by 255"),
        (np.full((1, 1, 8, 8), np.nan), "NaN"),
        (np.full((1, 1, 8, 8), 256), r"span \[256, 256\]"),
    ],
)
def test_images_that_are_not_raw_are_refused_with_a_reason(quantised: nn.Module, images: np.ndarray, message: str):
    snn = fd.convert(quantised, input_shape=(1, 8, 8))
    for function in (fd.simulate, fd.evaluate, fd.profile):
        with pytest.raises(fd.InputError, match=message):
            function(snn, images)


def test_mistakes_are_one_message(quantised: nn.Module, pictures: np.ndarray, tmp_path: Path):
    fresh = fd.prepare(network())
    cases: list[tuple[Any, str]] = [
        (lambda: fd.convert(fresh, input_shape=(1, 8, 8)), "has never seen data"),
        (lambda: fd.convert({"0.weight": torch.zeros(1)}), "got a dict"),
        (lambda: fd.convert(quantised, schedule="sometimes"), "'sometimes'"),
        (lambda: fd.convert(quantised, input_shape=(1, 8, 8), steps=3), "steps=3"),
        (lambda: fd.convert(quantised, input_shape=(1, 8, 8), neurons="loud"), "'loud'"),
        (lambda: fd.simulate(quantised, pictures), "needs a spiking network"),
        (lambda: fd.read(tmp_path / "nothing.net"), "nothing.net"),
        (lambda: fd.load(tmp_path / "nothing.pt"), "nothing.pt"),
        (lambda: fd.export(fd.convert(quantised, (1, 8, 8)), tmp_path / "x.net", target="abacus"), "abacus"),
    ]
    for call, message in cases:
        with pytest.raises((fd.InputError, LoweringError), match=message):
            call()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("steps", [None, 1, 2, 7])
@pytest.mark.parametrize("neurons", ["unary", "unsigned", "graded"])
def test_networks_of_the_window_are_the_same_everywhere(
    quantised: nn.Module, pictures: np.ndarray, neurons: str, steps: int | None, tmp_path: Path
):
    snn = fd.convert(quantised, (1, 8, 8), neurons=neurons, schedule="window", steps=steps)
    fd.export(snn, tmp_path / "window.net")
    assert fd.read(tmp_path / "window.net") == snn
    proof = fd.verify(snn, pictures)
    assert proof.exact
    assert proof.total.compared
    assert proof.unsettled is not None
    duration = snn.schedule.duration
    assert duration == (steps or 3)
    run = fd.simulate(snn, pictures)
    for node in snn.populations:
        fired = np.flatnonzero(run.spikes[node.name].any(axis=tuple(range(1, run.spikes[node.name].ndim))))
        assert set(fired) <= set(range(snn.depths[node.name], snn.depths[node.name] + duration))


@given(st.integers(0, 10**6), st.integers(1, 9), st.sampled_from(["unary", "unsigned", "graded"]))
@settings(max_examples=15)
def test_windows_of_any_length_on_random_graphs(seed: int, steps: int, neurons: str):
    graph = random_graph(seed, blocks=3, max_size=5, neurons=neurons)
    try:
        graph = for_window(graph, steps)
    except fd.DeployError:  # beyond 24 bits
        return
    encoded = graph.encode(random_images(graph, seed))
    expected = simulate(graph, encoded)
    found = recorded_run(open_engine(graph, "cpu"), encoded, expected.steps)
    for kind in ("spikes", "counts", "potentials"):
        assert all(np.array_equal(getattr(found, kind)[k], v) for k, v in getattr(expected, kind).items())


def test_constant_current_fires_as_qcfs_does():
    """One neuron, threshold 3 of a unit weight, pixel 4 of a window of 4: current 1 a step, for 2 and for 10 steps."""
    graph = random_graph(0)
    one = np.ones(1, dtype=np.int64)
    image = type(graph.input)(name="image", shape=(1,), step=1.0, low=0, high=4, offset=one * 0, scale=1.0)
    from fastsnn_deploy.graph import Linear, Population, Schedule

    weight = Linear(name="w", inputs=("image",), shape=(1,), weight=np.ones((1, 1), dtype=np.int8), exponent=one * 0)
    neuron = Population(
        name="n", inputs=("w",), shape=(1,), threshold=3 * one, bias=0 * one, initial=one, input_scale=np.ones(1),
        ceiling=4, scale=1.0, min_spike=0,
    )  # fmt: skip
    graph = fd.SpikingGraph((image, weight, neuron), ("n",), Schedule(window=4))
    counts = {t: int(simulate(for_window(graph, t), np.array([[4]])).counts["n"][-1, 0, 0]) for t in (2, 4, 10)}
    assert counts == {2: 1, 4: 1, 10: 3}  # floor((t + 1) / 3)
    assert for_window(graph, 10)["n"].scale == pytest.approx(4 / 10)


@pytest.mark.lava
def test_a_window_on_lava(quantised: nn.Module, pictures: np.ndarray):
    try:
        for steps, neurons, current in ((None, "unary", "once"), (5, "unsigned", "once"), (5, "unary", "constant")):
            snn = fd.convert(quantised, (1, 8, 8), neurons=neurons, schedule="window", steps=steps, input=current)
            assert fd.verify(snn, pictures[:3], backend="lava").exact
    except BackendError as error:
        pytest.fail(str(error))


def test_bits_are_never_lost_in_silence():
    """28 x 28 x 64 with a global pool: the classifier over all positions does not fit, so the pool sends its sums."""
    torch.manual_seed(0)
    pooled = nn.Sequential(
        nn.Conv2d(1, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 5)
    )
    model = fd.prepare(pooled, bits=2, weight_bits=8)
    images = (torch.rand(4, 1, 28, 28) * 255).round() / 255
    fd.calibrate(model, images)
    snn = fd.convert(model, (1, 28, 28))
    answers = fd.simulate(snn, images).logits
    with torch.no_grad():
        expected = model.eval()(images).numpy()
    assert np.corrcoef(answers.ravel(), expected.ravel())[0, 1] > 0.9999
    wide = fd.prepare(nn.Sequential(nn.Linear(20000, 8), nn.ReLU(), nn.Linear(8, 3)), bits=8, weight_bits=8)
    fd.calibrate(wide, torch.rand(2, 20000))
    with pytest.raises(LoweringError, match=r"trained weights of '0' lose up to \d bits"):
        fd.convert(wide, (20000,))
    with pytest.warns(RoundingWarning, match=r"layer '0': .* weights of '0' lose up to \d bits"):
        lossy = fd.convert(wide, (20000,), allow_loss=True)
    assert "trained weights" in lossy.metadata["losses"]
