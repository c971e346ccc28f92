"""NIR as one of the formats: our own networks exactly, chains of other programs where stock LIF can run them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.formats.base import Format, Network, register
from fastsnn_deploy.formats.hdf5 import HDF5_ERRORS
from fastsnn_deploy.formats.nir.file import kind_of, read_graph
from fastsnn_deploy.formats.nir.foreign import import_nir
from fastsnn_deploy.formats.nir.graph_file import KIND as GRAPH
from fastsnn_deploy.formats.nir.graph_file import export_graph, import_graph
from fastsnn_deploy.formats.nir.report import LossReport
from fastsnn_deploy.formats.nir.thermometer import KIND as THERMOMETER
from fastsnn_deploy.formats.nir.thermometer import export_thermometer, import_thermometer
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.lava_dl import Sdnn
from fastsnn_deploy.reading import reason_of

READERS: dict[str | None, Callable[[Path], Network]] = {
    GRAPH: import_graph,
    THERMOMETER: import_thermometer,
    None: import_nir,
}
"""What reads a file, by the kind of network that its metadata hold; None for files of other programs."""


def _write(network: Network, path: Path) -> LossReport:
    if isinstance(network, SpikingGraph):
        return export_graph(network, path)
    if any(isinstance(getattr(layer, "neuron", None), Sdnn) for layer in network.layers):
        raise InputError("target 'sigma-delta' has no NIR form: NIR has no sigma-delta neuron. Use --format netx")
    return export_thermometer(network, path)


def _read(path: Path) -> Network:
    try:
        kind = kind_of(read_graph(path))
    except HDF5_ERRORS as error:
        raise InputError(f"{path}: the metadata are damaged ({reason_of(error)})") from error
    if kind not in READERS:
        raise InputError(f"{path}: holds a network of kind '{kind}', which this program does not know")
    return READERS[kind](path)


register(Format("nir", ".nir", _write, lambda file: "node" in file, _read))
