"""Files for SANA-FE: read by a second interpreter, they give the counts and energies that the profile has.

SANA-FE itself is run by scripts/sanafe_beside.py; docs/records/sanafe.json is what it found.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import fastsnn_deploy as fd
from fastsnn_deploy.analysis.hardware import Hardware, load_hardware
from fastsnn_deploy.analysis.mapping.sites import sites_of
from fastsnn_deploy.analysis.sanafe import run as sanafe
from fastsnn_deploy.analysis.sanafe.links import links_of
from fastsnn_deploy.analysis.sanafe.result import COUNTS, ENERGIES, SanafeExport
from fastsnn_deploy.analysis.structure import layers_of
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.lava_dl import Lif, StockDense, StockInput, StockNetwork
from fastsnn_deploy.targets.thermometer.network import to_thermometer
from tests.commands import runner
from tests.mapped_networks import small
from tests.pages import ROOT
from tests.random_graphs import random_graph, random_images
from tests.scripts import script

NET = "netx_exports/digits-2bit-unary.net"


def priced(seed: int, name: str = "loihi2") -> Hardware:
    """A chip on which every layer takes several cores, with the prices of a profile."""
    prices = load_hardware(name)
    return small(3 * seed).model_copy(update={"energies": prices.energies, "times": prices.times})


def exported(network: Any, images: Any, folder: Path, hardware: Hardware) -> SanafeExport:
    """On a chip that may be too small."""
    mapping = replace(fd.map_cores(network, hardware, suggest=False), violations=())
    return fd.export_sanafe(network, images, folder, hardware, mapping=mapping)


# --- what the files say, by an interpreter of its own


def interpreted(folder: Path, steps: int) -> dict[str, Any]:
    """Run the two files as SANA-FE's documentation has them: counts by name, and energies in pJ."""
    chip, file = (yaml.load((folder / name).read_text(), yaml.CSafeLoader) for name in ("arch.yaml", "network.yaml"))
    chip, network = chip["architecture"], file["network"]
    cores = {
        (tile["name"], core["name"]): core | {"hops": tile["attributes"]}
        for tile in chip["tile"]
        for core in tile["core"]
    }
    neurons: dict[str, dict[str, Any]] = {}
    for group in network["groups"]:
        for entry in group["neurons"]:
            for span, attributes in entry.items():
                first, last = (str(span).split("..") * 2)[:2]
                for number in range(int(first), int(last) + 1):
                    neurons[f"{group['name']}.{number}"] = dict(attributes.get("soma", {})) | {"v": 0, "in": 0}
    held: Counter[Any] = Counter()
    for entry in file["mappings"]:
        for name, place in entry.items():
            tile, core = str(place["core"]).split(".")
            key = f"tile{tile}", f"core{core}"
            neurons[name] |= {"core": key, "tile": int(tile), "soma": place["soma"]}
            held[key, "neurons"] += 1
            held[key, place["soma"]] += 1
            assert place["soma"] in units(cores[key]["soma"])
            assert place["dendrite"] in units(cores[key]["dendrite"])
    synapses: dict[str, list[tuple[str, int]]] = {name: [] for name in neurons}
    for entry in network["edges"]:
        for ends, edge in entry.items():
            before, after = ends.split(" -> ")
            for (a, b), weight in zip(edge["source_target_pairs"], edge["weight"], strict=True):
                synapses[f"{before}.{a}"].append((f"{after}.{b}", weight))
    for (key, what), number in held.items():
        assert number <= (cores[key]["attributes"]["max_neurons_supported"] if what == "neurons" else 1024)
    return totals(cores, neurons, synapses, steps, chip["attributes"]["height"])


def units(section: list[dict[str, Any]]) -> set[str]:
    """Names of the units of a core: "soma[0..2]" are three."""
    (unit,) = section
    name, ends = unit["name"].rstrip("]").split("[")
    first, last = map(int, ends.split(".."))
    return {f"{name}[{number}]" for number in range(first, last + 1)}


