"""NetX as one of the formats: spiking graphs with the extension, stock networks without."""

from __future__ import annotations

from pathlib import Path

from fastsnn_deploy.formats.base import Format, Network, register
from fastsnn_deploy.formats.netx.file import VERSION_KEY, read, write
from fastsnn_deploy.formats.netx.stock_file import kind_of, read_stock, write_stock
from fastsnn_deploy.graph import SpikingGraph


def _write(network: Network, path: Path) -> None:
    if isinstance(network, SpikingGraph):
        write(network, path)
    else:
        write_stock(network, path)


def _read(path: Path) -> Network:
    return read(path) if kind_of(path) == "extension" else read_stock(path)


register(Format("netx", ".net", _write, lambda file: VERSION_KEY in file.attrs or "layer" in file, _read))
