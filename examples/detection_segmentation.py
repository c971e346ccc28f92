"""Train a detector or a segmentation network, convert it, compare its three forms on all test images.

    python examples/detection_segmentation.py --task bccd --data-root FOLDER --out FOLDER [--bits 4,3] [--json]

--task bccd and camvid are the data sets of docs/records, boxes and masks a folder of your own laid out as PASCAL VOC
(docs/detection_segmentation.md). A float network first, then a quantised model for each number of bits. Of every
quantised model: figures of the quantised model (float32), of its integer network, and of the spiking network once it
has settled, whose output integers must all be equal; exit code 1 if one is not. Writes checkpoints, record.json and
pictures to --out, which should lie outside the repository: CamVid's pictures may not be published. Without options
the records' settings are used.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import platform
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from fastsnn_deploy.analysis.counting import connections_of, fan_out, has_multipliers, layer_nodes
from fastsnn_deploy.analysis.evaluation import Evaluation
from fastsnn_deploy.conversion.convert import convert
from fastsnn_deploy.errors import DeployError, InputError, MismatchError
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.quantisation import Checkpoint, load, save
from fastsnn_deploy.tasks import (
    Detection,
    Segmentation,
    Settings,
    Task,
    answers,
    load_bccd,
    load_box_folder,
    load_camvid,
    load_mask_folder,
    run_both,
    train,
)

TINY_YOLO = Settings("tiny-yolo", {"width": 16, "widest": 64, "halvings": 3}, epochs=(100, 40), batch=8)
VGG9 = Settings("vgg9-segmentation", {"width": 16, "dilation": 4, "stride": 4, "context": 64}, epochs=(50, 16), batch=8)
DEFAULTS = {"bccd": TINY_YOLO, "boxes": TINY_YOLO, "camvid": VGG9, "masks": VGG9}
DETECTORS = {"tiny-yolo": TINY_YOLO.options, "yolov2-resnet34": {"width": 16}}
SEGMENTERS = {"vgg9-segmentation": VGG9.options, "resnet34-aspp": {"width": 16, "stem": 2}}
"""Networks with the options they have here unless --option says otherwise: a quarter of the published width."""

SIZES = {"bccd": (192, 256), "boxes": (192, 256), "masks": (96, 128)}
"""Height and width of images; BCCD's are 0.4 of the files'. CamVid's file has a size of its own."""

