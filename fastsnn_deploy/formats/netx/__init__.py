"""Spiking graphs as lava-dl NetX HDF5 files with a versioned extension. `docs/netx_extension.md` is the format."""

from fastsnn_deploy.formats.netx import format as _format  # noqa: F401  registers the format
from fastsnn_deploy.formats.netx.file import VERSION as VERSION
from fastsnn_deploy.formats.netx.file import read as read
from fastsnn_deploy.formats.netx.file import write as write
from fastsnn_deploy.formats.netx.stock_file import kind_of as kind_of
from fastsnn_deploy.formats.netx.stock_file import read_extra as read_extra
from fastsnn_deploy.formats.netx.stock_file import read_stock as read_stock
from fastsnn_deploy.formats.netx.stock_file import write_stock as write_stock
