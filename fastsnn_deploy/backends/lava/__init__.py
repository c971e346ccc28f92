"""Lava backend: runs a spiking graph from its NetX file on Lava's CPU simulator. Importing this does not import Lava.

Process classes live alone in `processes`, because Lava executes every file beside a process's file.
"""

from fastsnn_deploy.backends.lava.backend import run as run
from fastsnn_deploy.backends.lava.stock import run_stock as run_stock
from fastsnn_deploy.backends.lava.stream import stream as stream
