"""The contenders of the benchmark, one module each. Importing the package registers all; no peer is imported yet."""

from __future__ import annotations

from peers import (  # noqa: F401  registers them, in this order
    ours,
    ceiling,  # isort: skip
    fast_snn,  # isort: skip
    spikingjelly,  # isort: skip
    snntorch,  # isort: skip
    sinabs,  # isort: skip
    lava,  # isort: skip
)
