"""`fastsnn-deploy profile`: counts and energy of an exported network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fastsnn_deploy.cli.common import (
    Data,
    DataRoot,
    Download,
    Json,
    Samples,
    output,
    print_json,
    progress_bar,
    sample_images,
)


def profile(
    net: Annotated[Path, typer.Argument(help="Exported network (model.net).")],
    hardware: Annotated[str, typer.Option(help="Hardware profile by name, or a .yaml file.")] = "loihi2",
    samples: Samples = 20,
    data: Data = None,
    data_root: DataRoot = Path("data"),
    download: Download = False,
    csv: Annotated[Path | None, typer.Option(help="Also write the table of layers to this CSV file.")] = None,
    as_json: Json = False,
) -> None:
    """Count spikes, synaptic operations and neuron updates per layer, and estimate energy from published constants.

    Every constant is shown with its status and source; the same network without spikes is counted beside it.
    """
    from fastsnn_deploy import netx
    from fastsnn_deploy.files import atomic_write_text
    from fastsnn_deploy.profile import load_hardware
    from fastsnn_deploy.profile import profile as run_profile

    chosen = load_hardware(hardware)
    graph = netx.read(net)
    images, _, _ = sample_images(graph, data, data_root, samples, download)
    with progress_bar("profiling") as update:
        result = run_profile(graph, graph.input.encode(images), chosen, progress=update)
    if csv is not None:
        atomic_write_text(csv, result.to_csv())
    if as_json:
        print_json(result.to_json())
    else:
        result.render(output())
