"""compare-targets: the numbers are those of evaluate, profile and map; the front is the front; refusals are named."""

from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

import fastsnn_deploy as fd
from fastsnn_deploy.analysis.choosing.choices import default_choices
from fastsnn_deploy.analysis.choosing.result import Row, TargetComparison
from fastsnn_deploy.errors import InputError, MismatchError
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.graph.integer_network import integer_values
from fastsnn_deploy.passes.spike_bounds import with_neurons
from fastsnn_deploy.passes.start_delay import with_start_delay
from fastsnn_deploy.passes.window import for_window
from fastsnn_deploy.targets import TARGETS, to_target
from tests.commands import runner
from tests.test_mistakes import PIXELS, SHAPE, calibrated, network

CHIPS = ["loihi2", "truenorth", "horowitz45-int8"]
FEW = 4


@pytest.fixture(scope="module")
def snn() -> SpikingGraph:
    return fd.convert(calibrated(network(), bits=2))


def labels_for(snn: SpikingGraph) -> np.ndarray:
    """What the integer network answers, but for one of the images that are run step by step, and all later ones."""
    answers = integer_values(snn, PIXELS)[snn.outputs[0]].argmax(1)
    return np.where(np.arange(len(answers)) < FEW - 1, answers, (answers + 1) % 10)


@pytest.fixture(scope="module")
def found(snn: SpikingGraph) -> TargetComparison:
    return fd.compare_targets(snn, PIXELS, labels_for(snn), hardware=CHIPS, spiking_images=FEW)


def test_every_target_on_every_chip_has_a_row(found: TargetComparison, snn: SpikingGraph):
    names = [*TARGETS, "window", "burst2", "start-delay-1", "start-delay-2"]
    assert [choice.name for choice in default_choices(snn)] == names
    assert [(row.target, row.hardware) for row in found.rows] == [(name, chip) for name in names for chip in CHIPS]
    four = fd.convert(calibrated(network(), bits=4))
    others = ["burst2", "burst4", "start-delay-5", "start-delay-10", "start-delay-14"]
    assert [choice.name for choice in default_choices(four)][-5:] == others


def test_numbers_are_those_of_profile_and_evaluate(found: TargetComparison, snn: SpikingGraph):
    networks = {
        "signed-if": snn, "graded": with_neurons(snn, "graded"), "window": for_window(snn),
        "burst2": with_neurons(snn, "burst2"), "start-delay-2": with_start_delay(snn, 2),
        "stock-lif": to_target(snn, "stock-lif").network,
    }  # fmt: skip
    labels = labels_for(snn)
    for name, each in networks.items():
        profile, row = fd.profile(each, PIXELS[:FEW], "loihi2", labels=labels[:FEW]), found[name, "loihi2"]
        assert row.accuracy == fd.evaluate(each, PIXELS, labels).accuracy(), name
        assert profile.mapping is not None
        assert profile.timing is not None
        plain = found.to_dict()["rows"][found.rows.index(row)]
        assert plain["energy_pj"] == profile.energy["used chips"].energy.to_dict(), name  # type: ignore[union-attr]
        assert plain["dynamic_pj"] == profile.energy["dynamic"].energy.to_dict()  # type: ignore[union-attr]
        assert plain["latency_ns"] == next(iter(profile.timing.latencies.values())).value
        assert (plain["cores"], plain["chips"]) == (profile.mapping.cores, profile.mapping.chips)
        assert plain["synaptic_operations"] * FEW == profile.counts.total("synaptic_operations")
        assert plain["spikes"] * FEW == profile.counts.total("spikes")


def test_what_is_not_there_is_said(found: TargetComparison):
    row = found["sigma-delta", "loihi2"]
    assert row.profile is None
    assert "cannot take a maximum" in row.refused
    for name in ("signed-if", "graded", "start-delay-1"):
        row = found[name, "truenorth"]
        assert row.refused.startswith("the network does not fit")
        assert found.energy(row) is None
        assert row.latency_ns is None
        assert row not in found.front
    text = found.summary()
    for row in found.rows:
        assert not row.refused or f"{row.target}: refused, {row.refused}" in text
    assert [found.boundaries[name] for name in ("loihi2", "horowitz45-int8")] == ["used chips", "dynamic"]


