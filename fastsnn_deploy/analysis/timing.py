"""Where the time of the CPU engine goes, layer by layer, beside what its int8 products alone would take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastsnn_deploy.analysis.structure import layers_of
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph import Input, Population, SpikingGraph
from fastsnn_deploy.simulators import Engine, StockEngine
from fastsnn_deploy.tables import Column, Result, Table, percent, words

if TYPE_CHECKING:
    from fastsnn_deploy.simulators.cpu import CpuEngine


@dataclass(frozen=True)
class LayerTime:
    """One layer. seconds: of all processors, all images. products: int8 products of all images, if each step that its
    counts need is one convolution; limit: seconds that they take at the peak."""

    name: str
    type: str
    module: str
    seconds: float
    products: int
    limit: float


@dataclass(frozen=True)
class EngineTime(Result):
    """peak: int8 products a second of one thread, measured while all multiply (`simulators.cpu.peak`)."""

    images: int
    peak: float
    layers: tuple[LayerTime, ...]

    @property
    def seconds(self) -> float:
        """Seconds of all processors in all layers."""
        return sum(layer.seconds for layer in self.layers)

    @property
    def share(self) -> float:
        """Share of the time that the products alone would take at the peak."""
        return sum(layer.limit for layer in self.layers) / max(self.seconds, 1e-12)

    def report(self) -> tuple[Table | str, ...]:
        """One row a layer."""
        images, everything = max(self.images, 1), max(self.seconds, 1e-12)
        rows = [
            (
                layer.name, layer.type, layer.module, 1e6 * layer.seconds / images, layer.seconds / everything,
                layer.products // images or None, 1e6 * layer.limit / images if layer.products else None,
                layer.limit / max(layer.seconds, 1e-12) if layer.products else None,
            )
            for layer in self.layers
        ]  # fmt: skip
        columns = (
            words("layer"), words("type", drop=2), words("module", drop=3), Column("us per image"),
            Column("of all", percent), Column("int8 products", drop=1), Column("limit, us"),
            Column("of limit", percent),
        )  # fmt: skip
        total = (
            f"{1e6 * self.seconds / images:,.0f} us of processor time an image; the int8 products alone "
            f"would take {percent(self.share)} of it (peak {self.peak / 1e9:,.0f} billion a second and thread)"
        )
        return Table("Time of each layer, of all processors", columns, tuple(rows)), total

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `json.dumps`, seconds of all images."""
        return {
            "images": self.images,
            "seconds": self.seconds,
            "peak_products_per_second": self.peak,
            "share_of_limit": self.share,
            "layers": [vars(layer) for layer in self.layers],
        }


def timed(engine: Engine | StockEngine, images: int) -> EngineTime:
    """What an engine has spent so far. images: that it has run. Raises InputError as `require_timed`."""
    from fastsnn_deploy.simulators.cpu.peak import int8_peak

    found = require_timed(engine)
    graph, peak = found.graph, int8_peak(found.workers)
    layers = []
    for layer in layers_of(graph):
        products = images * sum(
            each.dense * max(_steps(graph, source) for source, _ in each.sources) for each in layer.incoming
        )
        layers.append(
            LayerTime(layer.name, layer.type, layer.module, found.seconds[layer.name], products, products / peak)
        )
    return EngineTime(images, peak, tuple(layers))


def require_timed(engine: Engine | StockEngine) -> CpuEngine:
    """The engine, if it is "cpu"; InputError for all others."""
    from fastsnn_deploy.simulators.cpu import CpuEngine

    if not isinstance(engine, CpuEngine):
        raise InputError("only the engine 'cpu' is timed by layer, and only for spiking graphs. Leave out --timing")
    return engine


def _steps(graph: SpikingGraph, name: str) -> int:
    """Steps in which a source sends if none of its spikes is taken back."""
    node = graph[name]
    if isinstance(node, Input):
        return graph.schedule.input_injection.steps
    if isinstance(node, Population):
        return node.busy_steps
    return max(_steps(graph, each) for each in node.inputs)
