"""What would make a violation go away: changes of the network or the chip, each of them mapped before it is named."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fastsnn_deploy.analysis.hardware import Hardware, available, load_hardware
from fastsnn_deploy.analysis.mapping.checks import violations_of
from fastsnn_deploy.analysis.mapping.grid import Shape, cubic, volume
from fastsnn_deploy.analysis.mapping.kinds import Connection, Dense, Part, Windowed
from fastsnn_deploy.analysis.mapping.partition import fewest_cores
from fastsnn_deploy.analysis.mapping.result import Violation
from fastsnn_deploy.analysis.mapping.sites import Site, readers_of, sites_of
from fastsnn_deploy.analysis.structure import Network
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.targets import TARGETS

Sites = tuple[Site, ...]

LEAST_BITS = 2
"""Fewest bits of a weight that `prepare` takes."""

MOST_NEURONS = 2_000_000
"""Neurons of a network for which changes are tried, and of one that is converted for other targets as a try, where
each counts as often as its greatest count."""


@dataclass(frozen=True)
class Case:
    """A violation of a network on a chip. most_cores: cores that the user allows."""

    sites: Sites
    hardware: Hardware
    most_cores: int | None
    violation: Violation

    @property
    def site(self) -> Site:
        """The layer in question."""
        return next(site for site in self.sites if site.name == self.violation.layer)

    def tried(self, changed: Sites, hardware: Hardware | None = None) -> str | None:
        """What mapping the changed network gives, in words; None if the violation is still there."""
        hardware = hardware or self.hardware
        partition = fewest_cores(changed, hardware.limits)
        left = violations_of(partition, hardware, self.most_cores)
        layers = {site.name for site in changed}
        name = self.violation.layer
        same = [v for v in left if v.layer == name or v.layer not in layers or v.layer.startswith(f"{name}.")]
        if any(v.resource == self.violation.resource for v in same):
            return None
        if not left:
            return f"the network then fits, on {partition.cores:,} cores"
        return f"this is then solved, {len(left)} other violation{'s' if len(left) > 1 else ''} left"


def with_fixes(
    violations: tuple[Violation, ...], sites: Sites, hardware: Hardware, most_cores: int | None
) -> tuple[Violation, ...]:
    """The violations with what would make each fit; changes that do not help are not named."""
    found = []
    for violation in violations:
        case = Case(sites, hardware, most_cores, violation)
        tries = FIXES.get(violation.resource, ())
        found.append(dataclasses.replace(violation, fixes=tuple(fix for each in tries for fix in each(case))))
    return tuple(found)


def other_chips(sites: Sites, hardware: Hardware, most_cores: int | None) -> Iterator[str]:
    """Shipped profiles on which the whole network fits."""
    for name in available():
        other = load_hardware(name)
        if other.chip is None or name == hardware.name:
            continue
        partition = fewest_cores(sites, other.limits)
        if not violations_of(partition, other, most_cores):
            yield f"--hardware {name}: the network fits there, on {partition.cores:,} cores"


def other_neurons(network: Network, hardware: Hardware, most_cores: int | None) -> Iterator[str]:
    """Exact targets whose neurons the chip has, for a graph that they can hold."""
    if not isinstance(network, SpikingGraph):
        return
    units = sum(each.size * max(each.ceiling, 1) for each in network.populations)
    for name, each in TARGETS.items() if units <= MOST_NEURONS else ():
        if not each.exact:
            continue
        try:
            found = each.convert(network, None).network
        except InputError:
            continue  # that target cannot hold the network, so it is no way out
        partition = fewest_cores(sites_of(found), hardware.limits)
        if not violations_of(partition, hardware, most_cores):
            yield f"export --target {name}: the network then fits, on {partition.cores:,} cores"


def fewer_bits(case: Case) -> Iterator[str]:
    """The layer's weights in fewer bits."""
    most = max((connection.bits for connection in case.site.connections), default=0)
    for bits in range(most - 1, LEAST_BITS - 1, -1):
        changed = _replaced(case.sites, _with_bits(case.site, bits))
        if (result := case.tried(changed)) is not None:
            yield f"weights of {bits} bits in place of {most}: {result}"
            return


