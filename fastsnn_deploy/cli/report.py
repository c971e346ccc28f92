"""`fastsnn-deploy report`: everything about a network on a chip, in one folder."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from fastsnn_deploy.cli.common import (
    Data,
    DataRoot,
    Download,
    HardwareName,
    Json,
    print_json,
    progress_bar,
    sample_images,
    show,
)
from fastsnn_deploy.cli.map import NOT_FITTING, Objective


def report(
    net: Annotated[Path, typer.Argument(help="Exported network (model.net), of this or another program.")],
    out: Annotated[
        Path, typer.Option("--output", "-o", help="Folder to write: new, empty, or a report to be replaced.")
    ] = Path("report"),
    hardware: HardwareName = "loihi2",
    samples: Annotated[int, typer.Option(min=0, help="Number of test images. 0: only what needs none.")] = 100,
    proof: Annotated[
        int | None, typer.Option("--proof-samples", min=0, help="How many of them the proof takes. Default: 10.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="Checkpoint that it was exported from: the proof is then against it.")
    ] = None,
    measured: Annotated[
        Path | None, typer.Option(help="JSON of a measured run, as `run --backend loihi2 --json` prints it.")
    ] = None,
    data: Data = None,
    data_root: DataRoot = Path("data"),
    download: Download = False,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps for each image. Default: until settled.")] = None,
    engine: Annotated[str, typer.Option(help="Simulator: cpu, reference, or gpu.")] = "cpu",
    objective: Annotated[
        Objective, typer.Option(help="Fewest cores, or the least full fullest core.", show_choices=True)
    ] = Objective.cores,
    cores: Annotated[int | None, typer.Option(min=1, help="Cores that the network may take.")] = None,
    mapping: Annotated[Path | None, typer.Option(help="Take tiles and places from this mapping.json.")] = None,
    host_input: Annotated[bool, typer.Option("--host-input", help="Input neurons run outside the chip.")] = False,
    as_json: Json = False,
) -> None:
    """Write everything about a network on a chip to a folder: will it fit, how fast, how many joules, and the proof.

    The page report.html needs no network and no other file; report.json, CSV tables, LaTeX and BibTeX are beside it.
    Exit code 1 if an integer differs, 2 if the network does not fit: the folder is written and says so.
    """
    from fastsnn_deploy.analysis.hardware import load_hardware
    from fastsnn_deploy.analysis.mapping.run import map_cores
    from fastsnn_deploy.folders import planned_folder
    from fastsnn_deploy.formats import read_network
    from fastsnn_deploy.reporting.measured import read_measured
    from fastsnn_deploy.reporting.result import FOLDER
    from fastsnn_deploy.reporting.run import report as make

    if measured is not None:
        read_measured(measured)  # a mistake is said before the work
    network = read_network(net)
    chosen = load_hardware(hardware)
    found = None
    if chosen.chip is not None or mapping is not None or cores is not None or host_input:
        found = map_cores(
            network, chosen, objective=objective.value, cores=cores, host_input=host_input, mapping=mapping
        )  # fmt: skip
    planned_folder(out, FOLDER)
    images, labels, name = sample_images(network, data, data_root, samples, download) if samples else (None, None, "")
    with progress_bar("evaluating and proving", unit="images") as update:
        made = make(
            net, images, labels, hardware=hardware, mapping=found, model=model, proof_images=proof, engine=engine,
            steps=steps, measured=measured, data=name, command=shlex.join(["fastsnn-deploy", *sys.argv[1:]]),
            progress=update,
        )  # fmt: skip
    made.save(out)
    if as_json:
        print_json(made.to_dict())
    else:
        show(*made.report(), f"written: {out / 'report.html'} and {len(made.contents()) - 1} files beside it")
    if made.file.proof is not None and not made.file.proof.exact:
        raise typer.Exit(1)
    if made.file.fit is not None and not made.file.fit.fits:
        raise typer.Exit(NOT_FITTING)