SHOWN = (0, 7, 15)
"""Test images in the picture."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, convert, compare, write. arguments: those of the command line by default."""
    options = parsed(arguments)
    torch.set_num_threads(options.threads)
    try:
        record = run(options)
    except DeployError as error:
        print(error, file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except OSError as error:
        print(f"{error.filename}: {error.strerror}. Choose another --out", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    if options.json:
        print(written(record), end="")


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Options; argparse ends the program with code 2 and one line if one is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=sorted(DEFAULTS), required=True)
    parser.add_argument(
        "--data-root", default="data", help="folder that holds bccd/ or camvid.npz, or your folder itself"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for what is made")
    parser.add_argument("--bits", type=bits, default=[4, 3], help="activation bits of each stage, as in 4,3 (default)")
    parser.add_argument("--image", type=height_width, help="height and width images are resized to, as in 192x256")
    parser.add_argument("--model", choices=sorted({**DETECTORS, **SEGMENTERS}), help="network, if not the smaller one")
    parser.add_argument(
        "--option", type=option, action="append", default=[], metavar="NAME=NUMBER", help="of the network: width=32"
    )
    parser.add_argument("--anchors", type=positive, default=5, help="box shapes to find in the training boxes")
    parser.add_argument("--epochs", type=epochs, help="of the float stage and of each quantised one, as in 100,40")
    parser.add_argument("--batch", type=positive, help="images of a training step")
    parser.add_argument("--rate", type=rate, help="learning rate of the float stage; half of it in the others")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=positive, default=1)
    parser.add_argument("--images", type=positive, help="compare on the first so many test images, without figures")
    parser.add_argument("--evaluate-only", action="store_true", help="take the checkpoints in --out, train nothing")
    parser.add_argument("--json", action="store_true", help="print the record")
    return parser.parse_args(arguments)


def positive(text: str) -> int:
    """A whole number from 1."""
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 1")
    return int(text)


def rate(text: str) -> float:
    """A number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0")
    return value


def bits(text: str) -> list[int]:
    """Numbers from 1 to 8, with commas."""
    found = [positive(part) for part in text.split(",")]
    if max(found) > 8 or len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"'{text}' must name different numbers of bits from 1 to 8")
    return found


def epochs(text: str) -> tuple[int, int]:
    """Two whole numbers."""
    first, *rest = (positive(part) for part in text.split(","))
    if len(rest) != 1:
        raise argparse.ArgumentTypeError(f"'{text}' must be two numbers: of the float stage and of each quantised one")
    return first, rest[0]


def height_width(text: str) -> tuple[int, int]:
    """HEIGHTxWIDTH."""
    first, *rest = (positive(part) for part in text.split("x"))
    if len(rest) != 1:
        raise argparse.ArgumentTypeError(f"'{text}' must be height and width, as in 192x256")
    return first, rest[0]


def option(text: str) -> tuple[str, int]:
    """NAME=NUMBER."""
    name, _, number = text.partition("=")
    return name, positive(number)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Everything that `main` promises; returns the record."""
    settings = chosen_settings(options)
    task = make_task(options, settings)
    trained = options.out / "training.json"
    if not options.evaluate_only:
        options.out.mkdir(parents=True, exist_ok=True)  # before hours of training, not after
        stages = train(task, settings, options.bits, log)
        for stage in stages:
            if stage.bits is not None:
                save(stage.checkpoint(task, settings), file_of(options, stage.bits))
        summary = [
            {"bits": s.bits, "training seconds": round(s.seconds), "losses": s.losses, "test": s.figures}
            for s in stages
        ]
        trained.write_text(written(summary), encoding="utf-8")
    checkpoints = {own: checked(load(file_of(options, own)), task, file_of(options, own)) for own in options.bits}
    record: dict[str, Any] = {
        "task": options.task, "date": datetime.date.today().isoformat(), "python": platform.python_version(),
        "packages": packages(),
        "threads": options.threads, "train images": len(task.train.levels), "test images": len(task.test.levels),
        "image": list(task.train.shape), "description": task.description,
        "settings": checkpoints[options.bits[0]].metadata["settings"],
        "training": json.loads(trained.read_text(encoding="utf-8")) if trained.exists() else [], "networks": [],
    }  # fmt: skip
    different = 0
    for own, checkpoint in checkpoints.items():
        result = compare(task, checkpoint, own, options)
        different += result["output integers"]["different"] + result["hidden counts"]["different"]
        record["networks"].append(result)
        (options.out / "record.json").write_text(written(record), encoding="utf-8")
    if different:
        raise MismatchError(f"{different} integers of the settled spiking networks differ, see record.json")
    return record


def packages() -> dict[str, str]:
    """Versions of those that are installed; only detectors need torchmetrics."""
    found = {}
    for name in ("torch", "torchvision", "torchmetrics", "pycocotools", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def chosen_settings(options: argparse.Namespace) -> Settings:
    """The task's defaults with what the command line says."""
    settings = replace(DEFAULTS[options.task], seed=options.seed)
    known = DETECTORS if settings.model in DETECTORS else SEGMENTERS
    model = options.model or settings.model
    if model not in known:
        raise InputError(f"--model {model} does not answer --task {options.task}. Choose {' or '.join(known)}")
    settings = replace(settings, model=model, options={**known[model], **dict(options.option)})
    if options.epochs:
        settings = replace(settings, epochs=options.epochs)
    if options.batch:
        settings = replace(settings, batch=options.batch)
    if options.rate:
        settings = replace(settings, rate=options.rate, quantised_rate=options.rate / 2)
    return settings


def make_task(options: argparse.Namespace, settings: Settings) -> Task:
    """Data and question."""
    name, root = options.task, options.data_root
    if name == "camvid":
        if options.image:
            raise InputError(
                "--image does not go with --task camvid, whose file holds images of one size. Leave it out"
            )
        return Segmentation(load_camvid(root, "train"), load_camvid(root, "test"))
    size = options.image or SIZES[name]
    if name == "masks":
        return Segmentation(load_mask_folder(root, "train", size), load_mask_folder(root, "test", size))
    read = load_bccd if name == "bccd" else load_box_folder
    stride = 32 if settings.model == "yolov2-resnet34" else 2 ** settings.options["halvings"]
    return Detection(read(root, "train", size), read(root, "test", size), stride=stride, anchors=options.anchors)


def checked(checkpoint: Checkpoint, task: Task, file: Path) -> Checkpoint:
    """A checkpoint that was trained for the task at hand. Anchors follow from the training boxes, classes from data."""
    wanted = {"image": list(task.train.shape), **task.description}
    stored = {**checkpoint.metadata, "image": list(checkpoint.input_shape)}
    for key, value in wanted.items():
        if stored.get(key) != value:
            raise InputError(
                f"{file}: was trained for {key} {stored.get(key)}, but data and options ask for {value}. "
                "Use those it was trained with"
            )
    return checkpoint


def compare(task: Task, checkpoint: Checkpoint, own_bits: int, options: argparse.Namespace) -> dict[str, Any]:
    """Figures of one network's three forms."""
    graph = convert(checkpoint)
    levels = task.test.levels[: options.images]
    whole = len(levels) == len(task.test.levels)
    start = time.perf_counter()
    early = graph.depth + 2**own_bits - 1  # as many steps as Fast-SNN's T, once the first synaptic input has arrived
    both = run_both(
        graph, levels, threads=options.threads, early=(early,), strict=False,
        progress=lambda done, n: log(f"{own_bits} bit: {done}/{n}"),
    )  # fmt: skip
    seconds = time.perf_counter() - start
    quantised = answers(task, checkpoint.model, levels)
    forms = {
        "quantised": quantised, "integer network": both.integer, "spiking network": both.spiking,
        f"spiking network after {early} steps": both.early[early],
    }  # fmt: skip
    chosen = [i for i in SHOWN if i < len(levels)]
    task.picture(both.spiking[chosen], chosen).save(options.out / f"{options.task}-{own_bits}bit.png", optimize=True)
    result = {
        "activation bits": own_bits,
        "weight bits": checkpoint.metadata["settings"]["weight_bits"],
        "images": len(levels),
        "output integers": {"compared": both.outputs, "different": both.different_outputs},
        "hidden counts": {"compared": both.neurons, "different": both.different_neurons},
        **({name: task.score(values) for name, values in forms.items()} if whole else {}),
        "largest difference between quantised model and integer network": float((quantised - both.integer).abs().max()),
        "root mean square of the outputs": float(quantised.square().mean().sqrt()),
        "settle steps": {"mean": both.work.mean_settle_steps, "max": both.work.max_settle_steps},
        **work_of_an_image(graph, both.work),
        "neurons": neurons(graph),
        "depth": graph.depth,
        "comparison seconds": round(seconds),
    }
    figures = {name: round(100 * result[name][task.metric], 2) for name in forms} if whole else {}
    log(f"{own_bits} bit, {task.metric} in %: {figures}; {both.work.mean_settle_steps:.1f} steps")
    log(f"{own_bits} bit: {both.outputs:,} output integers compared, {both.different_outputs} differ")
    return result


def work_of_an_image(graph: SpikingGraph, work: Evaluation) -> dict[str, float]:
    """Means over the images. Spikes: of hidden neurons, of both signs; the image's own spikes are counted apart."""
    sent = [work.activity[population.name] for population in graph.populations]
    spikes = [activity.positive + activity.negative for activity in sent]
    connections = [c for node in layer_nodes(graph) for c in connections_of(graph, node) if has_multipliers(c)]
    return {
        "spikes of an image": sum(spikes) / work.images,
        "negative spikes of an image": sum(activity.negative for activity in sent) / work.images,
        "input spikes of an image": (work.spikes - sum(spikes)) / work.images,
        "synaptic operations of an image": work.synaptic_operations / work.images,
        "multiply-accumulates of the integer network": sum(int(fan_out(graph, c).sum()) for c in connections),
    }


def neurons(graph: SpikingGraph) -> int:
    """Of all populations."""
    return sum(population.size for population in graph.populations)


def file_of(options: argparse.Namespace, own_bits: int) -> Path:
    """Where a quantised model lies."""
    return Path(options.out / f"{options.task}-{own_bits}bit.pt")


def written(record: object) -> str:
    """JSON with rounded numbers, lists of plain values on one line, null for what has no value."""
    text = json.dumps(plain(record), indent=1, allow_nan=False)
    return re.sub(r"\[[^\[\]{}]*\]", lambda found: f"[{' '.join(found[0][1:-1].split())}]", text) + "\n"


def plain(value: Any) -> Any:
    """The same with floats of six digits after the point, and None for NaN."""
    if isinstance(value, dict):
        return {key: plain(own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [plain(own) for own in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value


def log(line: str) -> None:
    """Progress, on standard error."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
