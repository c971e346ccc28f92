"""How long it takes to map torchvision's ResNet-50 at 224x224 (docs/mapping.md); weights are random.

python scripts/map_resnet50.py
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
import torchvision

import fastsnn_deploy as fd


def timed(what: str, call: Callable[[], Any]) -> Any:
    """Call, and print how long it took."""
    start = time.perf_counter()
    result = call()
    print(f"{what}: {time.perf_counter() - start:.1f} s", flush=True)
    return result


def main() -> None:
    """Prepare, convert, map for both objectives."""
    model = torchvision.models.resnet50(weights=None).eval()
    quantised = timed("prepare", lambda: fd.prepare(model, bits=2, weight_bits=4, input_shape=(3, 224, 224)))
    fd.calibrate(quantised, torch.rand(4, 3, 224, 224))
    graph = timed("convert", lambda: fd.convert(quantised))
    print(timed("map, fewest cores", lambda: fd.map_cores(graph, "loihi2")))
    print(timed("map, balanced", lambda: fd.map_cores(graph, "loihi2", objective="balance")))


if __name__ == "__main__":
    main()
