"""`fastsnn-deploy map`: which neurons go to which core of a chip, and what does not fit."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from fastsnn_deploy.cli.common import Json, output, print_json, show

NOT_FITTING = 2
"""Exit code of a network that does not fit: the input is wrong for this chip."""


class Objective(str, Enum):
    """What the partition aims at."""

    cores = "cores"
    balance = "balance"


def map_network(
    net: Annotated[Path, typer.Argument(help="Exported network (model.net), of this or another program.")],
    hardware: Annotated[str, typer.Option(help="Hardware profile by name, or a .yaml file.")] = "loihi2",
    objective: Annotated[
        Objective, typer.Option(help="Fewest cores, or the least full fullest core.", show_choices=True)
    ] = Objective.cores,
    cores: Annotated[int | None, typer.Option(min=1, help="Cores that the network may take.")] = None,
    host_input: Annotated[bool, typer.Option("--host-input", help="Input neurons run outside the chip.")] = False,
    mapping: Annotated[
        Path | None, typer.Option(help="Take tiles and places from this mapping.json, and check them.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--output", "-o", callback=output, help="Write tiles and places to mapping.json.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(callback=output, help="Also write the table of layers to this CSV file.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Put a network on the cores of a chip, without data: will it fit, which layer does not, by how much.

    Exit code 2 if it does not fit: every violation is listed with what would make it fit, each tried by mapping it.
    """
    from fastsnn_deploy.analysis.mapping.run import map_cores
    from fastsnn_deploy.files import write_file

    found = map_cores(
        net, hardware, objective=objective.value, cores=cores, host_input=host_input, mapping=mapping
    )  # fmt: skip
    if out is not None:
        found.save(out)
    if csv is not None:
        write_file(csv, found.csv())
    if as_json:
        print_json(found.to_dict())
    else:
        show(*found.report())
    if not found.fits:
        raise typer.Exit(NOT_FITTING)