def totals(
    cores: dict[Any, Any], neurons: dict[str, Any], synapses: dict[str, Any], steps: int, rows: int
) -> dict[str, Any]:
    """Step by step, neuron by neuron, synapse by synapse."""
    found: Counter[str] = Counter()
    energy = dict.fromkeys(ENERGIES, 0.0)
    for step in range(steps):
        fired = []
        for name, each in neurons.items():
            (soma,) = cores[each["core"]]["soma"]
            prices, arriving = soma["attributes"], each["in"]
            each["in"] = 0
            energy["soma_pj"] += float(prices["energy_access_neuron"])
            if prices["model"] == "input":
                assert arriving == 0, "SANA-FE refuses synaptic input of an input neuron"
                spike = step < len(each.get("spikes", ())) and each["spikes"][step]
            else:
                each["v"] = each["v"] * each["leak_decay"] + each["bias"] + arriving
                if spike := each["v"] > each["threshold"]:
                    each["v"] = 0
            if spike:
                fired.append(name)
                energy["soma_pj"] += float(prices["energy_spike_out"])
        for name in fired:
            each = neurons[name]
            found["spikes"] += 1
            for target in {neurons[other]["core"]: neurons[other] for other, _ in synapses[name]}.values():
                away = [
                    abs(a - b) for a, b in zip(divmod(each["tile"], rows), divmod(target["tile"], rows), strict=True)
                ]
                found["messages"] += 1
                found["hops"] += sum(away)
                (out,) = cores[each["core"]]["axon_out"]
                hop = cores[target["core"]]["hops"]
                energy["network_pj"] += float(out["attributes"]["energy_message_out"])
                energy["network_pj"] += away[0] * float(hop["energy_east_hop"]) + away[1] * float(
                    hop["energy_north_hop"]
                )
            for other, weight in synapses[name]:
                neurons[other]["in"] += weight
                found["synaptic_operations"] += 1
                (synapse,) = cores[neurons[other]["core"]]["synapse"]
                energy["synapse_pj"] += float(synapse["attributes"]["energy_process_spike"])
    return {key: found[key] for key in COUNTS} | {key: value * 1e12 for key, value in energy.items()}


def assert_says_what_is_expected(made: SanafeExport) -> None:
    found, expected = interpreted(made.folder, made.steps), json.loads((made.folder / "expected.json").read_text())
    assert expected == made.to_dict()
    for key in COUNTS:
        assert found[key] == expected["totals"][key], key
    for key in ENERGIES:
        assert math.isclose(found[key], expected["totals"][key], rel_tol=1e-9), key


@pytest.mark.parametrize("seed", range(1, 5))
def test_replayed_spikes_cost_what_the_profile_says(seed: int, tmp_path: Path):
    graph, hardware = random_graph(seed), priced(seed)
    images = graph.encode(random_images(graph, seed))
    made = exported(graph, images, tmp_path / "out", hardware)
    assert_says_what_is_expected(made)
    mapping = replace(fd.map_cores(graph, hardware, suggest=False), violations=())
    known = fd.profile(graph, images, hardware, mapping=mapping)
    assert made.steps == known.counts.steps
    chip = {layer.name for layer in mapping.layers}
    for layer in made.layers:
        counts = known.counts[layer.layer]
        assert (layer.spikes, layer.synaptic_operations) == (counts.spikes, counts.synaptic_operations)
        (amounts,) = (each.amounts for each in known.energy.layers if each.name == layer.layer)
        for key, number in (("messages", layer.messages), ("hops", layer.hops)) if layer.layer in chip else ():
            assert round(made.images * sum(amounts.get(key, {}).values())) == number
    on_chip = [layer for layer in made.layers if layer.layer in chip]
    terms = known.energy.terms
    soma = (terms["neuron_updates_inactive"].value + terms["neuron_updates_active"].value) * made.images
    assert math.isclose(sum(layer.soma_pj for layer in on_chip), soma, rel_tol=1e-9)
    assert math.isclose(made.total("synapse_pj"), terms["synaptic_operations"].value * made.images, rel_tol=1e-9)


@pytest.mark.parametrize("seed", [2, 29])
def test_stock_neurons_find_their_spikes_from_the_weights_in_the_file(seed: int, tmp_path: Path):
    """Warm-up and the steps behind the last image are counted, too."""
    population = to_thermometer(random_graph(seed, max_size=5, max_channels=2, blocks=2))
    emitted = population.graph.encode(random_images(population.graph, seed))
    network = population.network
    made = exported(network, emitted, tmp_path / "out", priced(seed))
    assert set(made.computed) == {network.names[index] for index in network.weighted[1:]}
    assert made.computed
    assert made.steps == len(emitted) + network.depth
    assert_says_what_is_expected(made)
    file = tmp_path / "out" / "network.yaml"
    file.write_text(file.read_text().replace("bias: -", "bias: "))
    assert interpreted(made.folder, made.steps)["spikes"] != made.total("spikes")


