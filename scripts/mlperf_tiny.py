"""The networks of MLPerf Tiny as every target: which are exact, what they take on a chip, for docs/tiny.md.

    python scripts/mlperf_tiny.py --data-root FOLDER [--only ds-cnn ...] [--page]

FOLDER holds cifar10 and weights/mlperf_tiny_pretrainedResnet.h5, for ResNet-8; the others have random weights and
images, for no data of theirs is at hand. Entries of docs/records/mlperf_tiny.json that are there are left out unless
--again is given. --page writes the tables of docs/tiny.md from the record and measures nothing.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import torch

import fastsnn_deploy as fd
from fastsnn_deploy.files import write_file
from fastsnn_deploy.targets import TARGETS
from fastsnn_deploy.training.models import build
from fastsnn_deploy.training.models.mlperf_tiny import ResNet8

ROOT = Path(__file__).parents[1]
RECORD, PAGE = ROOT / "docs/records/mlperf_tiny.json", ROOT / "docs/tiny.md"
SHAPES = {"ds-cnn": (1, 49, 10), "mobilenet-v1-0.25": (3, 96, 96), "resnet8": (3, 32, 32), "autoencoder": (640,)}
BITS = {"ds-cnn": (2, 4), "mobilenet-v1-0.25": (2,), "resnet8": (2, 4), "autoencoder": (2, 4)}
"""Of activations. MobileNet with 4 bits as stock LIF, 15 neurons for each count, is left out: it takes hours."""
WEIGHT_BITS = 8
IMAGES = 2
HARDWARE = "loihi2"


def network(name: str, root: Path) -> tuple[Any, Any, dict[str, Any]]:
    """(float network, 32 images for it, options of `prepare`)."""
    torch.manual_seed(0)
    if name == "resnet8":
        model = ResNet8().load_keras(root / "weights" / "mlperf_tiny_pretrainedResnet.h5").eval()
        train = fd.load_data("cifar10", "train", root)
        return model, train.raw(slice(0, 256)).numpy(), {"std": (1 / 255,)}
    model = build(name).train()
    images = (torch.rand(32, *SHAPES[name]) * 255).round() / 255
    with torch.no_grad():
        for _ in range(20):  # statistics of batch norm that belong to the random weights
            model(images)
    return model.eval(), images.numpy(), {}


def as_target(graph: Any, images: Any, target: str, folder: Path) -> dict[str, Any]:
    """What becomes of a graph as a target."""
    file = folder / "network.net"
    try:
        fd.export(graph, file, target=target, images=images[:8])
        found: dict[str, Any] = {"bytes": file.stat().st_size, "bound_to_be_exact": TARGETS[target].exact}
        if TARGETS[target].exact:
            proof = fd.verify(graph, images[:IMAGES], net=file, batch=1)
            found |= {"compared": proof.total.compared, "differing": proof.total.differing, "rounded": proof.rounded}
        profile = fd.profile(file, images[:IMAGES], HARDWARE)
    except fd.DeployError as error:
        return {"refused": [str(error).splitlines()[0], *map(str, getattr(error, "problems", ()))][:3]}
    chip = profile.mapping
    plain = profile.evaluation.to_dict()
    return found | {
        "cores": chip.cores, "chips": chip.chips, "fits": chip.fits,
        "violations": [str(each) for each in chip.violations[:2]],
        "summary": repr(profile), "settle_steps": plain["settle_steps"]["max"], **plain["per_image"],
    }  # fmt: skip


def measured(name: str, root: Path) -> dict[str, Any]:
    """One network at every number of bits, as every target."""
    model, images, options = network(name, root)
    parameters = sum(each.numel() for each in model.parameters())
    statistics = sum(each.numel() for key, each in model.named_buffers() if "running" in key)
    entry: dict[str, Any] = {
        "date": str(datetime.date.today()), "shape": SHAPES[name], "parameters": parameters,
        "with_statistics": parameters + statistics, "bits": {},
    }  # fmt: skip
    for bits in BITS[name]:
        quantised = fd.prepare(model, bits, WEIGHT_BITS, input_shape=SHAPES[name], **options)
        fd.calibrate(quantised, images)
        graph = fd.convert(quantised)
        rows = {}
        for target in TARGETS:
            with tempfile.TemporaryDirectory() as folder:
                rows[target] = as_target(graph, images, target, Path(folder))
            print(name, bits, target, json.dumps(rows[target])[:300], flush=True)
        entry["bits"][str(bits)] = {"neurons": sum(node.size for node in graph.populations), "targets": rows}
    return entry


def table(record: dict[str, Any]) -> str:
    """The rows of docs/tiny.md."""
    lines = [
        "| network | bits | target | integers compared, differing | cores | steps | spikes | operations | energy |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in filter(record.__contains__, SHAPES):
        for bits, entry in record[name]["bits"].items():
            for target, row in entry["targets"].items():
                start = f"| {name} | {bits} | {target} |"
                if "refused" in row:
                    cause = textwrap.shorten(row["refused"][-1].replace("|", "/"), 120, placeholder=" ...")
                    lines.append(f"{start} refused: {cause} | | | | | |")
                    continue
                proof = f"{row['compared']:,}, {row['differing']:,}" if "compared" in row else "not exact as built"
                cores = f"{row['cores']:,}" if row["fits"] else f"{row['cores']:,}, does not fit"
                energy = re.search(r"([\d.,]+ \SJ) on", row["summary"]) if row["fits"] else None
                work = f"{row['settle_steps']} | {row['spikes']:,.0f} | {row['synaptic_operations']:,.0f}"
                lines.append(f"{start} {proof} | {cores} | {work} | {energy[1] if energy else ''} |")
    return "\n".join(lines)


def write_page(record: dict[str, Any]) -> None:
    """Put the table between the marks of the page."""
    text = PAGE.read_text(encoding="utf-8")
    made = f"<!-- made by scripts/mlperf_tiny.py -->\n{table(record)}\n<!-- end -->"
    write_file(PAGE, re.sub(r"<!-- made by.*<!-- end -->", lambda _: made, text, flags=re.DOTALL), again=True)


def main() -> None:
    """Measure what is asked for and not there yet, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    parser.add_argument("--only", nargs="*", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--page", action="store_true", help="write the tables of docs/tiny.md, measure nothing")
    options = parser.parse_args()
    record = dict(json.loads(RECORD.read_text(encoding="utf-8"))) if RECORD.exists() else {}
    for name in () if options.page else options.only:
        if name not in record or options.again:
            record[name] = measured(name, options.data_root)
            write_file(RECORD, json.dumps(dict(sorted(record.items())), indent=1) + "\n", again=True)
    if options.page:
        write_page(record)


if __name__ == "__main__":
    main()
