"""Memory that commands take on folders of photographs of 224x224 pixels, by the number of images.

Makes the photographs (JPEG, 256x240 pixels, drawn at random) and a small network in --folder, runs each command in a
process of its own, and writes its peak of resident memory to docs/records/data_memory.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

import fastsnn_deploy as fd

RECORD = Path(__file__).parent.parent / "docs" / "records" / "data_memory.json"
WANTED = fd.Preprocessing(resize=232, crop=(224, 224), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
FEW = 8


def write_photos(folder: Path, count: int) -> None:
    """Photographs of two classes: so many for the test, and a few to learn from."""
    rng = np.random.default_rng(0)
    for n in range(count + FEW):
        place = folder / ("test" if n < count else "train") / f"class{n % 2}"
        place.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        small.resize((256, 240), Image.Resampling.BICUBIC).save(place / f"{n:05}.jpg", quality=85)


def write_network(folder: Path, data: Path) -> None:
    """`net.net`, which knows its preprocessing."""
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 7, stride=4), nn.ReLU(), nn.Conv2d(4, 4, 3, stride=4), nn.ReLU(), nn.AvgPool2d(14)
    images = fd.load_data(str(data), "train", preprocessing=WANTED)
    model = fd.prepare(nn.Sequential(*layers, nn.Flatten(), nn.Linear(4, 2)), preprocessing=images.preprocessing)
    fd.calibrate(model, images)
    fd.export(model, folder / "net.net")


def peak(words: list[str]) -> float:
    """MiB of resident memory that a command takes at most."""
    child = subprocess.Popen(
        [sys.executable, "-m", "fastsnn_deploy", *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
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
    parser.add_argument("--folder", type=Path, required=True, help="where photographs and the network are written")
    parser.add_argument("--counts", default="100,2000", help="test images of the folders")
    parser.add_argument("--commands", default="evaluate,profile", help="what is measured")
    options = parser.parse_args()
    found: dict[str, dict[str, int]] = {}
    for count in map(int, options.counts.split(",")):
        data = options.folder / f"photos{count}"
        write_photos(data, count)
        if not found:
            write_network(options.folder, data)
        common = [str(options.folder / "net.net"), "--data", str(data), "--samples", str(count)]
        found[str(count)] = {name: round(peak([name, *common])) for name in options.commands.split(",")}
        print(count, found[str(count)], flush=True)
    record = {
        "made": datetime.date.today().isoformat(), "version": fd.__version__, "cores": os.cpu_count(),
        "photographs": "JPEG, 256x240 to 224x224", "bytes of an image": 3 * 224 * 224,
        "peak MiB by test images": found,
    }  # fmt: skip
    RECORD.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
