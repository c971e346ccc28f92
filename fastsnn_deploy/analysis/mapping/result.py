"""A mapping: which tile of which layer is on which core, how full the cores are, and what does not fit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastsnn_deploy.analysis.hardware import Hardware
from fastsnn_deploy.analysis.mapping.grid import Grid
from fastsnn_deploy.analysis.mapping.place import Travel
from fastsnn_deploy.analysis.mapping.sites import Site
from fastsnn_deploy.analysis.mapping.usage import RESOURCES, Usage, limits_of, worst
from fastsnn_deploy.tables import Column, Result, Table, one_line, shape, words

if TYPE_CHECKING:
    from fastsnn_deploy.analysis.evaluation import Evaluation
    from fastsnn_deploy.analysis.mapping.time import Timing

VERSION = 2
"""Of the estimator and of the file of a mapping: it changes whenever a network may get other numbers."""

SHOWN = ("neurons", "synapse_words", "axon_map_words", "axon_memory_words", "total_words")
"""Resources with a column of their own in the table for people."""


@dataclass(frozen=True)
class Violation:
    """One thing that a chip cannot hold or do.

    layer, module: where; empty for the whole network. what: in words. resource: key of the limit in the profile.
    number, limit: what is asked for and what there is, in `unit`; of a thing that the chip lacks, 1 and 0. fixes: what
    would make it fit, each tried by mapping it.
    """

    layer: str
    module: str
    what: str
    resource: str
    number: int
    limit: int
    unit: str
    fixes: tuple[str, ...] = ()

    @property
    def of_neurons(self) -> bool:
        """It is about what neurons do or keep, so that a network of other neurons may be without it."""
        return self.resource.startswith(("spikes.", "chip.ranges.", "chip.soft_reset"))

    def __str__(self) -> str:
        where = f"{self.layer}{f' ({self.module})' if self.module not in ('', self.layer) else ''}: " * bool(self.layer)
        return f"{where}{self.what}"


@dataclass(frozen=True, eq=False)
class LayerMapping:
    """One layer on its cores, which follow each other from `first` on, in order channels, rows, columns of the tiles.

    used: what each core holds, int64 [cores] for each of `usage.RESOURCES`. travel: how far its spikes go.
    """

    name: str
    module: str
    type: str
    shape: tuple[int, ...]
    grid: Grid
    first: int
    used: Usage
    travel: Travel

    @property
    def tile(self) -> tuple[int, ...]:
        """Shape of the first core's part of the layer: the largest."""
        return self.grid.tile[: len(self.shape)]

    @property
    def cores(self) -> int:
        """Cores."""
        return self.grid.cores


