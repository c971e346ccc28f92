"""The official modules of Fast-SNN and QCFS beside ours, on CIFAR-10: do both count the same integers?

    python scripts/official_codes.py --fast-snn FOLDER --qcfs FOLDER --data FOLDER [--images 50]

FOLDER: a checkout of github.com/yangfan-hu/Fast-SNN and of github.com/putshua/ANN_SNN_QCFS. Their code is run, not
copied. No trained weights are published for all of them, so weights are random, batch norms get the statistics of
images and random gains and shifts, and thresholds the 99th percentile of what they see, which spreads counts over all
levels. Written to docs/records/official_codes.json, with the table of docs/official_codes.md.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
import types
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fastsnn_deploy import __version__, load_data
from fastsnn_deploy.analysis.agreement import agreement
from fastsnn_deploy.conversion.convert import converted
from fastsnn_deploy.files import write_file
from fastsnn_deploy.quantisation import Checkpoint
from fastsnn_deploy.quantisation.calibration import OFFICIAL
from fastsnn_deploy.quantisation.others.proof import official_counts
from fastsnn_deploy.quantisation.others.take import compare_with_official, from_quantised

RECORD = Path(__file__).parents[1] / "docs" / "records" / "official_codes.json"
PAGE = RECORD.parents[1] / "official_codes.md"
MARK, END = "<!-- made by scripts/official_codes.py -->", "<!-- end -->"
"""Between them lies the table of the page."""

STD = (0.247, 0.243, 0.262)
MEAN = (125 / 255, 123 / 255, 114 / 255)
"""Of the official data loaders, the mean rounded to whole levels of the image: see docs/official_codes.md."""

THRESHOLDS = ("thresh", "act_alpha")
PERCENTILE = 0.99
BATCH = 5


def fast_snn(root: Path, folder: str, name: str, bits: int) -> nn.Module:
    """A network of Fast-SNN."""
    return imported(root / "image classification" / folder, "models").__dict__[name](bit=bits)


def qcfs(root: Path, name: str, levels: int) -> nn.Module:
    """A network of QCFS; its file of layers imports OpenCV for nothing."""
    sys.modules.setdefault("cv2", types.SimpleNamespace(mean=None))  # type: ignore[arg-type]
    network = imported(root, "Models").modelpool(name, "cifar10")
    network.set_L(levels)
    return network


def imported(folder: Path, name: str) -> Any:
    """A package of an official checkout, which may have the name of another one's."""
    for known in [each for each in sys.modules if each.split(".")[0] == name]:
        del sys.modules[known]
    sys.path.insert(0, str(folder))
    try:
        return __import__(name)
    finally:
        sys.path.pop(0)


def spread(network: nn.Module, images: torch.Tensor) -> None:
    """Statistics and thresholds from images, so that every level occurs."""
    generator = torch.Generator().manual_seed(1)
    hooks = []
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            with torch.no_grad():
                sign = torch.where(torch.rand(module.weight.shape, generator=generator) < 0.1, -1.0, 1.0)
                module.weight.copy_(sign * (0.5 + torch.rand(module.weight.shape, generator=generator)))
                module.bias.copy_(0.3 * torch.randn(module.bias.shape, generator=generator))
        for name in THRESHOLDS:
            if hasattr(module, name):
                hooks.append(module.register_forward_pre_hook(set_threshold(name)))
    network.train()
    with torch.no_grad():
        network(images.clone())
    for hook in hooks:
        hook.remove()
    network.eval()


def set_threshold(name: str) -> Callable[[nn.Module, Any], None]:
    """Sets a threshold to a percentile of what its module receives."""

    def hook(module: nn.Module, arguments: Any) -> None:
        values = arguments[0].clamp_min(0).reshape(-1)
        rank = int(PERCENTILE * len(values))
        getattr(module, name).data.fill_(float(values.kthvalue(rank).values))

    return hook


