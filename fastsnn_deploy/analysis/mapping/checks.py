"""What of a network a chip cannot hold or do: every violation at once, each with its number and limit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fastsnn_deploy.analysis.hardware import Hardware
from fastsnn_deploy.analysis.mapping.partition import Partition
from fastsnn_deploy.analysis.mapping.place import holds, matched
from fastsnn_deploy.analysis.mapping.result import Violation
from fastsnn_deploy.analysis.mapping.sites import Site
from fastsnn_deploy.analysis.mapping.usage import RESOURCES, limits_of
from fastsnn_deploy.tables import shape

First = Mapping[str, int]
"""The first core of each layer, counted over all chips."""

NEEDS = {
    "weight_bits": "weights of {} bits, {} can be stored",
    "bias_bits": "biases of {} bits, {} can be stored",
    "threshold_bits": "thresholds of {} bits, {} can be stored",
    "state_bits": "membrane potentials may reach {} bits, {} are kept",
    "payload_bits": "spikes carry {} bits, {} can be sent",
    "delay_steps": "a delay of {} steps, {} are possible",
}
"""What a layer needs and a chip offers, by the names of `chip.Ranges`."""

LISTS = ("axon_memory_words", "dense_list_words")
"""Resources that grow with the cores of what reads a layer."""


def violations_of(partition: Partition, hardware: Hardware, most_cores: int | None) -> tuple[Violation, ...]:
    """Everything that does not fit. most_cores: cores that the user allows."""
    found = [violation for site in partition.placed for violation in _of_layer(site, partition, hardware)]
    return (*found, *_of_network(partition, hardware, most_cores))


def misplaced(partition: Partition, hardware: Hardware, first: First) -> Iterator[Violation]:
    """Cores of a mapping file that no board has, or that do not hold what is on them."""
    chip = hardware.limits
    held = chip.usable_cores.value * chip.most_chips
    rooms = [kind for kind in chip.kinds for _ in range(kind.cores)]
    for site in partition.placed:
        last = first[site.name] + partition.grids[site.name].cores - 1
        if last >= held > partition.cores:
            what = f"is on core {last:,}, the last of the largest board is {held - 1:,}"
            yield Violation(site.name, site.module, what, "mapping.first", last, held - 1, "cores")
        elif rooms and last < held and not holds(rooms[last], partition.used[site.name]):
            what = f"is on core {last}, which has no room for it"
            yield Violation(site.name, site.module, what, "mapping.first", last, held - 1, "cores")


def _of_layer(site: Site, partition: Partition, hardware: Hardware) -> Iterator[Violation]:
    yield from _lacking(site, hardware)
    yield from _whole(site, partition)
    for key, limit in hardware.limits.ranges.given():
        if (needed := site.needs.get(key, 0)) > limit.value:
            what = NEEDS[key].format(needed, limit.value)
            yield Violation(site.name, site.module, what, f"chip.ranges.{key}", needed, limit.value, limit.unit)
    grid = partition.grids[site.name]
    for key, limit in limits_of(hardware.limits).items():
        most = int(partition.used[site.name][key].max())
        if most > limit.value:
            tile = shape(grid.tile[: len(site.shape)])
            what = f"{most:,} {limit.unit} ({RESOURCES[key]}) on a core with a tile of {tile}, {limit.value:,} fit"
            what += _read_by(site, partition) if key in LISTS else ""
            yield Violation(site.name, site.module, what, f"chip.core.{key}", most, limit.value, limit.unit)


def _whole(site: Site, partition: Partition) -> Iterator[Violation]:
    """What a layer that takes one core may not be, and layers of which each half has room, but on no one core."""
    chip, used = partition.chip, partition.used[site.name]
    fits = all(used[key][0] <= limit.value for key, limit in limits_of(chip).items())
    if chip.kinds and fits and not any(holds(room, used) for room in chip.kinds):
        words, neurons = int(used["synapse_words"][0]), int(used["neurons"][0])
        rooms = ", ".join(f"{room.synapse_words:,} and {room.neurons:,}" for room in chip.kinds)
        what = f"{words:,} words of kernels and {neurons:,} of neurons, no core holds both: there are {rooms}"
        yield Violation(site.name, site.module, what, "chip.kinds", words, 0, "words")
    if chip.windows is None:
        return
    rule = chip.windows
    readers = {reader.name for reader, *_ in partition.readers[site.name]}
    windows = [connection.window() for connection in site.connections]
    numbers = (
        ("a kernel of {}, {} is the most", max((max(kernel) for _, kernel, _ in windows), default=0), rule.kernel),
        ("{} channels, {} is the most", site.map[0], rule.channels),
        ("reads by {} synapses, {} is the most", len(windows), rule.connections),
        (
            "is read by {} layers, {} is the most",
            len(readers),
            rule.readers,
        ),
    )
    for what, number, most in numbers:
        if number > most:
            yield Violation(site.name, site.module, what.format(number, most), "chip.windows", number, most, "")
    for stride in sorted({each for _, _, pair in windows for each in pair} - set(rule.strides)):
        what = f"a stride of {stride}, possible are {', '.join(map(str, rule.strides))}"
        yield Violation(site.name, site.module, what, "chip.windows", stride, max(rule.strides), "")


def _read_by(site: Site, partition: Partition) -> str:
    readers = {reader.name: partition.grids[reader.name].cores for reader, _, _ in partition.readers[site.name]}
    return "; read by " + ", ".join(f"layer '{name}' on {cores:,} cores" for name, cores in readers.items())


def _lacking(site: Site, hardware: Hardware) -> Iterator[Violation]:
    """What neurons of a layer do that the chip's cannot."""
    spikes = hardware.spikes
    lacks = {
        "spikes.signed": (site.signed and spikes is not None and not spikes.signed, "negative spikes"),
        "spikes.graded": (
            "payload_bits" in site.needs and spikes is not None and not spikes.graded,
            "spikes with a payload",
        ),
        "chip.soft_reset": (
            site.soft and hardware.limits.soft_reset == "none",
            "neurons that keep what is over their threshold",
        ),
    }
    for key, (lacking, thing) in lacks.items():
        if lacking:
            yield Violation(site.name, site.module, f"{thing}: the chip has none", key, 1, 0, "")


def _of_network(partition: Partition, hardware: Hardware, most_cores: int | None) -> Iterator[Violation]:
    chip = hardware.limits
    held = chip.usable_cores.value * chip.most_chips
    largest = max(partition.placed, key=lambda site: partition.grids[site.name].cores, default=None)
    most = (
        f"most of them, {partition.grids[largest.name].cores:,}, for layer '{largest.name}'" if largest else "no layer"
    )
    if partition.cores > held:
        what = f"{partition.cores:,} cores, {held:,} are on the largest board of {chip.most_chips} chips; {most}"
        yield Violation("", "", what, "chip.boards", partition.cores, held, "cores")
    if chip.kinds and partition.cores <= held:
        found = matched(partition.placed, partition.used, chip)
        alone = [
            site for site in partition.placed if any(holds(room, partition.used[site.name]) for room in chip.kinds)
        ]
        if len(found) < len(alone):
            left = ", ".join(site.name for site in alone if site.name not in found)
            what = f"{len(alone)} layers want cores of which {len(found)} are there with enough room; left out: {left}"
            yield Violation("", "", what, "chip.cores", len(alone), len(found), "cores")
    if most_cores is not None and partition.cores > most_cores:
        what = f"{partition.cores:,} cores at the least, {most_cores:,} are allowed; {most}"
        yield Violation("", "", what, "cores", partition.cores, most_cores, "cores")
