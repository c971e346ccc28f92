"""`fastsnn-deploy map`: which neurons go to which core of a chip, and what does not fit."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from fastsnn_deploy.cli.common import (
    Data,
    DataRoot,
    Download,
    HardwareName,
    Json,
    Preprocess,
    output,
    print_json,
    progress_bar,
    sample_images,
    show,
)

NOT_FITTING = 2
"""Exit code of a network that does not fit: the input is wrong for this chip."""


class Objective(str, Enum):
    """What the partition aims at."""

    cores = "cores"
    balance = "balance"


def map_network(
    net: Annotated[Path, typer.Argument(help="Exported network (model.net), of this or another program.")],
    hardware: HardwareName = "loihi2",
    objective: Annotated[
        Objective, typer.Option(help="Fewest cores, or the least full fullest core.", show_choices=True)
    ] = Objective.cores,
    cores: Annotated[int | None, typer.Option(min=1, help="Cores that the network may take.")] = None,
    host_input: Annotated[bool, typer.Option("--host-input", help="Input neurons run outside the chip.")] = False,
    mapping: Annotated[
        Path | None, typer.Option(help="Take tiles and places from this mapping.json, and check them.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", callback=output, help="Write tiles and places to mapping.json.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(callback=output, help="Also write the table of layers to this CSV file.")
    ] = None,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Run so many test images, and say how long one takes at least.")
    ] = None,
    data: Data = None,
    data_root: DataRoot = Path("data"),
    download: Download = False,
    preprocess: Preprocess = None,
    engine: Annotated[str, typer.Option(help="Simulator of the test images: cpu, reference, or gpu.")] = "cpu",
    as_json: Json = False,
) -> None:
    """Put a network on the cores of a chip, without data: will it fit, which layer does not, by how much.

    With --samples also how long an image takes at least, from the spikes of test images on the busiest core.
    Exit code 2 if it does not fit: every violation is listed with what would make it fit, each tried by mapping it.
    """
    from fastsnn_deploy.analysis.mapping.run import map_cores
    from fastsnn_deploy.files import write_file
    from fastsnn_deploy.formats import read_network

    network = read_network(net)
    found = map_cores(
        network, hardware, objective=objective.value, cores=cores, host_input=host_input, mapping=mapping
    )  # fmt: skip
    timing = None
    if samples is not None:
        from fastsnn_deploy.analysis.evaluate import evaluate

        images, labels, _ = sample_images(network, data, data_root, samples, download, preprocess=preprocess)
        with progress_bar("evaluating", unit="images") as update:
            timing = found.timing(evaluate(network, images, labels, engine=engine, progress=update))
    if out is not None:
        found.save(out)
    if csv is not None:
        write_file(csv, found.csv())
    if as_json:
        print_json(found.to_dict() | ({} if timing is None else {"timing": timing.to_dict()}))
    else:
        show(*found.report(), *(timing.report() if timing is not None else ()))
    if not found.fits:
        raise typer.Exit(NOT_FITTING)