def measured(network: nn.Module, levels: torch.Tensor, normalised: torch.Tensor) -> dict[str, Any]:
    """What is compared of one network."""
    spread(network, normalised[:64])
    start = time.perf_counter()
    quantised = from_quantised(network, mean=MEAN, std=STD, input_shape=(3, 32, 32))
    found, seconds = quantised.meta[OFFICIAL], time.perf_counter() - start
    totals = dict.fromkeys(("counts", "same", "ties", "float32", "layer", "network"), 0)
    used: dict[str, set[int]] = {}
    answers, alike, widest = 0.0, 0, 0.0
    for begin in range(0, len(levels), BATCH):
        batch = levels[begin : begin + BATCH]
        counts, (ours, theirs), official = compare_with_official(quantised, found, batch, chained=True)
        totals["counts"] += counts.compared
        totals["same"] += counts.compared - counts.differing
        totals["ties"] += counts.ties
        answers = max(answers, float((ours - theirs).abs().max() / theirs.abs().max()))
        single, _ = official_counts(found.official, found.activations, normalised[begin : begin + BATCH], torch.float32)
        pairs = ((a, b) for path in official for a, b in zip(official[path], single[path], strict=True))
        totals["float32"] += sum(int((a != b).sum()) for a, b in pairs)
        for path, calls in official.items():
            for call in calls:
                used.setdefault(path, set()).update(call.unique().long().tolist())
        alone, _, _ = compare_with_official(quantised, found, batch, whole=True)
        deployed, (ours, theirs), _ = compare_with_official(quantised, found, batch, whole=True, chained=True)
        totals["layer"] += alone.differing
        totals["network"] += deployed.differing
        alike += int((ours.argmax(1) == theirs.argmax(1)).sum())
        widest = max(widest, float((ours - theirs).abs().max() / theirs.abs().max()))
        print(f"  {begin + len(batch)} images, {totals['counts'] - totals['same']} of {totals['counts']:,} differ")
    quantised.meta["examples"] = levels[:4].float() / 255
    graph, calls = converted(Checkpoint(quantised, (3, 32, 32)), allow_loss=True)
    close = agreement(quantised, graph, calls)
    counted = totals["counts"]
    return {
        "images": len(levels),
        "notes": list(quantised.meta["notes"]),
        "layers": len(used),
        "layers_using_every_level": sum(len(seen) == found.activations[p].levels + 1 for p, seen in used.items()),
        "counts": counted,
        "differing": counted - totals["same"],
        "on_exact_ties": totals["ties"],
        "largest_difference_of_an_answer": answers,
        "official_float32_against_its_float64": totals["float32"],
        "with_integer_weights": {
            "share_differing_layer_by_layer": totals["layer"] / counted,
            "share_differing_in_all": totals["network"] / counted,
            "same_class": alike / len(levels),
            "largest_difference_of_an_answer": widest,
        },
        "integer_network": {
            "share_differing_in_the_worst_layer": max(close.layers.values(), default=0.0),
            "share_differing_in_all": close.share,
            "largest_difference_of_an_answer": close.answer,
        },
        "seconds_to_take": round(seconds, 1),
    }


def commit(folder: Path) -> str:
    """The commit of a checkout, or what its folder says."""
    run = subprocess.run(["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return run.stdout.strip() or "unknown"


def table(record: dict[str, Any]) -> str:
    """The page's table."""
    rows = ["network", "layers", "counts", "differ", "official in float32", "8-bit weights", "fixed thresholds"]
    lines = ["| " + " | ".join(rows) + " |", "|---" * len(rows) + "|"]
    for name, found in record["networks"].items():
        whole, fixed = found["with_integer_weights"], found["integer_network"]
        cells = [name, found["layers"], f"{found['counts']:,}", f"{found['differing']:,}"]
        cells.append(f"{found['official_float32_against_its_float64']:,}")
        cells.append(f"{100 * whole['share_differing_layer_by_layer']:.2g} %")
        cells.append(f"{100 * fixed['share_differing_in_the_worst_layer']:.2g} %")
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n\n" + "\n".join(lines) + "\n\n"


def main() -> None:
    """Compare every network, and write what was found after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast-snn", type=Path, required=True)
    parser.add_argument("--qcfs", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    torch.manual_seed(0)
    levels = load_data("cifar10", "test", options.data).levels[: options.images].long()
    across = (1, 3, 1, 1)
    mean, std = (torch.tensor(values, dtype=torch.float64).view(across) for values in (MEAN, STD))
    normalised = ((levels / 255 - mean) / std).float()
    cases: dict[str, Callable[[], nn.Module]] = {
        "Fast-SNN ResNet-18, 3 bits": lambda: fast_snn(options.fast_snn, "CIFAR10_resnet18", "resnet18", 3),
        "QCFS VGG-16, L = 8": lambda: qcfs(options.qcfs, "vgg16", 8),
        "Fast-SNN ResNet-20, 3-bit APoT weights": lambda: fast_snn(options.fast_snn, "CIFAR10_res", "resnet20", 3),
        "Fast-SNN ResNet-20, 4-bit APoT weights": lambda: fast_snn(options.fast_snn, "CIFAR10_res", "resnet20", 4),
        "QCFS ResNet-20, L = 4": lambda: qcfs(options.qcfs, "resnet20", 4),
    }
    record: dict[str, Any] = json.loads(RECORD.read_text()) if RECORD.exists() else {"networks": {}}
    record |= {
        "script": "scripts/official_codes.py",
        "date": datetime.now(timezone.utc).date().isoformat(),
        "version": __version__,
        "torch": torch.__version__,
        "processor": platform.processor() or platform.machine(),
        "commits": {"Fast-SNN": commit(options.fast_snn), "ANN_SNN_QCFS": commit(options.qcfs)},
    }
    for name, made in cases.items():
        if options.only in name:
            print(name)
            record["networks"][name] = measured(made(), levels, normalised)
            write_file(RECORD, json.dumps(record, indent=1) + "\n", again=True)
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(MARK)
    write_file(PAGE, before + MARK + table(record) + rest[rest.index(END) :], again=True)


if __name__ == "__main__":
    main()
