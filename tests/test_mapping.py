"""The core mapper against Intel's printed tables, against brute force on random graphs, and against a plain greedy."""

from __future__ import annotations

import itertools
import json
from math import ceil
from pathlib import Path

import numpy as np
import pytest

import fastsnn_deploy as fd
from fastsnn_deploy.analysis.chip import Chip
from fastsnn_deploy.analysis.hardware import load_hardware
from fastsnn_deploy.analysis.mapping.grid import Grid
from fastsnn_deploy.analysis.mapping.kinds import KINDS
from fastsnn_deploy.analysis.mapping.kinds.base import mantissa_bits, weight_bits
from fastsnn_deploy.analysis.mapping.partition import Partition, fewest_cores
from fastsnn_deploy.analysis.mapping.place import routers
from fastsnn_deploy.analysis.mapping.result import Mapping
from fastsnn_deploy.analysis.mapping.sites import Site, sites_of
from fastsnn_deploy.analysis.mapping.usage import worst
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph import MaxPool2d, SpikingGraph, Synapse
from fastsnn_deploy.graph.node import NODE_TYPES
from fastsnn_deploy.lava_dl import Lif, StockDense, StockFlatten, StockInput, StockNetwork
from fastsnn_deploy.targets import to_target
from tests.conformance.chains import chain
from tests.mapped_networks import (
    PILOTNET,
    YOLO,
    connections,
    conv,
    core_numbers,
    dense,
    elements,
    full,
    links,
    pilotnet,
    reach,
    refused,
    small,
    targets_of,
    with_limits,
    yolo,
)  # fmt: skip
from tests.random_graphs import random_graph


def test_yolo_kp_as_the_compiler_of_2024_prints_it():
    found = fd.map_cores(yolo(), "loihi2")
    assert found.fits
    assert found.cores == 574
    limits = dict(load_hardware("loihi2").limits.core.given())
    keys = ("neurons", "synapse_words", "axon_map_words", "axon_memory_words", "total_words")
    for layer, (*_, tile, percent, cores) in zip(found.layers, YOLO, strict=True):
        assert layer.tile == tile[::-1]
        assert layer.cores == cores
        shares = (100 * int(layer.used[key][0]) / limits[key].value for key in keys)
        assert [f"{share:.2f}" for share in shares] == [f"{printed:.2f}" for printed in percent]


@pytest.mark.parametrize(("which", "cores"), [(0, 74), (1, 61)], ids=["LIF", "SDNN"])
def test_pilotnet_as_the_compiler_of_2023_prints_it(which: int, cores: int):
    """SDNN: the notebook skips the input layer. One row of SDNN is one word longer here than what is printed."""
    found = fd.map_cores(pilotnet(which), "loihi2-2023", host_input=which == 1)
    assert found.fits
    assert found.cores == cores
    layers = found.layers[1 - which :]
    for layer, (_, _, tile, words, number) in zip(layers, PILOTNET, strict=True):
        assert layer.tile == tile[::-1]
        assert layer.cores == number
        expected = 3456 if (which, layer.name) == (1, "conv.5") else words[which]
        assert int(layer.used["synapse_words"].mean()) == expected
    if which == 0:
        first = found.layers[0]
        assert (first.tile, first.cores) == ((3, 66, 16), 13)
        assert [int(first.used[key].mean()) for key in ("axon_map_words", "axon_memory_words")] == [1015, 731]
        for name, axon_map, axon_memory in (("conv.4", 29, 9), ("conv.5", 1280, 0)):
            used = found[name].used
            assert [int(used[key].mean()) for key in ("axon_map_words", "axon_memory_words")] == [axon_map, axon_memory]


@pytest.mark.parametrize("bits", [2, 8])
def test_the_network_that_the_compiler_refused_is_refused_with_its_layer(bits: int):
    found = fd.map_cores(refused(bits=bits), "loihi2-2023", suggest=False)
    assert not found.fits
    (violation,) = found.violations
    assert violation.layer == "conv.3"
    assert "lists to dense layers" in violation.what
    assert "layer 'dense.5'" in violation.what
    assert violation.number > violation.limit == 16000


