"""What a NIR file of another program means here, where its own program may mean something else."""

from __future__ import annotations

from collections.abc import Sequence

import nir


def differences(nodes: Sequence[tuple[str, nir.NIRNode]]) -> list[str]:
    """Lines for the user, to read before the network of these named nodes runs.

    Example:
        >>> import numpy as np
        >>> differences([("a", nir.I(np.ones(1)))])[1]
        'a (I) adds up all steps; a run of another length gives another answer'
    """
    lines = [
        "edges take no time in NIR; here each layer with weights answers one step after what it reads, with the same "
        "spikes"
    ]
    memory = _names(nodes, nir.IF)
    if memory:
        lines.append(
            f"{memory} (IF) goes back to 0 when it fires, as NIR says. snnTorch (reset_mechanism='subtract'), sinabs "
            "and SpikingJelly (soft reset) write the same for neurons that keep what is left: their spikes differ"
        )
    if firing := _names(nodes, nir.IF, nir.LIF, nir.CubaLIF, nir.Threshold):
        lines.append(
            f"{firing} fires above its threshold, as NIR says; sinabs and SpikingJelly fire at it too: their spikes "
            "differ where a potential is equal to it"
        )
    if sums := _names(nodes, nir.I):
        lines.append(f"{sums} (I) adds up all steps; a run of another length gives another answer")
    return lines


def _names(nodes: Sequence[tuple[str, nir.NIRNode]], *kinds: type) -> str:
    found = [name for name, node in nodes if type(node) in kinds]
    return found[0] if len(found) == 1 else f"{found[0]} and {len(found) - 1} others" if found else ""
