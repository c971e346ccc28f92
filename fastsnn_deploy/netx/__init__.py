"""Spiking graphs as lava-dl NetX HDF5 files with a versioned extension. `docs/netx_extension.md` is the format."""

from fastsnn_deploy.netx.file import VERSION as VERSION
from fastsnn_deploy.netx.file import read as read
from fastsnn_deploy.netx.file import write as write
