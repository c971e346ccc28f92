"""`fastsnn-deploy profile`: counts and energy of an exported network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fastsnn_deploy.cli.common import (
    Data,
    DataRoot,
    Download,
    HardwareName,
    Json,
    MappingFile,
    Preprocess,
    Samples,
    output,
    print_json,
    progress_bar,
    sample_images,
    show,
)


def profile(
    net: Annotated[Path, typer.Argument(help="Exported network (model.net).")],
    hardware: HardwareName = "loihi2",
    samples: Samples = 20,
    data: Data = None,
    data_root: DataRoot = Path("data"),
    download: Download = False,
    preprocess: Preprocess = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps for each image. Default: until settled.")] = None,
    engine: Annotated[str, typer.Option(help="Simulator: cpu, reference, or gpu.")] = "cpu",
    mapping: MappingFile = None,
    step_time: Annotated[
        float | None, typer.Option(help="Microseconds that a step takes, as measured. Default: the least it can.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(callback=output, help="Also write the table of layers to this CSV file.")
    ] = None,
    as_json: Json = False,
) -> None:
    """What an image takes on a chip: spikes, operations and updates by layer, least time, and energy by boundary.

    Every constant is shown with its status and source; the same network without spikes is priced beside it. Where the
    network does not fit on the chip only dynamic energy is known, and the reason is said.
    """
    from fastsnn_deploy.analysis.hardware import load_hardware
    from fastsnn_deploy.analysis.profile import profile as run_profile
    from fastsnn_deploy.files import write_file
    from fastsnn_deploy.formats import read_network

    chosen = load_hardware(hardware)
    network = read_network(net)
    images, labels, _ = sample_images(network, data, data_root, samples, download, preprocess=preprocess)
    with progress_bar("profiling", unit="images") as update:
        result = run_profile(
            network, images, chosen, labels=labels, mapping=mapping, steps=steps, engine=engine,
            step_time_us=step_time, progress=update,
        )  # fmt: skip
    if csv is not None:
        write_file(csv, result.layers().csv())
    if as_json:
        print_json(result.to_dict())
    else:
        show(*result.report())
