"""Memory that commands take on folders of photographs of 224x224 pixels, by the number of images.

Makes the photographs (JPEG, 256x240 pixels, drawn at random) and a small network in --folder, runs each command in a
process of its own, and writes its peak of resident memory to docs/records/data_memory.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fastsnn_deploy import __version__

RECORD = Path(__file__).parent.parent / "docs" / "records" / "data_memory.json"
NETWORK = """
from torch import nn

def net():
    return nn.Sequential(
        nn.Conv2d(3, 4, 7, stride=4), nn.ReLU(), nn.Conv2d(4, 4, 3, stride=4), nn.ReLU(), nn.AvgPool2d(14),
        nn.Flatten(), nn.Linear(4, 2))
"""
OPTIONS = "--preprocess resize=232,crop=224,interpolation=bilinear --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"


def write_photos(folder: Path, count: int) -> None:
    """Photographs of two classes, half of them to learn from."""
    rng = np.random.default_rng(0)
    for n in range(count):
        place = folder / ("train" if n % 2 else "test") / f"class{n // 2 % 2}"
        place.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        small.resize((256, 240), Image.Resampling.BICUBIC).save(place / f"{n:05}.jpg", quality=85)


def peak(folder: Path, words: list[str]) -> float:
    """MiB of resident memory that a command takes at most."""
    child = subprocess.Popen(
        [sys.executable, "-m", "fastsnn_deploy", *words], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert child.stderr is not None
    said = child.stderr.read().decode()
    _, status, used = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(words)} failed:\n{said}")
    return used.ru_maxrss / 1024


def main() -> None:
    """Make, measure, record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where photographs and networks are written")
    parser.add_argument("--counts", default="200,3000", help="test images of the folders")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    (options.folder / "net.py").write_text(NETWORK)
    scope: dict[str, object] = {}
    exec(NETWORK, scope)
    torch.manual_seed(0)
    torch.save(scope["net"]().state_dict(), options.folder / "weights.pt")  # type: ignore[operator]
    counts = [int(count) for count in options.counts.split(",")]
    for count in counts:
        write_photos(options.folder / f"photos{count}", 2 * count)
    quantize = f"quantize weights.pt --model net.py:net {OPTIONS} --iterations 5 --images 256 --samples {counts[0]}"
    found: dict[str, dict[str, int]] = {}
    for count in counts:
        data = f"--data ./photos{count}"
        peaks = {"quantize": peak(options.folder, f"{quantize} {data} -o q{count}.pt".split())}
        peak(options.folder, f"export q{count}.pt -o q{count}.net".split())
        for command in ("evaluate", "profile"):
            peaks[command] = peak(options.folder, f"{command} q{count}.net --samples {count}".split())
        found[str(count)] = {name: round(value) for name, value in peaks.items()}
        print(count, found[str(count)], flush=True)
    record = {
        "made": datetime.date.today().isoformat(), "version": __version__, "torch": torch.__version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores", "photographs": "JPEG, 256x240 to 224x224",
        "bytes of an image": 3 * 224 * 224, "peak MiB by test images": found,
    }  # fmt: skip
    RECORD.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
