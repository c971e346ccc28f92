"""What an export for SANA-FE wrote, and what SANA-FE has to find."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastsnn_deploy.folders import FolderKind
from fastsnn_deploy.tables import Column, Result, Table, one_line, words

FORMAT = "fastsnn-deploy SANA-FE export"

FILES = ("arch.yaml", "network.yaml", "expected.json")

FOLDER = FolderKind("SANA-FE export", FILES, (FILES[-1], FORMAT.encode()))

COUNTS = ("spikes", "synaptic_operations", "messages", "hops")

ENERGIES = ("synapse_pj", "soma_pj", "network_pj")
"""By SANA-FE's own terms: of synapses; of neurons; of messages and hops."""


@dataclass(frozen=True)
class LayerTotals:
    """One layer over all images. group: its name in SANA-FE's files. spikes, messages, hops: that it sends; messages:
    one to each core where the neuron has a synapse. synaptic_operations: that it receives. Energies at the values of
    the profile, in pJ."""

    layer: str
    group: str
    neurons: int
    spikes: int
    synaptic_operations: int
    messages: int
    hops: int
    synapse_pj: float
    soma_pj: float
    network_pj: float


@dataclass(frozen=True)
class SanafeExport(Result):
    """folder: that was written. steps: of all images together, which SANA-FE is told to run. computed: layers whose
    spikes SANA-FE finds itself; the others are replayed. layers: what it has to find."""

    folder: Path
    hardware: str
    images: int
    steps: int
    cores: int
    synapses: int
    computed: tuple[str, ...]
    layers: tuple[LayerTotals, ...]

    def __repr__(self) -> str:
        sums = ", ".join(f"{self.total(key):,} {key.replace('_', ' ')}" for key in COUNTS[:3])
        return one_line(f"SanafeExport({self.folder}: {self.images:,} images, {self.steps:,} steps, {sums})")

    def total(self, quantity: str) -> Any:
        """Sum of a quantity of `LayerTotals`, such as "messages", over all layers."""
        return sum(getattr(layer, quantity) for layer in self.layers)

    def report(self) -> tuple[Table | str, ...]:
        """What SANA-FE has to find, layer by layer, and how it is run."""
        columns = (words("layer"), words("spikes are"), *(Column(key.replace("_", " ")) for key in COUNTS))
        rows = [
            (each.layer, "computed" if each.layer in self.computed else "replayed", *(getattr(each, k) for k in COUNTS))
            for each in self.layers
        ]
        total = ("total", "", *map(self.total, COUNTS))
        table = Table(f"What SANA-FE has to find for {self.images:,} images", columns, (*rows, total), totals=1)
        energies = ", ".join(f"{key.removesuffix('_pj')} {self.total(key) / 1e6:,.4g} µJ" for key in ENERGIES)
        return (
            table,
            f"energy at the values of '{self.hardware}': {energies}",
            f"{self.folder}: {self.cores:,} cores, {self.synapses:,} synapses; run SANA-FE on arch.yaml and "
            f"network.yaml for {self.steps:,} steps",
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values; expected.json holds them."""
        own = {key: getattr(self, key) for key in ("hardware", "images", "steps", "cores", "synapses")}
        return {
            "format": FORMAT,
            "version": 1,
            **own,
            "computed": list(self.computed),
            "totals": {key: self.total(key) for key in (*COUNTS, *ENERGIES)},
            "layers": [dataclasses.asdict(layer) for layer in self.layers],
        }