def fewer_bits_of_readers(case: Case) -> Iterator[str]:
    """The weights of the dense layers that read this one in fewer bits: they then take fewer cores."""
    dense = _dense_readers(case)
    most = max((connection.bits for site in dense for connection in site.connections), default=0)
    for bits in range(most - 1, LEAST_BITS - 1, -1):
        changed = case.sites
        for site in dense:
            changed = _replaced(changed, _with_bits(site, bits))
        if (result := case.tried(changed)) is not None:
            yield f"weights of {bits} bits in place of {most} in {_named(dense)}: {result}"
            return


def fewer_inputs(case: Case) -> Iterator[str]:
    """Fewer channels in the layer that is read, where nothing else reads it."""
    parts = [part for connection in case.site.connections for part in connection.parts]
    if len(parts) != 1 or len(readers_of(case.sites)[parts[0].layer]) != 1:
        return
    source = next(site for site in case.sites if site.name == parts[0].layer)
    if not source.placed:
        return
    yield from _with_fewer(case, source, "channels", f" in layer '{source.name}'")


def fewer_channels(case: Case) -> Iterator[str]:
    """Fewer channels of the layer itself."""
    yield from _with_fewer(case, case.site, "channels", "")


def fewer_outputs_of_readers(case: Case) -> Iterator[str]:
    """Fewer neurons in the dense layer that reads this one."""
    for reader in _dense_readers(case):
        yield from _with_fewer(case, reader, "neurons", f" in layer '{reader.name}'")


def split_inputs(case: Case) -> Iterator[str]:
    """The layer as several that read a part of its inputs each, and one that adds them."""
    site = case.site
    if len(site.connections) != 1 or len(site.connections[0].parts) != 1:
        return
    inputs = site.connections[0].source[0]
    if isinstance(connection := site.connections[0], Windowed) and connection.groups > 1:
        return
    for parts in (2, 4, 8, 16):
        if inputs % parts:
            break
        if (result := case.tried(_split(case.sites, site, parts))) is not None:
            yield f"split into {parts} layers of {inputs // parts:,} input channels each and their sum: {result}"
            return


def allow_cores(case: Case) -> Iterator[str]:
    """As many cores as it takes."""
    if dataclasses.replace(case, most_cores=None).tried(case.sites) is not None:
        yield f"--cores {case.violation.number}: the network then fits"


def fewer_bits_everywhere(case: Case) -> Iterator[str]:
    """All weights in fewer bits."""
    most = max((connection.bits for site in case.sites for connection in site.connections), default=0)
    for bits in range(most - 1, LEAST_BITS - 1, -1):
        changed = tuple(_with_bits(site, bits) for site in case.sites)
        if (result := case.tried(changed)) is not None:
            yield f"weights of at most {bits} bits in all layers: {result}"
            return


MEMORY = (fewer_bits, fewer_inputs, split_inputs)

FIXES: dict[str, tuple[Callable[[Case], Iterator[str]], ...]] = {
    "chip.core.synapse_words": MEMORY,
    "chip.core.total_words": MEMORY,
    "chip.core.input_axons": (fewer_inputs, split_inputs),
    "chip.core.neurons": (fewer_channels,),
    "chip.kinds": (fewer_channels, fewer_inputs),
    "chip.windows": (fewer_channels,),
    "chip.core.axon_memory_words": (fewer_bits_of_readers, fewer_outputs_of_readers, fewer_channels),
    "chip.core.dense_list_words": (fewer_bits_of_readers, fewer_outputs_of_readers, fewer_channels),
    "chip.ranges.weight_bits": (fewer_bits,),
    "chip.boards": (fewer_bits_everywhere,),
    "cores": (allow_cores, fewer_bits_everywhere),
}
"""What to try, by the resource of a violation; other chips and other neurons are tried once for the network."""