def test_what_would_make_it_fit_was_tried_and_does():
    found = fd.map_cores(refused(), "loihi2-2023")
    (violation,) = found.violations
    assert violation.fixes == (
        "250 neurons in place of 1,000 in layer 'dense.5': the network then fits, on 236 cores",
        "4 channels in place of 8: the network then fits, on 366 cores",
    )
    assert found.fixes == ("--hardware loihi2: the network fits there, on 670 cores",)
    for changed, cores in ((refused(outputs=250), 236), (refused(channels=4), 366)):
        again = fd.map_cores(changed, "loihi2-2023")
        assert (again.fits, again.cores) == (True, cores)
    assert fd.map_cores(refused(), "loihi2").cores == 670


def test_dense_layers_with_too_many_inputs_name_bits_inputs_and_a_split():
    def network(inputs: int, bits: int = 8) -> StockNetwork:
        layers = (dense(600, 8, 127, Lif(0)), dense(40, 600, 127, Lif(0)), dense(10, 40, 127, Lif(0)))
        first = StockDense(shape=(inputs,), weight=full((inputs, 4), 1), bias=None, neuron=Lif(0))
        second = dense(600, inputs, 2 ** (bits - 1) - 1, Lif(0))
        return StockNetwork((StockInput(shape=(4,)), first, second, *layers[1:]))

    small = with_limits(load_hardware("loihi2"), synapse_words=3000, total_words=4000)
    found = fd.map_cores(network(3200), small, suggest=True)
    (violation,) = found.violations
    assert (violation.layer, violation.resource) == ("dense.2", "chip.core.synapse_words")
    assert (violation.number, violation.limit) == (3200, 3000)
    assert [fix.split(":")[0] for fix in violation.fixes] == [
        "1,600 channels in place of 3,200 in layer 'dense.1'",
        "split into 2 layers of 1,600 input channels each and their sum",
    ]
    again = fd.map_cores(network(1600), small)
    assert again.fits
    assert violation.fixes[0].endswith(f"the network then fits, on {again.cores:,} cores")


# --- brute force on random graphs


