"""What a file format is: how networks are written, recognised and read. A new one is one folder, named in `FOLDERS`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import h5py

from fastsnn_deploy.errors import InputError, known_name, wrong_type
from fastsnn_deploy.files import existing_file
from fastsnn_deploy.formats.hdf5 import HDF5_ERRORS, unreadable
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.lava_dl import StockNetwork
from fastsnn_deploy.reading import damaged

Network = SpikingGraph | StockNetwork

FOLDERS = ("netx", "nir")
"""Each registers its format when it is imported, which happens when formats are first asked for."""


@dataclass(frozen=True)
class Format:
    """suffix: of its files. write: network and path -> a report of what the file does not say, or None.

    holds: whether an open HDF5 file is of this format. read: a file of it, whoever wrote it; raises InputError.
    """

    name: str
    suffix: str
    write: Callable[[Network, Path], Any]
    holds: Callable[[h5py.File], bool]
    read: Callable[[Path], Network]


_REGISTERED: dict[str, Format] = {}


def register(made: Format) -> None:
    """Add a format."""
    _REGISTERED[made.name] = made


def formats() -> Mapping[str, Format]:
    """Every format by name."""
    for folder in FOLDERS:
        import_module(f"fastsnn_deploy.formats.{folder}")
    return _REGISTERED


def format_named(name: str) -> Format:
    """A format by its name. Raises InputError, with a guess, for an unknown one."""
    return formats()[known_name("format", name, formats())]


def as_network(network: Any) -> Network:
    """A network as users hand it over: itself, or the path of its file. Raises InputError for anything else."""
    if isinstance(network, (SpikingGraph, StockNetwork)):
        return network
    if isinstance(network, (str, os.PathLike)):
        return read_network(Path(network))
    raise wrong_type(
        "the network", network, "a spiking network: what fd.convert or fd.read gives, or a file of fd.export"
    )


def read_network(path: str | Path) -> Network:
    """Read a network from any file that this program knows.

    Args:
        path: NetX with or without the extension of this program, or NIR, of any program.

    Returns:
        A spiking graph, or a network of stock neurons, whichever the file holds.

    Raises:
        InputError: if there is no such file, no format recognises it, or it cannot be read.

    Example:
        >>> network = read_network("model.net")  # doctest: +SKIP
    """
    found = format_of(path)
    with damaged(path, f"{found.name} file"):
        return found.read(Path(path))


def format_of(path: str | Path) -> Format:
    """The format of a file, by what is in it. Raises InputError if none recognises it."""
    # a file of another kind of ours, such as a checkpoint, is named with what to do with it
    path = existing_file(path, "NetX file", "NIR file")
    try:
        with h5py.File(path, "r") as file:
            found = [each for each in formats().values() if each.holds(file)]
    except HDF5_ERRORS as error:
        raise unreadable(path, error) from error
    if not found:
        names = " nor a ".join(f"{each.name} file ({each.suffix})" for each in formats().values())
        raise InputError(f"{path}: is an HDF5 file, but neither a {names}. Write one with `export`")
    return found[0]