def test_the_front_is_what_nothing_beats(found: TargetComparison):
    def costs(row: Row) -> list[float]:
        numbers = (found.energy(row).value, row.latency_ns, row.cores, -(row.right or 0))  # type: ignore[union-attr]
        return [number for number in numbers if number is not None]

    for chip in CHIPS:
        rows = [row for row in found.rows if row.hardware == chip and not row.refused]
        assert all(row.images == len(PIXELS) for row in rows)
        for row in rows:
            others = [other for other in rows if costs(other) != costs(row)]
            beaten = any(np.less_equal(costs(other), costs(row)).all() for other in others)
            assert found.on_front(row) == (not beaten), (row.target, chip)
    assert found["graded", "loihi2"] in found.front


def test_accuracies_on_other_images_are_not_compared(found: TargetComparison):
    """A target that only few images have seen competes on those images."""
    best = found["graded", "loihi2"]
    few = Row("graded", "", "loihi2", FEW, best.answered(True), False, best.profile, "")
    both = TargetComparison("net", (best, few), FEW, True)
    assert few.accuracy == 3 / 4
    assert best.accuracy == 3 / 6
    assert both.front == (best, few)


def test_without_labels_answers_are_those_of_the_integer_network(snn: SpikingGraph):
    seen: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        seen.append((done, total))

    found = fd.compare_targets(snn, PIXELS, targets=["window", "start-delay-1", "window"], progress=progress)
    assert found["start-delay-1", "loihi2"].accuracy == 1
    truth = integer_values(snn, PIXELS)[snn.outputs[0]].argmax(1)
    assert found["window", "loihi2"].accuracy == fd.evaluate(for_window(snn), PIXELS, truth).accuracy()
    assert [row.target for row in found.rows] == ["window", "start-delay-1"]
    assert seen == sorted(seen)
    assert seen[-1] == (4 * len(PIXELS), 4 * len(PIXELS))  # integers, a window as a whole, and two step by step


def test_a_target_that_says_exact_and_is_not_is_found_out(snn: SpikingGraph, monkeypatch: pytest.MonkeyPatch):
    from fastsnn_deploy.analysis.choosing import run

    monkeypatch.setattr(run._Work, "_matching", lambda self, graph, count: count + 1)
    with pytest.raises(MismatchError, match="graded: the answers are not those of the integer network"):
        fd.compare_targets(snn, PIXELS, targets=["graded"])


def test_only_networks_that_settle(snn: SpikingGraph, found: TargetComparison):
    options: dict = {"targets": ["signed-if"], "spiking_images": FEW}
    graded = fd.compare_targets(with_neurons(snn, "graded"), PIXELS, **options).rows[0]
    assert graded.each("spikes") == found["signed-if", "loihi2"].each("spikes")
    for other in (for_window(snn), with_start_delay(snn, 1), with_neurons(snn, "unsigned")):
        with pytest.raises(InputError, match="that settles, without a start delay"):
            fd.compare_targets(other, PIXELS)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    run = runner(monkeypatch, capsys)
    fd.save(fd.Checkpoint(calibrated(network(), bits=2), SHAPE), "model.pt")
    common = ("compare-targets", "model.pt", "--data", "random", "--samples", 4, "--spiking-samples", 2)
    some = ("--target", "graded", "--target", "sigma-delta", "--hardware", "loihi2", "--hardware", "truenorth")
    result = run(*common, *some, "--json", "--plot", "a.svg", "--csv", "a.csv")
    assert result.returncode == 0, result.stderr
    rows = json.loads(result.stdout)["rows"]
    assert [(row["target"], row["hardware"], bool(row["refused"])) for row in rows] == [
        ("graded", "loihi2", False), ("graded", "truenorth", True), ("sigma-delta", "loihi2", True),
        ("sigma-delta", "truenorth", True),
    ]  # fmt: skip
    with open("a.csv") as file:
        table = list(csv.DictReader(file))
    assert [float(row["cores"]) for row in table if row["cores"]] == [row["cores"] for row in rows if row["cores"]]
    assert ET.parse("a.svg").getroot().tag.endswith("svg")
    shown = run(*common, *some)
    assert "on it" in shown.stdout
    assert "sigma-delta: refused" in shown.stdout
    for wrong, says in (
        (("--target", "gradde"), "Did you mean 'graded'?"), (("--hardware", "speck2f"), "has no energies"),
        (("--plot", "a.pdf"), ".png or .svg"),
    ):  # fmt: skip
        result = run(*common, *wrong)
        assert result.returncode == 2
        assert says in " ".join(result.stderr.split())