def words_of(graph: SpikingGraph, connection: Synapse | MaxPool2d, channels: list[int], chip: Chip) -> int:
    """Rows of synaptic memory: for each source row, the weights that it holds for these output channels."""
    kernel = connection.as_primitive() if isinstance(connection, Synapse) else connection
    header, bits = chip.rows.header_bits.value, 2
    if isinstance(connection, Synapse):
        bits = weight_bits(connection.weight)
    if isinstance(kernel, MaxPool2d):
        return len(channels) * kernel.kernel[0] * kernel.kernel[1] * ceil((bits + header) / 64)
    if kernel.weight.ndim == 2:
        return kernel.weight.shape[1] * ceil((len(channels) * (bits + chip.rows.synapse_bits.value) + header) / 64)
    held: dict[tuple[int, int, int, int], int] = {}
    per_group = kernel.weight.shape[0] // kernel.groups
    for channel in channels:
        for place in np.ndindex(*kernel.weight.shape[1:]):
            key = (channel // per_group, *place)
            held[key] = held.get(key, 0) + 1
    return sum(ceil((number * bits + header) / 64) for number in held.values())


def brute_force(graph: SpikingGraph, found: Mapping, site: Site) -> list[dict[str, int]]:
    """What each core of a layer holds, neuron by neuron."""
    chip, layer = found.hardware.limits, found[site.name]
    numbers = {each.name: core_numbers(each.grid).reshape(-1) for each in found.layers}
    readers = []
    for other in sites_of(graph):
        for connection in connections(graph, other) if other.placed else []:
            for name, places in reach(graph, connection.inputs[0]):
                if name == site.name:
                    readers.append((links(graph, connection)[places], numbers[other.name], connection))
    dense_too = [getattr(each.weight, "ndim", 0) == 2 if isinstance(each, Synapse) else False for *_, each in readers]
    shared_axons = bool(readers) and not any(dense_too)
    each = 2 if chip.soft_reset == "two neurons" and site.soft else 1
    cores = []
    for number, places in enumerate(elements(layer.grid)):
        mine = numbers[site.name] == number
        positions = len({place[1:] for place in places})
        lists = [0, 0]
        for (reached, theirs, _), is_dense in zip(readers, dense_too, strict=True):
            lists[is_dense] += len(set(theirs[reached[mine].any(0)].tolist()))
        neurons, axons = len(places) * each, positions if shared_axons else len(places)
        entries = chip.rows.entries.value
        held = {"neurons": neurons, "axon_map_words": axons}
        channels = sorted({place[0] for place in places})
        held["synapse_words"] = sum(words_of(graph, c, channels, chip) for c in connections(graph, site))
        if chip.core.dense_list_words is None:
            held["axon_memory_words"], held["dense_list_words"] = ceil(neurons * sum(lists) / entries), 0
        else:
            held["axon_memory_words"] = ceil(axons * lists[0] / entries)
            held["dense_list_words"] = ceil(neurons * lists[1] / entries)
        groups = (chip.rows.groups if readers else chip.rows.groups_output).value
        held["total_words"] = groups + sum(held[key] for key in held if key != "dense_list_words")
        if chip.core.input_axons is not None:
            held["input_axons"] = sum(int(links(graph, c)[:, mine].any(1).sum()) for c in connections(graph, site))
        cores.append(held)
    return cores


@pytest.mark.parametrize("seed", range(18))
def test_every_core_holds_what_brute_force_counts(seed: int):
    graph = random_graph(seed, transposed=seed % 2 == 0)
    found = fd.map_cores(graph, small(seed), suggest=False)
    for site in (site for site in sites_of(graph) if site.placed):
        counted = brute_force(graph, found, site)
        used = found[site.name].used
        assert len(counted) == found[site.name].cores
        for key in counted[0]:
            assert used[key].tolist() == [core[key] for core in counted], (site.name, key)
    over = {violation.layer for violation in found.violations if violation.resource.startswith("chip.core.")}
    for layer in found.layers:
        assert (worst(layer.used, found.hardware.limits)[1] > 1) == (layer.name in over)


def greedy(partition: Partition, site: Site) -> int:
    """Cores of the plainest way: halve columns, then rows, then channels until the limits hold."""
    channels, height, width = site.map
    rows, columns, parts = height, 2 ** (width.bit_length() - 1), 0
    while True:
        grid = Grid(site.map, (-(-channels // 2**parts), rows, columns))
        if worst(partition.usage(site, grid), partition.chip)[1] <= 1:
            return grid.cores
        if columns > 1:
            columns //= 2
        elif rows > 1:
            rows = -(-rows // 2)
        elif grid.tile[0] > 1:
            parts += 1
        else:
            return 10**9


@pytest.mark.parametrize("seed", range(0, 36, 3))
def test_no_layer_takes_more_cores_than_a_plain_greedy(seed: int):
    partition = fewest_cores(sites_of(random_graph(seed)), small(seed).limits)
    for site in partition.placed:
        assert partition.grids[site.name].cores <= greedy(partition, site), site.name


@pytest.mark.parametrize("seed", range(6))
def test_travel_is_counted_neuron_by_neuron(seed: int):
    """One message to each core where the neuron has a synapse, by however many connections."""
    graph = random_graph(seed)
    found = fd.map_cores(graph, small(3 * seed), suggest=False)
    chip = found.hardware.limits
    numbers = {each.name: core_numbers(each.grid).reshape(-1) + each.first for each in found.layers}
    spots = np.stack(routers(np.arange(found.cores), chip), 1)
    for layer in found.layers:
        far = np.zeros((3, np.prod(layer.shape)), dtype=int)
        for neuron, targets in enumerate(targets_of(graph, layer.name, numbers)):
            away = np.abs(spots[numbers[layer.name][neuron]] - spots[np.array(sorted(targets), dtype=int)])
            far[:, neuron] = len(targets), away[:, :2].sum(), away[:, 2].sum()
        travel = layer.travel
        assert (np.stack([travel.destinations, travel.crossed, travel.between_chips]) == far).all()
        assert [travel.destination_cores, travel.hops, travel.chip_links] == far.mean(1).tolist()
    assert found.chip_links == sum(layer.travel.between_chips.sum() for layer in found.layers)


def test_layers_follow_each_other_and_chips_are_counted():
    found = fd.map_cores(yolo(), "loihi2")
    assert found.layers[0].first == 0
    for a, b in itertools.pairwise(found.layers):
        assert b.first == a.first + a.cores
    assert (found.chips, found.board) == (5, "Kapoho Point")
    columns, rows, chips = routers(np.array([0, 3, 4, 31, 32, 119, 120]), load_hardware("loihi2").limits)
    assert columns.tolist() == [0, 0, 1, 7, 7, 2, 8]
    assert rows.tolist() == [0, 0, 0, 0, 1, 3, 0]
    assert chips.tolist() == [0, 0, 0, 0, 0, 0, 1]


# --- objectives, violations, targets


def graph_of(seed: int = 7) -> SpikingGraph:
    return random_graph(seed)


@pytest.mark.parametrize("seed", [1, 4, 7])
def test_balance_lowers_the_fullest_core_within_its_cores(seed: int):
    chip = with_limits(load_hardware("loihi2"), neurons=400, total_words=3000)
    least = fd.map_cores(random_graph(seed), chip)
    budget = least.cores + 12
    even = fd.map_cores(random_graph(seed), chip, objective="balance", cores=budget)

    def fullest(found: Mapping) -> float:
        return max(worst(layer.used, found.hardware.limits)[1] for layer in found.layers)

    assert least.cores <= even.cores <= budget
    assert even.fits
    assert fullest(even) < fullest(least)
    assert fullest(fd.map_cores(random_graph(seed), chip, objective="balance", cores=least.cores)) <= fullest(least)


@pytest.mark.parametrize("name", ["loihi2", "loihi2-2023", "loihi1-davies2018", "truenorth"])
def test_every_limit_moves_the_mapping(name: str):
    """One unit less than what the fullest core holds: other tiles, or a violation."""
    hardware = load_hardware(name)
    network = StockNetwork(
        (
            StockInput(shape=(2, 20, 20)),
            conv((8, 20, 20), 2, 3, 7, Lif(0), padding=(1, 1)),
            conv((8, 10, 10), 8, 3, 7, Lif(0), padding=(1, 1), stride=(2, 2)),
            StockFlatten(shape=(800,)),
            dense(200, 800, 7, Lif(0)),
            dense(10, 200, 7, Lif(0)),
        )
    )
    found = fd.map_cores(network, hardware, suggest=False)
    for key, _ in hardware.limits.core.given():
        most = max(int(layer.used[key].max()) for layer in found.layers)
        again = fd.map_cores(network, with_limits(hardware, **{key: most - 1}), suggest=False)
        tiles = [[layer.tile for layer in each.layers] for each in (found, again)]
        assert most > 1, key
        assert tiles[0] != tiles[1] or len(again.violations) > len(found.violations), key


def test_too_few_cores_is_a_violation_with_the_number():
    network = pilotnet(0)
    found = fd.map_cores(network, "loihi2-2023", cores=64)
    (violation,) = found.violations
    assert (violation.layer, violation.number, violation.limit) == ("", 74, 64)
    assert "25, for layer 'conv.1'" in violation.what
    assert "--cores 74: the network then fits" in violation.fixes
    assert fd.map_cores(network, "loihi2-2023", cores=74).fits


def test_all_violations_are_listed_at_once_with_their_modules():
    found = fd.map_cores("netx_exports/digits-2bit-unary.net", "loihi1-davies2018")
    resources = {violation.resource for violation in found.violations}
    assert resources == {"spikes.signed", "chip.ranges.bias_bits", "chip.ranges.threshold_bits"}
    assert len(found.violations) == 16
    assert {v.module for v in found.violations} >= {"relu", "block1.relu", "block2.relu"}
    assert found.fixes[0] == "export --target stock-lif: the network then fits, on 30 cores"
    stock = to_target(fd.read("netx_exports/digits-2bit-unary.net"), "stock-lif").network
    again = fd.map_cores(stock, "loihi1-davies2018")
    assert (again.fits, again.cores) == (True, 30)


def speck(*sizes: tuple[int, int, int], kernel: int = 3, stride: int = 1) -> StockNetwork:
    """Convolutions that keep maps of the given (C, H, W), the first the input."""
    layers = [
        conv(after, before[0], kernel, 1, Lif(0), padding=(kernel // 2, kernel // 2), stride=(stride, stride))
        for before, after in itertools.pairwise(sizes)
    ]
    return StockNetwork((StockInput(shape=sizes[0]), *layers))


def on_speck(network: StockNetwork) -> Mapping:
    hardware = load_hardware("speck2f")
    ranges = hardware.limits.ranges.model_copy(update={"state_bits": None})  # stock LIF keeps 24 bits wherever it runs
    chip = hardware.limits.model_copy(update={"ranges": ranges})
    return fd.map_cores(network, hardware.model_copy(update={"chip": chip}))


def test_unlike_cores_get_the_layers_that_they_hold():
    """The largest maps and kernels have two and three cores that hold them, whatever the order of the layers."""
    found = on_speck(speck((2, 64, 64), (16, 64, 64), (8, 32, 32), (64, 16, 16), (64, 8, 8), (64, 8, 8)))
    assert found.fits
    used = {layer.name: (int(layer.used["neurons"][0]), int(layer.used["synapse_words"][0])) for layer in found.layers}
    assert used["conv.1"] == (65536, 2 * 16 * 16)
    assert used["conv.4"] == (4096, 64 * 16 * 64)
    assert sorted(layer.first for layer in found.layers) == sorted({layer.first for layer in found.layers})
    assert found["conv.1"].first in (0, 1, 2)
    assert {found["conv.4"].first, found["conv.5"].first} == {5, 6}


def test_what_a_chip_of_whole_layers_cannot_hold_is_named():
    def said(network: StockNetwork) -> list[str]:
        return [str(violation) for violation in on_speck(network).violations]

    assert said(speck((2, 64, 64), (32, 64, 64))) == [
        "conv.1: 131,072 neurons (neurons) on a core with a tile of 32x64x64, 65,536 fit"
    ]
    three = said(speck((64, 8, 8), *[(64, 8, 8)] * 3))
    assert three == ["3 layers want cores of which 2 are there with enough room; left out: conv.3"]
    (both,) = said(speck((32, 64, 64), (16, 64, 64), kernel=7))
    assert both.startswith("conv.1: 32,768 words of kernels and 65,536 of neurons, no core holds both: ")
    assert said(speck((1, 40, 40), (1, 14, 14), kernel=17, stride=3)) == [
        "conv.1: a kernel of 17, 16 is the most", "conv.1: a stride of 3, possible are 1, 2, 4, 8",
    ]  # fmt: skip
    assert said(speck((1, 8, 8), *[(1, 8, 8)] * 10))[0].startswith("10 cores, 9 are on the largest board")


def test_networks_of_every_target_are_mapped():
    graph = chain(3)
    images = graph.encode(np.random.default_rng(0).random((20, *graph.input.shape)))
    for target in ("signed-if", "graded", "stock-lif", "sigma-delta"):
        found = fd.map_cores(to_target(graph, target, images).network, "loihi2")
        assert found.fits, target
        assert sum(int(layer.grid.neurons.sum()) for layer in found.layers) == sum(
            int(np.prod(layer.shape)) for layer in found.layers
        )


@pytest.mark.parametrize(
    ("weights", "stored", "needed"),
    [
        ([-8, 8], 4, 2), ([-10, 8], 5, 4), ([-20, 18], 6, 5), ([-7, 7], 4, 4), ([-1, 1], 2, 2), ([0, 0], 2, 1),
        ([-256, 254], 9, 8), ([0, 255], 9, 8), ([-255, 0], 9, 8), ([-128, 127], 8, 8), ([-127, 128], 8, 9),
    ],
)  # fmt: skip
def test_bits_of_weights(weights: list[int], stored: int, needed: int):
    assert weight_bits(np.array(weights)) == stored
    assert mantissa_bits(np.array(weights)) == needed


def test_every_type_of_connection_has_a_kind():
    for kind in NODE_TYPES.values():
        assert (kind in KINDS) == issubclass(kind, (Synapse, MaxPool2d)), kind


def test_a_profile_prices_messages_with_the_destinations_of_a_mapping():
    from fastsnn_deploy.analysis.profile import profile

    graph = fd.read("netx_exports/digits-2bit-unary.net")
    images = np.random.default_rng(0).random((2, *graph.input.shape))
    placed = profile(graph, images, "loihi2", steps=4)
    found = placed.mapping
    spikes = {layer.name: layer.spikes for layer in placed.counts.layers}
    far = sum(spikes[layer.name] * layer.travel.destination_cores for layer in found.layers)
    assert far > sum(spikes[layer.name] for layer in found.layers)
    # a layer is on one core here, so that the mean is right for every neuron
    messages = placed.energy.terms["messages"].value * 2 / 1.7 - spikes[graph.input.name]
    assert messages == pytest.approx(far)
    hops = sum(spikes[layer.name] * layer.travel.hops for layer in found.layers)
    assert placed.energy.terms["hops"].value * 2 / 3.5 == pytest.approx(hops)


# --- mapping.json


def test_a_mapping_is_written_edited_and_read(tmp_path: Path):
    path = tmp_path / "mapping.json"
    found = fd.map_cores(graph_of(), "loihi2")
    found.save(path)
    again = fd.map_cores(graph_of(), "loihi2", mapping=path)
    assert again.to_dict() == found.to_dict()
    data = json.loads(path.read_text())
    layer = next(entry for entry in data["layers"] if entry["shape"][0] > 1)
    layer["tile"][0] = 1
    layer["first"] = 200
    path.write_text(json.dumps(data))
    edited = fd.map_cores(graph_of(), "loihi2", mapping=path)
    assert edited[layer["layer"]].cores >= layer["shape"][0]
    assert edited[layer["layer"]].first == 200
    assert edited.chips == 2


def test_an_edited_mapping_that_breaks_a_limit_says_so(tmp_path: Path):
    path = tmp_path / "mapping.json"
    found = fd.map_cores(yolo(), "loihi2")
    found.save(path)
    text = path.read_text()
    assert '"tile": [16, 28, 8]' in text
    path.write_text(text.replace('"tile": [16, 28, 8]', '"tile": [16, 56, 8]'))
    again = fd.map_cores(yolo(), "loihi2", mapping=path)
    (violation,) = again.violations
    assert violation.fixes == ()
    assert again.fixes == ("without this mapping file: the network fits, on 574 cores",)
    assert (violation.layer, violation.number, violation.limit) == ("conv.1", 7168, 4095)


def test_cores_of_a_mapping_that_do_not_exist_or_do_not_hold_a_layer(tmp_path: Path):
    path = tmp_path / "mapping.json"
    found = fd.map_cores(graph_of(), "loihi2")
    found.save(path)
    data = json.loads(path.read_text())
    data["layers"][-1]["first"] = 32 * 120
    path.write_text(json.dumps(data))
    again = fd.map_cores(graph_of(), "loihi2", mapping=path)
    assert [violation.what for violation in again.violations] == [
        f"is on core {32 * 120 + found.layers[-1].cores - 1:,}, the last of the largest board is 3,839"
    ]
    network = speck((2, 64, 64), (16, 64, 64), (8, 32, 32))
    on_speck(network).save(path)
    data = json.loads(path.read_text())
    data["layers"][0]["first"], data["layers"][1]["first"] = 8, 0
    path.write_text(json.dumps(data))
    said = [violation.what for violation in fd.map_cores(network, "speck2f", mapping=path).violations]
    assert "is on core 8, which has no room for it" in said
    data["layers"][0]["tile"][0] = 8
    path.write_text(json.dumps(data))
    with pytest.raises(InputError, match="this chip takes whole layers"):
        fd.map_cores(network, "speck2f", mapping=path)


def test_a_wrong_mapping_file_is_one_error_with_everything(tmp_path: Path):
    path = tmp_path / "mapping.json"
    found = fd.map_cores(yolo(), "loihi2")
    found.save(path)
    good = json.loads(path.read_text())

    def broken(change) -> str:
        data = json.loads(json.dumps(good))
        change(data)
        path.write_text(json.dumps(data))
        with pytest.raises(InputError) as error:
            fd.map_cores(yolo(), "loihi2", mapping=path)
        return str(error.value)

    def several(data: dict) -> None:
        data["layers"][0]["layer"] = "other"
        data["layers"][1]["shape"] = [3, 3, 3]
        data["layers"][2]["tile"] = [64, 14, 400]

    text = broken(several)
    for part in ("other: is no layer", "conv.1: is missing", "conv.2: has shape [3, 3, 3]", "conv.3: has tile [64, 14"):
        assert part in text
    assert "conv.2: begins on core 10, layer 'conv.1' has cores 0 to 223" in broken(
        lambda data: data["layers"][1].update(first=10)
    )
    assert "layers.0.tile.0" in broken(lambda data: data["layers"][0]["tile"].__setitem__(0, 0))
    assert "version" in broken(lambda data: data.update(version=2))
    assert "colour" in broken(lambda data: data.update(colour="red"))
    path.write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        fd.map_cores(yolo(), "loihi2", mapping=path)