@pytest.mark.parametrize("seed", range(8))
def test_every_synapse_is_there_once(seed: int):
    graph = random_graph(seed, transposed=bool(seed % 2))
    found: dict[str, Counter[int]] = {}
    for link in links_of(graph, sites_of(graph)):
        found.setdefault(f"{link.name} {link.before}", Counter()).update(link.source.tolist())
    for connection in (each for layer in layers_of(graph) for each in layer.incoming):
        start = 0
        for source, _ in connection.sources:
            fan = connection.fan[start : start + graph[source].size]
            start += len(fan)
            assert found[f"{connection.name} {source}"] == Counter(dict(enumerate(fan.tolist())))


# --- what is refused


def test_what_sana_fe_cannot_hold_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    graph = fd.read(NET)
    assert isinstance(graph, SpikingGraph)
    images = np.zeros((1, *graph.input.shape))
    out = tmp_path / "out"
    with pytest.raises(InputError, match=r"does not fit on 'loihi1-sanafe'(.|\n)*stem.0: negative spikes"):
        fd.export_sanafe(graph, images, out, "loihi1-sanafe")
    prices = load_hardware("loihi1-sanafe").energies
    mixed = load_hardware("loihi2").model_copy(update={"energies": prices})
    with pytest.raises(InputError, match=r"one price(.|\n)*block1.second.0: .*Conv2d 24 pJ, Identity 33.6 pJ"):
        fd.export_sanafe(graph, images, out, mixed)
    with pytest.raises(InputError, match="no energies"):
        fd.export_sanafe(graph, images, out, "speck2f")
    with pytest.raises(InputError, match="there is no image"):
        fd.export_sanafe(graph, images[:0], out)
    with pytest.raises(InputError, match="Map it to this one"):
        fd.export_sanafe(graph, images, out, "loihi2", mapping=fd.map_cores(graph, "loihi2-2023"))
    with pytest.raises(InputError, match="a network with other layers"):
        fd.export_sanafe(graph, images, out, "loihi2", mapping=fd.map_cores(random_graph(1), "loihi2"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter").touch()
    with pytest.raises(InputError, match="holds letter, and is no SANA-FE export"):
        fd.export_sanafe(graph, images, tmp_path / "full")
    monkeypatch.setattr(sanafe, "MOST_SYNAPSES", 433_727)
    with pytest.raises(InputError, match=r"433,728 synapses, .* at most 433,727"):
        fd.export_sanafe(graph, images, out)
    leaky = StockDense(shape=(2,), weight=np.ones((2, 2), dtype=np.int64), bias=None, neuron=Lif(5, v_decay=10))
    with pytest.raises(InputError, match="stock neurons with memory"):
        fd.export_sanafe(StockNetwork((StockInput(shape=(2,)), leaky)), np.zeros((1, 2)), out)
    assert not out.exists()


# --- the command, and the record


def test_the_command_writes_and_writes_again(
    net_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    run, out = runner(monkeypatch, capsys), tmp_path / "out"
    for extra in ((), ("--json",)):
        result = run("sanafe", net_file, "--data", "random", "--samples", 1, "-o", out, *extra)
        assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == json.loads((out / "expected.json").read_text())
    assert {path.name for path in out.iterdir()} == {"arch.yaml", "network.yaml", "expected.json"}


def test_sana_fe_found_every_count_and_the_page_says_so():
    record = json.loads((ROOT / "docs" / "records" / "sanafe.json").read_text())
    assert len(record["cases"]) == 3
    for case in record["cases"]:
        rows = [*case["counts"], *case["profile"]]
        assert all(row["equal"] and row["here"] == row["sanafe"] for row in rows)
        assert {row["what"] for row in rows} >= {*COUNTS, "spikes by neuron and step"}
        assert all(math.isclose(row["here"], row["sanafe"], rel_tol=1e-9) for row in case["energy_uj"])
        assert bool(case["profile"]) != bool(case["computed"])
        assert case["least_ms"] is None or case["least_ms"] <= case["sanafe_ms"]
    text = (ROOT / "docs" / "sanafe.md").read_text(encoding="utf-8")
    assert "\n".join(script("sanafe_beside").page(record)) in text
