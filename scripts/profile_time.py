"""How much longer a profile takes than an evaluation of the same images.

    python scripts/profile_time.py --data-root data --record docs/records/profile_time.json

Both run in turns in one process; seconds of wall clock and of all processors, of each the least of the turns.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import fastsnn_deploy as fd


def seconds(work: Callable[[], Any]) -> tuple[float, float]:
    """Wall clock and processors."""
    wall, processors = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processors


def main() -> None:
    """Measure, print, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("net", nargs="?", default="netx_exports/resnet20-2bit-unary.net")
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    network = fd.read(options.net)
    data = fd.load_data("cifar10", "test", options.data_root)
    images, labels = data.for_input(network.input)[: options.samples], data.labels.numpy()[: options.samples]
    for warm in (fd.evaluate, fd.profile):
        warm(network, images[:20])
    turns = [
        (
            seconds(lambda: fd.evaluate(network, images, labels)),
            seconds(lambda: fd.profile(network, images, "loihi2", labels)),
        )
        for _ in range(options.turns)
    ]
    record: dict[str, Any] = {"date": date.today().isoformat(), "network": options.net, "images": len(images)}
    for at, name in enumerate(("wall_s", "processors_s")):
        plain, profiled = (min(turn[which][at] for turn in turns) for which in (0, 1))
        record[name] = {"evaluate": round(plain, 2), "profile": round(profiled, 2), "ratio": round(profiled / plain, 3)}
    print(json.dumps(record, indent=1))
    if options.record is not None:
        options.record.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