def _with_fewer(case: Case, site: Site, things: str, where: str) -> Iterator[str]:
    """A layer with half its channels, a quarter, ...: the most with which the violation is gone."""
    number = site.shape[0] // 2
    while number:
        if (result := case.tried(_with_channels(case.sites, site, number))) is not None:
            yield f"{number:,} {things} in place of {site.shape[0]:,}{where}: {result}"
            return
        number //= 2


def _replaced(sites: Sites, changed: Site) -> Sites:
    return tuple(changed if site.name == changed.name else site for site in sites)


def _with_bits(site: Site, bits: int) -> Site:
    connections = tuple(dataclasses.replace(each, bits=min(each.bits, bits)) for each in site.connections)
    needs = dict(site.needs) | {"weight_bits": min(site.needs.get("weight_bits", 0), bits)}
    return dataclasses.replace(site, connections=connections, needs=needs)


def _with_channels(sites: Sites, site: Site, channels: int) -> Sites:
    """The network with a layer of so many channels; what reads it reads as many fewer. Groups become one a channel
    where they were, else they go."""
    shape = (channels, *site.shape[1:])
    changed = []
    for each in sites:
        connections = each.connections
        if each.name == site.name:
            connections = tuple(_resized(c, c.source, cubic(shape)) for c in connections)
            each = dataclasses.replace(each, shape=shape)
        lost = volume(site.shape) - volume(shape)
        connections = tuple(_reads_less(c, site, lost, shape) for c in connections)
        changed.append(dataclasses.replace(each, connections=connections))
    return tuple(changed)


def _reads_less(connection: Connection, site: Site, lost: int, shape: tuple[int, ...]) -> Connection:
    for part in connection.parts:
        if part.layer == site.name:
            fewer = lost if part.flat else site.shape[0] - shape[0]
            channels, height, width = connection.source
            connection = _resized(connection, (channels - fewer, height, width), connection.target)
            before = (connection.flattened[0] - site.shape[0] + shape[0], *connection.flattened[1:])
            connection = dataclasses.replace(connection, flattened=before)
    return connection


def _resized(connection: Connection, source: Shape, target: Shape) -> Connection:
    changed = dataclasses.replace(connection, source=source, target=target)
    if isinstance(changed, Windowed) and changed.groups > 1:
        each = source[0] if changed.groups == connection.source[0] and target[0] % source[0] == 0 else 1
        changed = dataclasses.replace(changed, groups=each)
    return changed


def _split(sites: Sites, site: Site, parts: int) -> Sites:
    (connection,), (channels, height, width) = site.connections, site.connections[0].source
    each = channels // parts
    (read,) = connection.parts
    halves, sums = [], []
    for number in range(parts):
        part = Part(read.layer, read.offset - number * each, read.flat)
        less = dataclasses.replace(connection, source=(each, height, width), parts=(part,))
        halves.append(dataclasses.replace(site, name=f"{site.name}.{number}", connections=(less,)))
        sums.append(
            Windowed(
                name=f"{site.name}.{number}.sum", type="Identity", parts=(Part(f"{site.name}.{number}", 0, False),),
                source=site.map, target=site.map, flattened=site.map, bits=2, mantissa=1, kernel=(1, 1),
                groups=site.map[0],
            )
        )  # fmt: skip
    total = dataclasses.replace(site, connections=tuple(sums))
    at = [each.name for each in sites].index(site.name)
    return (*sites[:at], *halves, total, *sites[at + 1 :])


def _dense_readers(case: Case) -> list[Site]:
    readers = readers_of(case.sites)[case.violation.layer]
    return [site for site, connection, _ in readers if isinstance(connection, Dense)]


def _named(sites: list[Site]) -> str:
    return ", ".join(f"layer '{site.name}'" for site in sites)
