"""What the commands share that take a network from any file: options, and the way to a quantised model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastsnn_deploy.cli.tasks import chosen_task, has_scenes, height_width
from fastsnn_deploy.errors import InputError

if TYPE_CHECKING:
    from fastsnn_deploy.graph.preprocessing import Preprocessing
    from fastsnn_deploy.quantisation import Checkpoint
    from fastsnn_deploy.quantisation.sources import Loaded
    from fastsnn_deploy.tasks import Task
    from fastsnn_deploy.training.data import Choice

ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="Network that a file of weights belongs to: package.module:builder, file.py:builder, torchvision:NAME, "
        "timm:NAME, or a known name; options in brackets, as 'torchvision:resnet18(num_classes=10)'.",
    ),
]
Key = Annotated[str | None, typer.Option(help="Entry of a training checkpoint that holds the weights, as ema.")]
TrustPickle = Annotated[
    bool, typer.Option("--trust-pickle", help="Load a pickled module, which runs whatever code is in the file.")
]
InputShape = Annotated[
    str | None, typer.Option(help="Shape of one image, as 3,32,32, where the file and the data do not say it.")
]
Mean = Annotated[
    str | None,
    typer.Option(help="What the float network's images were normalised with, as 0.5,0.5,0.5. Default: the data's own."),
]
Std = Annotated[str | None, typer.Option(help="Likewise.")]
Bits = Annotated[
    int | None, typer.Option(min=1, max=8, help="Of a float network: bits of activations, with steps from images.")
]
WeightBits = Annotated[int | None, typer.Option(min=2, max=8, help="Of a float network: bits of weights. Default: 8.")]

RateSteps = Annotated[
    int | None,
    typer.Option(
        "--rate-steps", min=1, max=255, help="Of a network of SpikingJelly: steps after which rates are read."
    ),
]
Output = Annotated[
    str | None,
    typer.Option("--output", help="Of a network with several outputs: the one to deploy, a key or a position from 0."),
]
ReplaceActivations = Annotated[
    str | None,
    typer.Option(help="relu: ReLU in the place of SiLU, GELU, leaky ReLU and their like. Fine-tuning is needed then."),
]

WEIGHT_BITS = 8

TOLD = 6
"""Significant digits of what is to be typed again."""


def changes(output: str | None, replace_activations: str | None) -> dict[str, Any]:
    """Options of `prepare` that choose or change what a network computes."""
    given = {"output": output, "replace_activations": replace_activations}
    return {name: value for name, value in given.items() if value is not None}


def numbers(option: str, text: str | None, kind: type = float) -> tuple[Any, ...] | None:
    """Numbers with commas between. Raises InputError for anything else."""
    if text is None:
        return None
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"{option} '{text}': must be numbers with commas between, as 3,32,32") from error


def chosen_preprocessing(
    network: str | None, preprocess: str | None, mean: str | None, std: str | None
) -> tuple[Choice, tuple[str, ...]]:
    """What is done to pictures for a float network, and lines for the user.

    That is what the options say; for the rest what is written of its published weights (`--model timm:NAME`); else what
    the data set says itself.
    """
    from fastsnn_deploy.training.published import preprocessing

    known, notes = None if network is None else preprocessing(network), tuple[str, ...]()
    if known is not None:
        notes = (f"pictures are preprocessed as the metadata of {network} say: {in_words(known)}",)
    elif network is not None and (other := preprocessing(network.partition("(")[0])) is not None:
        notes = (
            f"{network} has other classes than the published weights, whose preprocessing is not taken; it would be "
            f"{in_options(other)}",
        )
    means, stds = numbers("--mean", mean), numbers("--std", std)

    def choose(own: Preprocessing) -> Preprocessing:
        chosen = own if known is None else replace(known, classes=own.classes)
        chosen = chosen if preprocess is None else chosen.changed(preprocess)
        return replace(chosen, mean=means or chosen.mean, std=stds or chosen.std)

    return choose, notes


def in_words(known: Preprocessing) -> str:
    """A preprocessing on one line."""
    facts = known.facts()
    return ", ".join(f"{name} {facts[name]}" for name in ("channels", "resize", "crop", "mean", "std") if name in facts)


def in_options(known: Preprocessing) -> str:
    """The options that stand for it."""
    sizes = {"resize": known.resize, "crop": known.crop}
    parts = [
        f"{name}={size if isinstance(size, int) else f'{size[0]}x{size[1]}'}"
        for name, size in sizes.items()
        if size is not None
    ]
    done = ",".join([*parts, f"interpolation={known.interpolation}"])
    mean, std = (",".join(f"{value:.{TOLD}g}" for value in values) for values in (known.mean, known.std))
    return f"--preprocess {done} --mean {mean} --std {std}"


def opened(
    path: Path, model: str | None, key: str | None, trust_pickle: bool, input_shape: Sequence[int] | None
) -> Loaded:
    """The network in a file, as the options say."""
    from fastsnn_deploy.training.load_model import open_model

    return open_model(path, model, key=key, trust_pickle=trust_pickle, input_shape=input_shape)


def is_quantised(model: Any) -> bool:
    """Whether a network is a quantised model of ours."""
    from fastsnn_deploy.quantisation.layers import QuantInput

    return any(isinstance(module, QuantInput) for module in model.modules())


def quantised(
    loaded: Loaded, path: Path, bits: int | None, weight_bits: int | None, mean: str | None, std: str | None,
    data: str | None, data_root: Path, network: str | None, preprocess: str | None, rate_steps: int | None = None,
    task: str | None = None, size: Sequence[int] | None = None, **options: Any,
) -> tuple[Checkpoint, tuple[str, ...]]:  # fmt: skip
    """The quantised model of a network, and lines for the user. A float one is never rounded without being asked to.

    One that other projects' modules have quantised keeps its thresholds and needs no bits.

    task, size: what it answers, and the shape of an image; needed for boxes and masks alone. options: of `prepare`, as
    `changes` gives them.
    Raises InputError if it is quantised already and bits are given, or float and they are not.
    """
    from fastsnn_deploy.quantisation.fixed.quantiser import is_fixed
    from fastsnn_deploy.quantisation.given import as_checkpoint
    from fastsnn_deploy.quantisation.others import found_in
    from fastsnn_deploy.tasks import load_scenes
    from fastsnn_deploy.training.calibrated import calibrated_checkpoint
    from fastsnn_deploy.training.data import load_chosen

    chosen = chosen_task({}, task)
    if is_quantised(loaded.model):
        given = [
            n for n, v in (("--bits", bits), ("--weight-bits", weight_bits), ("--mean", mean), ("--std", std)) if v
        ] + [f"--{name.replace('_', '-')}" for name in options]
        if given:
            raise InputError(f"{path}: is quantised already. Leave out {', '.join(given)}")
        return _for_task(as_checkpoint(loaded.model), chosen), loaded.notes
    choose, notes = chosen_preprocessing(network, preprocess, mean, std)
    if is_fixed(loaded.model):
        made, notes = _as_it_is(loaded, path, bits, weight_bits, mean, std, preprocess, options)
        return _for_task(made, chosen), notes
    if kinds := found_in(loaded.model):
        made = _taken(loaded, path, kinds, bits, weight_bits, data, data_root, choose, rate_steps, options)
        return _for_task(made, chosen), (*loaded.notes, *notes, *made.model.meta["notes"])
    if rate_steps is not None:
        raise InputError(f"{path}: holds no neurons of SpikingJelly. Leave out --rate-steps")
    if bits is None or data is None:
        missing = " and ".join(n for n, v in (("--bits", bits), ("--data", data)) if v is None)
        raise InputError(
            f"{path}: holds a float network ({loaded.kind}), and nothing is rounded unasked. Give {missing} to set its "
            "steps from images without training, as --bits 4 --weight-bits 4 --data cifar10; or train a quantised model"
        )
    if data == "random":
        raise InputError("random images say nothing about the values in a network. Name a data set with --data")
    width = WEIGHT_BITS if weight_bits is None else weight_bits
    if chosen is not None and has_scenes(chosen):
        images = load_scenes(data, "train", data_root, task=chosen.name, size=height_width(size)).images()
        images = images.preprocessed(choose(images.preprocessing))
    else:
        images = load_chosen(data, "train", data_root, choose=choose)
    made = calibrated_checkpoint(loaded.model, images, bits, width, path, **options)
    if chosen is not None:
        made = _for_task(replace(made, metadata={**made.metadata, "data": data}), chosen)
    note = (
        f"a float network ({loaded.kind}), quantised to {bits}-bit activations and {width}-bit weights without "
        f"training: steps from {made.metadata['calibrated']['images']} training images of {data}"
    )
    return made, (*loaded.notes, *notes, note)


def _for_task(made: Checkpoint, chosen: Task | None) -> Checkpoint:
    """The same model, which says what it answers if the user does."""
    return made if chosen is None else replace(made, metadata={**made.metadata, "task": chosen.description()})


def _as_it_is(
    loaded: Loaded, path: Path, bits: int | None, weight_bits: int | None, mean: str | None, std: str | None,
    preprocess: str | None, options: Mapping[str, Any],
) -> tuple[Checkpoint, tuple[str, ...]]:  # fmt: skip
    """The quantised model of a network that another program has quantised, with its own integers and steps."""
    from fastsnn_deploy.quantisation import prepare
    from fastsnn_deploy.quantisation.given import as_checkpoint
    from fastsnn_deploy.quantisation.images import input_of

    asked = {"--bits": bits, "--weight-bits": weight_bits, "--preprocess": preprocess}
    if given := [name for name, value in asked.items() if value is not None]:
        raise InputError(f"{path}: is quantised already ({loaded.kind}). Leave out {', '.join(given)}")
    model = prepare(
        loaded.model, mean=numbers("--mean", mean) or (0.0,), std=numbers("--std", std) or (1.0,), **options
    )
    grid = input_of(model)
    note = (
        f"quantised by another program ({loaded.kind}): its own integers and steps; raw images are whole multiples of "
        f"{grid.step:.6g} from {grid.low * grid.step:.6g} to {grid.high * grid.step:.6g}"
    )
    return as_checkpoint(model, model.meta.get("captured_shape")), (*loaded.notes, note)


def _taken(
    loaded: Loaded, path: Path, kinds: Mapping[str, int], bits: int | None, weight_bits: int | None,
    data: str | None, data_root: Path, choose: Choice, rate_steps: int | None, options: Mapping[str, Any],
) -> Checkpoint:  # fmt: skip
    """The quantised model of a network that is quantised by modules of other projects."""
    from fastsnn_deploy.training.calibrated import taken_checkpoint
    from fastsnn_deploy.training.data import load_chosen

    given = [f"--{n.replace('_', '-')}" for n, v in {"bits": bits, **options}.items() if v and n != "output"]
    if given:
        held = ", ".join(f"{count} {name}" for name, count in kinds.items())
        raise InputError(f"{path}: is quantised already ({held}). Leave out {', '.join(given)}")
    if data is None or data == "random":
        raise InputError(f"{path}: does not say what images it takes. Name a data set with --data, as --data cifar10")
    images = load_chosen(data, "train", data_root, choose=choose)
    width = WEIGHT_BITS if weight_bits is None else weight_bits
    return taken_checkpoint(loaded.model, images, width, path, steps=rate_steps, output=options.get("output"))
