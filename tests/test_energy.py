"""Energy by boundary against numbers worked out by hand; every option and constant of the estimator moves it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fastsnn_deploy as fd
from fastsnn_deploy.analysis.energies import BOUNDARIES, ENDS
from fastsnn_deploy.analysis.energy import estimate
from fastsnn_deploy.analysis.hardware import Hardware, load_hardware, named_constants
from fastsnn_deploy.analysis.mapping.sites import sites_of
from fastsnn_deploy.analysis.profile import profile
from fastsnn_deploy.analysis.result import Profile
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph import SpikingGraph
from tests.commands import runner
from tests.mapped_networks import core_numbers, small, targets_of
from tests.random_graphs import random_graph, random_images

NET = "netx_exports/digits-2bit-unary.net"


@pytest.fixture(scope="module")
def graph() -> SpikingGraph:
    found = fd.read(NET)
    assert isinstance(found, SpikingGraph)
    return found


@pytest.fixture(scope="module")
def images(graph: SpikingGraph) -> np.ndarray:
    return np.random.default_rng(0).random((3, *graph.input.shape))


@pytest.fixture(scope="module")
def found(graph: SpikingGraph, images: np.ndarray) -> Profile:
    return profile(graph, images, "loihi2", labels=np.arange(3))


def test_static_energy_is_power_times_the_least_time(found: Profile) -> None:
    mapping, timing, power = found.mapping, found.timing, found.hardware.power
    assert mapping is not None
    assert timing is not None
    assert [each.name for each in found.energy.boundaries] == list(BOUNDARIES)
    factors = {"used cores": mapping.cores / 128, "used chips": mapping.chips, "board": 1}
    for boundary in found.energy.boundaries[1:]:
        constant = power.board if boundary.name == "board" else power.static
        assert boundary.power is not None
        assert boundary.energy is not None
        assert boundary.edp is not None
        for end in ENDS:
            milliwatts = factors[boundary.name] * getattr(constant, end)
            static = milliwatts * 1e-3 * getattr(timing.image, end) * 1e-9 * 1e12
            assert getattr(boundary.power, end) == pytest.approx(milliwatts)
            assert getattr(boundary.energy, end) == pytest.approx(getattr(found.energy.dynamic, end) + static)
            joules, seconds = getattr(boundary.energy, end) * 1e-12, getattr(timing.image, end) * 1e-9
            assert getattr(boundary.edp, end) == pytest.approx(joules * seconds)
    energies = [boundary.energy.value for boundary in found.energy.boundaries if boundary.energy]
    assert energies == sorted(energies)


def test_a_measured_step_takes_the_place_of_the_least(graph: SpikingGraph, images: np.ndarray, found: Profile) -> None:
    slow = profile(graph, images, "loihi2", step_time_us=152.8)
    seconds = 152.8e-6 * slow.counts.steps / slow.counts.images
    chips = slow.energy["used chips"].energy
    assert chips is not None
    assert chips.value == pytest.approx(slow.energy.dynamic.value + 0.232 * seconds * 1e12)
    assert slow.energy.dynamic == found.energy.dynamic
    assert not any(key.startswith("times.") for key in slow.energy.used)


@pytest.mark.parametrize("seed", range(6))
def test_messages_and_hops_are_those_of_every_spike(seed: int) -> None:
    """Spike by spike: the cores that hold a synapse of its neuron."""
    graph, hardware = random_graph(seed), small(seed)
    prices = load_hardware("loihi2").energies
    hardware = hardware.model_copy(update={"energies": prices, "times": load_hardware("loihi2").times})
    mapping = fd.map_cores(graph, hardware, suggest=False)
    mapping = replace(mapping, violations=())
    run = profile(graph, random_images(graph, seed), hardware, mapping=mapping)
    cores = {layer.name: core_numbers(layer.grid).reshape(-1) for layer in mapping.layers}
    for layer in (layer for layer in mapping.layers if run.counts[layer.name].sends):
        sent = run.evaluation.activity[layer.name].spikes.reshape(-1)
        readers = {site.name: cores[site.name] + mapping[site.name].first for site in sites_of(graph) if site.placed}
        messages = sum(int(n) * len(to) for n, to in zip(sent, targets_of(graph, layer.name, readers), strict=True))
        amounts = next(each for each in run.energy.layers if each.name == layer.name).amounts
        assert amounts["messages"]["energies.message"] * run.counts.images == pytest.approx(messages)


def test_energy_of_each_image_adds_up(found: Profile) -> None:
    each = found.energy.by_image
    assert each is not None
    assert each.values.shape == (3,)
    assert each.values.mean() == pytest.approx(found.energy.dynamic.value)
    told = found.statistics["dynamic_energy_pj"]
    assert told.min <= told.p50 <= told.p99 <= told.max
    assert told.mean == pytest.approx(found.energy.dynamic.value)
    assert found.statistics["synaptic_operations"].mean * 3 == pytest.approx(found.counts.total("synaptic_operations"))
    assert found.statistics["steps"].max == found.counts.max_steps


def changed(hardware: Hardware, key: str, factor: float) -> Hardware:
    section, name = key.split(".", 1)
    constant = dict(hardware.constants())[key]
    update = {end: getattr(constant, end) * factor for end in ENDS}
    field, _, entry = name.partition(".")
    old = getattr(hardware, section)
    new = constant.model_copy(update=update)
    value = {**getattr(old, field), entry: new} if entry else new
    return hardware.model_copy(update={section: old.model_copy(update={field: value})})


def total(result: Profile) -> tuple[float, ...]:
    return tuple(each.energy.value for each in result.energy.boundaries if each.energy)


@pytest.mark.parametrize("name", ["loihi2", "loihi1-davies2018", "loihi1-sanafe"])
def test_every_constant_that_is_shown_moves_the_estimate(graph: SpikingGraph, images: np.ndarray, name: str) -> None:
    """And nothing that is used costs nothing. Times bind or not: one that does not is made to."""
    hardware = load_hardware(name)
    mapping = replace(fd.map_cores(graph, hardware, suggest=False), violations=())
    before = profile(graph, images, hardware, mapping=mapping)
    assert before.energy.used
    for key in before.energy.used:
        other = changed(hardware, key, 1000.0)
        after = profile(graph, images, other, mapping=replace(mapping, hardware=other))
        assert total(after) != total(before), key
    for layer in before.energy.layers:
        for term, keys in layer.amounts.items():
            for key, amount in keys.items():
                assert (layer.terms[term].value > 0) == (amount > 0), (layer.name, key)
    assert {each.key for each in before.energy.tornado} <= set(before.energy.used)
    widths = [each.width for each in before.energy.tornado]
    assert widths == sorted(widths, reverse=True)


def test_every_option_moves_the_estimate(
    graph: SpikingGraph, images: np.ndarray, found: Profile, tmp_path: Path
) -> None:
    path = tmp_path / "mapping.json"
    fd.map_cores(graph, "loihi2", objective="balance", cores=60).save(path)
    others = {
        "images": profile(graph, images[:2], "loihi2"),
        "hardware": profile(graph, images, "loihi1-davies2018"),
        "steps": profile(graph, images, "loihi2", steps=30),
        "step_time_us": profile(graph, images, "loihi2", step_time_us=9.0),
        "mapping": profile(graph, images, "loihi2", mapping=path),
        "neurons": profile(fd.read("netx_exports/digits-2bit-graded.net"), images, "loihi2"),
    }
    numbers = {name: total(result) for name, result in others.items()} | {"": total(found)}
    assert len(set(numbers.values())) == len(numbers), numbers
    assert found.timing is not None
    assert profile(graph, images, "loihi2").timing.first_right == {}
    assert found.timing.first_right or found.timing.never_right == 3


def test_break_even(found: Profile) -> None:
    chips = found.energy["used chips"]
    static, rival = (
        next(each for each in found.energy.break_even if each.what == what and each.boundary == "used chips")
        for what in ("static equals dynamic", "chip beats int8")
    )
    assert static.value == pytest.approx(chips.power.value * 1e-3 / (found.energy.dynamic.value * 1e-12))
    assert static.low < static.value < static.high
    eight = next(each for each in found.ann_energy if each.name == "int8")
    assert found.energy.dynamic.value > eight.total.value
    assert rival.value is None
    assert "take less at every rate" in rival.text
    cheap = load_hardware("loihi2")
    for key in ("synaptic_operation", "neuron_update_inactive", "neuron_update_active", "message", "hop"):
        cheap = changed(cheap, f"energies.{key}", 1e-4)
    mapping = replace(found.mapping, hardware=cheap)
    wins = profile(fd.read(NET), np.random.default_rng(0).random((3, 1, 8, 8)), cheap, mapping=mapping)
    gain = eight.total.value - wins.energy.dynamic.value
    rival = next(x for x in wins.energy.break_even if x.what == "chip beats int8" and x.boundary == "used chips")
    assert rival.value == pytest.approx(232 * 1e9 / gain)
    assert rival.reachable == (rival.value <= wins.timing.images_per_second)
    assert "takes less than" in next(line for line in wins.verdicts if "at 8 bits" in line)
    assert "loses to" in next(line for line in found.verdicts if "at 8 bits" in line)


def test_memory_and_arithmetic_of_the_network_without_spikes(found: Profile) -> None:
    ann, layers = found.ann, found.ann.layers
    own, eight, floating = found.ann_energy
    values = sum(layer.parameters + layer.reads + layer.neurons for layer in layers)
    prices = load_hardware("horowitz45-int8").prices.memory_word
    assert eight.memory.value == pytest.approx(values * 8 / 64 * prices["32"].value)
    assert floating.memory.value == pytest.approx(values * 32 / 64 * prices["1024"].value)
    assert own.memory.value < eight.memory.value * 1.01
    assert own.dense.value < eight.dense.value < floating.dense.value
    macs = ann.total("macs") / 3
    additions = ann.total("additions") / 3
    assert own.dense.value == pytest.approx(ann.total("mac_bits") / 3 / 64 * 0.2 + macs * 0.03 + additions * 0.03)
    assert eight.dense.value == pytest.approx(macs * 0.23 + additions * 0.03)


def test_a_network_that_does_not_fit_has_dynamic_energy_alone(graph: SpikingGraph, images: np.ndarray) -> None:
    result = profile(graph, images, "truenorth")
    assert result.mapping is not None
    assert not result.mapping.fits
    assert "does not fit" in result.unplaced
    assert result.timing is None
    assert [each.name for each in result.energy.boundaries if each.energy] == ["dynamic"]
    assert result.energy["board"].reason == result.unplaced
    assert "hops" not in result.energy.terms
    assert "not on cores: the network does not fit" in result.summary()
    arithmetic = profile(graph, images, "horowitz45-int8")
    assert arithmetic.mapping is None
    assert "no limits of a chip" in arithmetic.unplaced


def test_mistakes(graph: SpikingGraph, images: np.ndarray, found: Profile) -> None:
    with pytest.raises(InputError, match="is for 'loihi2', not 'loihi2-2023'"):
        profile(graph, images, "loihi2-2023", mapping=found.mapping)
    with pytest.raises(InputError, match="a network with other layers"):
        profile(graph, images, "loihi2", mapping=fd.map_cores(random_graph(1), "loihi2", suggest=False))
    with pytest.raises(InputError, match="mapping: got 3"):
        profile(graph, images, "loihi2", mapping=3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no mapping fits"):
        profile(graph, images, "horowitz45-int8", mapping=found.mapping)
    with pytest.raises(InputError, match=r"step_time_us: got 0.0 .*greater than 0"):
        profile(graph, images, "loihi2", step_time_us=0.0)
    with pytest.raises(InputError, match="labels reach from 11"):
        profile(graph, images, "loihi2", labels=[11, 12, 13])
    with pytest.raises(InputError, match="positive and finite"):
        estimate(found.counts, found.hardware, step_time_us=float("inf"))


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = runner(monkeypatch, capsys)
    path = tmp_path / "mapping.json"
    assert run("map", NET, "--out", str(path)).returncode == 0
    arguments = ("profile", NET, "--samples", "2", "--data", "random")
    monkeypatch.setenv("COLUMNS", "80")
    text = run(*arguments, "--mapping", str(path), "--step-time", "20")
    assert text.returncode == 0, text.stderr
    assert max(map(len, text.stdout.splitlines())) <= 80
    for words in ("Energy by boundary", "Over images", "used chips", "the host is not modelled", "loses to"):
        assert " ".join(words.split()) in " ".join(text.stdout.split())
    plain = json.loads(run(*arguments, "--json").stdout)
    assert [each["name"] for each in plain["energy_pj_per_image"]["boundaries"]] == list(BOUNDARIES)
    assert plain["statistics"]["spikes"]["mean"] > 0
    assert run(*arguments, "--step-time", "-1").returncode == 2
    assert run(*arguments, "--mapping", "nowhere.json").returncode == 2


def test_constants_of_a_memory_are_named_by_their_size() -> None:
    keys = [key for key, _ in named_constants(load_hardware("horowitz45-int8").prices)]
    assert keys[-4:] == ["memory_word.8", "memory_word.32", "memory_word.1024", "memory_word.dram"]