@dataclass(frozen=True, eq=False)
class Mapping(Result):
    """A network on the cores of a chip. layers: those that take cores. violations: what does not fit, all of it.
    fixes: what would make the whole network fit, tried by mapping it. sites: all layers with what they read.
    """

    hardware: Hardware
    objective: str
    layers: tuple[LayerMapping, ...]
    violations: tuple[Violation, ...]
    fixes: tuple[str, ...] = ()
    sites: tuple[Site, ...] = ()

    def __repr__(self) -> str:
        fits = "fits" if self.fits else f"does not fit, {len(self.violations)} violations"
        return one_line(f"Mapping({self.hardware.name}, {fits}, {self.cores:,} cores, {self.chips:,} chips)")

    @property
    def fits(self) -> bool:
        """Nothing is beyond a limit."""
        return not self.violations

    @property
    def cores(self) -> int:
        """Cores that the network takes."""
        return sum(layer.cores for layer in self.layers)

    @property
    def chips(self) -> int:
        """Chips that hold the cores, up to the last one that is used."""
        last = max((layer.first + layer.cores for layer in self.layers), default=0)
        return -(-last // self.hardware.limits.usable_cores.value)

    @property
    def board(self) -> str:
        """The smallest board with so many chips; empty if there is none."""
        boards = sorted(self.hardware.limits.boards, key=lambda board: board.chips)
        return next((board.name for board in boards if board.chips >= self.chips), "")

    def __getitem__(self, name: str) -> LayerMapping:
        return next(layer for layer in self.layers if layer.name == name)

    def report(self) -> tuple[Table | str, ...]:
        """Whether it fits, the table of layers, totals, and every violation with what would make it fit."""
        chip = self.hardware.limits
        board = f" ({self.board})" if self.board else ""
        verdict = "fits" if self.fits else "does not fit"
        chips = f"{self.chips:,} chip{'s' if self.chips > 1 else ''} of {chip.usable_cores.value} usable cores{board}"
        notes = [f"- {violation}" + "".join(f"\n    {fix}" for fix in violation.fixes) for violation in self.violations]
        return (
            f"{self.hardware.title} ({self.hardware.name}), rules of the compiler: {chip.compiler}; mapper {VERSION}",
            f"{verdict}: {self.cores:,} cores on {chips}",
            *notes,
            *self.fixes,
            self.table(),
            *([f"between chips: {self.chip_links:,.0f} messages if every neuron sends one"] if self.chips > 1 else []),
            "the first core of a layer, the largest, as the compiler prints it; % of its limit where one is known. "
            "limit: what the fullest core of the layer holds most of",
        )

    @property
    def chip_links(self) -> float:
        """Links between chips that are crossed when every neuron sends one message."""
        return sum(int(layer.travel.between_chips.sum()) for layer in self.layers)

    def table(self) -> Table:
        """One line a layer for people."""
        held = (Column(RESOURCES[key], drop=drop) for key, drop in zip(SHOWN, (2, 1, 5, 6, 4), strict=True))
        columns = (
            words("layer"), words("module", drop=9), Column("shape", shape, drop=3), Column("tile", shape),
            Column("cores"), Column("first core", drop=10), *held,
            words("limit"), Column("destinations", drop=7), Column("hops", drop=8),
        )  # fmt: skip
        rows = [self._cells(layer) for layer in self.layers]
        sums = (f"{sum(int(layer.used[key].sum()) for layer in self.layers):,}" for key in SHOWN)
        total = ("total of all cores", "", (), (), self.cores, None, *sums, "", None, None)
        return Table("Layers", columns, (*rows, total), totals=1)

    def _cells(self, layer: LayerMapping) -> tuple[Any, ...]:
        limits = limits_of(self.hardware.limits)
        numbers = []
        for key in SHOWN:
            first = int(layer.used[key][0])
            numbers.append(f"{first:,}" + (f" {100 * first / limits[key].value:.2f} %" if key in limits else ""))
        key, share = worst(layer.used, self.hardware.limits)
        module = "" if layer.module == layer.name else layer.module
        limiting = f"{RESOURCES.get(key, '')} {100 * share:.0f} %"
        far = layer.travel.destination_cores, layer.travel.hops
        return (layer.name, module, layer.shape, layer.tile, layer.cores, layer.first, *numbers, limiting, *far)

    def rows(self) -> tuple[dict[str, Any], ...]:
        """Plain values of each layer, for CSV and JSON."""
        return tuple(self._row(layer) for layer in self.layers)

    def _row(self, layer: LayerMapping) -> dict[str, Any]:
        key, share = worst(layer.used, self.hardware.limits)
        row: dict[str, Any] = {"layer": layer.name, "module": layer.module, "type": layer.type}
        row |= {"shape": list(layer.shape), "tile": list(layer.tile), "cores": layer.cores, "first": layer.first}
        row |= {name: int(used[0]) for name, used in layer.used.items()}
        row |= {f"most_{name}": int(used.max()) for name, used in layer.used.items()}
        row |= {"limiting": key, "limiting_share": share, "destination_cores": layer.travel.destination_cores}
        return row | {"hops": layer.travel.hops, "chip_links": layer.travel.chip_links}

    def csv(self) -> str:
        """One line a layer with every number."""
        rows = [row | {key: shape(row[key]) for key in ("shape", "tile")} for row in self.rows()]
        columns = tuple(map(Column, rows[0])) if rows else ()
        return Table("Layers", columns, tuple(tuple(row.values()) for row in rows)).csv()

    def to_dict(self) -> dict[str, Any]:
        """Plain values; keys are listed in docs/mapping.md."""
        violations = [{key: getattr(each, key) for key in Violation.__annotations__} for each in self.violations]
        return {
            "format": "fastsnn-deploy mapping report",
            "version": VERSION,
            "hardware": self.hardware.name,
            "compiler": self.hardware.limits.compiler,
            "objective": self.objective,
            "fits": self.fits,
            "cores": self.cores,
            "chips": self.chips,
            "board": self.board,
            "chip_links": self.chip_links,
            "limits": {key: limit.value for key, limit in self.hardware.limits.limits()},
            "layers": list(self.rows()),
            "violations": violations,
            "fixes": list(self.fixes),
        }

    def timing(self, evaluation: Evaluation) -> Timing:
        """How long an image takes at least, from what a run of the same network counted.

        Args:
            evaluation: What `fd.evaluate` gives for the network that was mapped.

        Raises:
            InputError: no image, another network, or a profile without times.

        Example:
            >>> import numpy as np
            >>> import fastsnn_deploy as fd
            >>> network = fd.read("model.net")
            >>> images = np.random.default_rng(0).random((2, *network.input.shape))
            >>> run = fd.evaluate(network, images, engine="reference")
            >>> fd.map_cores(network, "loihi2").timing(run).binding
            'neuron updates'
        """
        from fastsnn_deploy.analysis.mapping.time import timing_of

        return timing_of(self, evaluation)

    def save(self, path: str | Path) -> None:
        """Write tiles and places as mapping.json, to be edited and read by `load`.

        Raises:
            InputError: the file cannot be written.
        """
        from fastsnn_deploy.analysis.mapping.file import write

        write(self, path)
