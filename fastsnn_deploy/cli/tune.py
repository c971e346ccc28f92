"""`fastsnn-deploy tune`: the network that meets a budget on a chip, searched for over trained checkpoints."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastsnn_deploy.cli.common import (
    Data,
    DataRoot,
    Download,
    HardwareName,
    Json,
    Preprocess,
    first_images,
    messages,
    output,
    print_json,
    progress_bar,
    show,
)
from fastsnn_deploy.cli.map import NOT_FITTING
from fastsnn_deploy.cli.sources import (
    Key,
    Mean,
    ModelName,
    Std,
    TrustPickle,
    chosen_preprocessing,
    is_quantised,
    opened,
)
from fastsnn_deploy.errors import InputError, legible

if TYPE_CHECKING:
    from fastsnn_deploy.training.images import Images

INTERRUPTED = 130


class Judge(str, Enum):
    """Whose images judge."""

    train = "train"
    test = "test"


OF_THE_SEARCH = {
    "models", "aim", "codes", "bits", "weight_bits", "start_delays", "same_bits", "fix", "trials", "storage", "study",
    "out", "csv", "as_json",
}  # fmt: skip
"""Options that the command which rebuilds one network has no need of, or gets anew."""


def tune(
    context: typer.Context,
    models: Annotated[
        list[Path], typer.Argument(help="Checkpoints of quantised networks; or float networks: weights, .pt2, ONNX.")
    ],
    budget: Annotated[
        str,
        typer.Option(
            help='What must hold, as "cores<=128, latency<1ms, accuracy>=90%". Of cores, chips, steps, latency, '
            "latency.p99, latency.max, throughput, operations, spikes, energy, energy.dynamic, energy.cores, "
            "energy.board, accuracy."
        ),
    ],
    aim: Annotated[
        str | None,
        typer.Option(help="What should be best among those that meet it. Default: energy if accuracy is bounded."),
    ] = None,
    hardware: HardwareName = "loihi2",
    codes: Annotated[
        str,
        typer.Option(
            help="To try, with commas between: signed-if, graded, burst2 (3, ...), window, stock-lif, sigma-delta."
        ),
    ] = "signed-if,burst2,graded,window",
    bits: Annotated[
        str, typer.Option(help="Of activations, to try for each layer; a trained one also keeps its own.")
    ] = "2,3,4",
    weight_bits: Annotated[
        str, typer.Option(help="Of weights between the first and the last layer, likewise.")
    ] = "4,8",
    start_delays: Annotated[str, typer.Option(help="Steps that neurons wait before they fire, to try.")] = "0",
    same_bits: Annotated[bool, typer.Option("--same-bits", help="One number of bits for all layers.")] = False,
    fix: Annotated[
        list[str] | None,
        typer.Option(
            help="Value of a parameter, as 'code=graded', 'bits:*=2' or 'bits:layer3.*=3'; the first that matches."
        ),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="In all, those in the storage included.")] = 50,
    storage: Annotated[
        str | None,
        typer.Option(
            help="Keeps the trials, to go on later and from several processes: a file (.db: SQLite; .log: a journal) "
            "or the URL of a data base."
        ),
    ] = None,
    study: Annotated[str, typer.Option(help="Name of the search in the storage.")] = "tune",
    judge: Annotated[
        Judge,
        typer.Option(
            help="Whose images judge the accuracy of trials: train; or test, and the others of them test the winner.",
            show_choices=True,
        ),
    ] = Judge.train,
    samples: Annotated[int, typer.Option(min=1, help="How many images judge the accuracy of all trials.")] = 500,
    profile_samples: Annotated[int, typer.Option(min=1, help="Of them, those that give time and energy.")] = 20,
    images: Annotated[int, typer.Option(min=2, help="Training images that set steps; they do not judge.")] = 256,
    iterations: Annotated[int, typer.Option(min=0, help="Of learned rounding, for each layer or block.")] = 0,
    test_samples: Annotated[
        int | None, typer.Option(min=0, help="Test images for the winner. Default: all; 0: none.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", callback=output, help="Write the winner to this file.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(callback=output, help="Also write the table of trials to this CSV file.")
    ] = None,
    data: Data = None,
    data_root: DataRoot = Path("data"),
    download: Download = False,
    preprocess: Preprocess = None,
    network: ModelName = None,
    key: Key = None,
    trust_pickle: TrustPickle = False,
    mean: Mean = None,
    std: Std = None,
    engine: Annotated[str, typer.Option(help="Simulator: cpu, reference, or gpu.")] = "cpu",
    allow_loss: Annotated[
        bool, typer.Option("--allow-loss", help="Let trained integers lose bits that 24-bit potentials cannot hold.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Draws images and trials.")] = 0,
    as_json: Json = False,
) -> None:
    """Search for the network that meets a budget on a chip: bits of each layer, code and start delay, by Optuna.

    Trials are mapped first, then profiled, then classified, each only as far as it meets the budget; the winner answers
    the test images once. Prints all trials, which constraint binds, the mapping, the least time, and the command that
    makes this network again. Exit code 2 if nothing meets the budget: the nearest network is shown, with what it
    misses, and nothing is written. Ctrl-C prints the best so far; --storage keeps what is done, and the same command
    goes on.
    """
    from fastsnn_deploy.files import write_file
    from fastsnn_deploy.training.images import apart
    from fastsnn_deploy.tuning.budget import Budget
    from fastsnn_deploy.tuning.run import tune as search

    wanted = Budget.parse(budget)
    options: dict[str, Any] = {
        "codes": _parts("--codes", codes), "bits": _numbers("--bits", bits),
        "weight_bits": _numbers("--weight-bits", weight_bits), "start_delays": _numbers("--start-delays", start_delays),
        "fixed": _fixed(fix or []),
    }  # fmt: skip
    found_models, train, test = _loaded(
        models, network, key, trust_pickle, data, data_root, download, preprocess, mean, std,
        judge is Judge.test or test_samples != 0,
    )  # fmt: skip
    test, judges = apart(test, samples, seed) if test is not None and judge is Judge.test else (test, None)
    test = None if test is None or test_samples == 0 else first_images(test, test_samples)
    with progress_bar("trials") as update:
        found = search(
            found_models, wanted, train, test, judges, hardware=hardware, aim=aim, same_bits=same_bits, trials=trials,
            storage=storage, study=study, samples=samples, profile_samples=profile_samples, images=images,
            iterations=iterations, seed=seed, engine=engine, allow_loss=allow_loss, progress=update, tell=_line,
            **options,
        )  # fmt: skip
    found = found.with_command(_command(context, found.fixed))
    if csv is not None:
        write_file(csv, found.table().csv())
    written = None
    if out is not None and found.met and not found.interrupted:
        written = found.save(out)
    if as_json:
        print_json(found.to_dict() | {"file": None if written is None else str(written.file)})
    else:
        show(*found.report(), *(() if written is None else (f"written: {written.file}",)))
    if found.interrupted:
        raise typer.Exit(INTERRUPTED)
    if not found.met:
        raise typer.Exit(NOT_FITTING)


def _line(text: str) -> None:
    """What a trial gave, on stderr: it may be the last that is seen of it."""
    messages().print(legible(text), markup=False, highlight=False, soft_wrap=True)


def _loaded(
    paths: Sequence[Path], network: str | None, key: str | None, trust_pickle: bool, data: str | None,
    data_root: Path, download: bool, preprocess: str | None, mean: str | None, std: str | None,
    tested: bool,
) -> tuple[dict[str, Any], Images, Images | None]:  # fmt: skip
    """Networks by path, training images and test images, preprocessed as the first checkpoint was stored."""
    from fastsnn_deploy.quantisation.fixed.quantiser import is_fixed
    from fastsnn_deploy.quantisation.given import as_checkpoint
    from fastsnn_deploy.quantisation.images import input_of
    from fastsnn_deploy.quantisation.others import found_in
    from fastsnn_deploy.training.data import Split, load_chosen, load_for
    from fastsnn_deploy.tuning.start import named

    made: dict[str, Any] = {}
    for name, path in named(paths):
        model = opened(path, network, key, trust_pickle, None).model
        if is_fixed(model) or found_in(model):
            raise InputError(f"{path}: is quantised by another program, which keeps its bits. Tune the float network")
        made[name] = as_checkpoint(model) if is_quantised(model) else model
    checkpoints = [each for each in made.values() if hasattr(each, "metadata")]
    given = [option for option, value in (("--mean", mean), ("--std", std)) if value is not None]
    if given and len(checkpoints) == len(made):
        raise InputError(f"{', '.join(given)}: is of float networks, and there is none. Leave it out")
    source = data or next((each.metadata["data"] for each in checkpoints if "data" in each.metadata), None)
    if source is None or source == "random":
        raise InputError("the search judges networks by labelled images. Name a data set with --data")
    choose, _ = chosen_preprocessing(network, preprocess, mean, std)

    def images_of(split: Split) -> Images:
        if not checkpoints:
            return load_chosen(source, split, data_root, download, choose)
        first = checkpoints[0]
        return load_for(first.metadata, input_of(first.model), source, split, data_root, download, preprocess)

    train = images_of("train")
    return made, train, images_of("test") if tested else None


def _parts(option: str, text: str) -> list[str]:
    found = [part.strip() for part in text.split(",")]
    if not all(found):
        raise InputError(f"{option} '{text}': must be values with commas between")
    return found


def _numbers(option: str, text: str) -> list[int]:
    """Whole numbers, and spans of them as 2-4. Raises InputError for anything else."""
    found: list[int] = []
    for part in _parts(option, text):
        ends = part.split("-")
        if len(ends) > 2 or not all(end.isdecimal() and len(end) < 4 for end in ends):
            raise InputError(f"{option} '{text}': must be whole numbers with commas between, or spans, as 2,4 or 2-4")
        found += range(int(ends[0]), int(ends[-1]) + 1)
    if not found:
        raise InputError(f"{option} '{text}': the span is empty")
    return found


def _fixed(given: Sequence[str]) -> dict[str, str]:
    """Raises InputError for a part that is not NAME=VALUE."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.rpartition("=")
        if not (name and equals and value):
            raise InputError(f"--fix '{text}': must be a name and a value, as 'code=graded' or 'bits:*=2'")
        found.setdefault(name.strip(), value.strip())
    return found


def _command(context: typer.Context, fixed: Mapping[str, Any]) -> str:
    """The command that makes the network of `fixed` again: this one, with nothing left to choose."""
    from fastsnn_deploy.tuning.start import named

    if not fixed:
        return ""
    words = ["fastsnn-deploy", "tune", str(dict(named(context.params["models"]))[fixed["model"]])]
    told: Callable[[str], Any] = context.get_parameter_source
    for parameter in context.command.params:
        name, source = str(parameter.name), told(str(parameter.name))
        if name in OF_THE_SEARCH or source is None or source.name in ("DEFAULT", "DEFAULT_MAP"):
            continue
        value = context.params[name]
        value = value.value if isinstance(value, Enum) else value
        words += [parameter.opts[0]] if value is True else [parameter.opts[0], str(value)]
    values = [f"{name}={value}" for name, value in fixed.items() if name != "model"]
    return shlex.join([*words, *(part for value in values for part in ("--fix", value)), "-o", "best.net"])
