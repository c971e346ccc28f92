"""What of a network a chip cannot hold or do: every violation at once, each with its number and limit."""

from __future__ import annotations

from collections.abc import Iterator

from fastsnn_deploy.analysis.hardware import Hardware
from fastsnn_deploy.analysis.mapping.partition import Partition
from fastsnn_deploy.analysis.mapping.result import Violation
from fastsnn_deploy.analysis.mapping.sites import Site
from fastsnn_deploy.analysis.mapping.usage import RESOURCES, limits_of
from fastsnn_deploy.tables import shape

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


def _of_layer(site: Site, partition: Partition, hardware: Hardware) -> Iterator[Violation]:
    yield from _lacking(site, hardware)
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
    if most_cores is not None and partition.cores > most_cores:
        what = f"{partition.cores:,} cores at the least, {most_cores:,} are allowed; {most}"
        yield Violation("", "", what, "cores", partition.cores, most_cores, "cores")
