"""The contenders of the benchmark, one module each. Importing the package registers all; no peer is imported yet."""

from __future__ import annotations

import importlib

for _name in ("ours", "ceiling", "fast_snn", "spikingjelly", "snntorch", "sinabs", "lava"):  # the order of tables
    importlib.import_module(f"peers.{_name}")
