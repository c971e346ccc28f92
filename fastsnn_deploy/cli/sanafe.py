"""`fastsnn-deploy sanafe`: a network on the cores of a chip, with the spikes of test images, for SANA-FE."""

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
    print_json,
    sample_images,
    show,
)


def sanafe(
    net: Annotated[Path, typer.Argument(help="Exported network (model.net).")],
    out: Annotated[
        Path, typer.Option("--output", "-o", help="Folder to write: new, empty, or one of these to be replaced.")
    ] = Path("sanafe"),
    hardware: HardwareName = "loihi2",
    samples: Samples = 3,
    data: Data = None,
    data_root: DataRoot = Path("data"),
    download: Download = False,
    preprocess: Preprocess = None,
    mapping: MappingFile = None,
    as_json: Json = False,
) -> None:
    """Write a network on its cores, with the spikes of test images, for the simulator SANA-FE, which is run apart.

    The folder holds arch.yaml, network.yaml and expected.json, which says what SANA-FE has to count. SANA-FE has no
    neurons that send spikes of -1 or stop at a ceiling: those replay their spikes; stock LIF neurons are computed.
    """
    from fastsnn_deploy.analysis.hardware import load_hardware
    from fastsnn_deploy.analysis.sanafe.result import FOLDER
    from fastsnn_deploy.analysis.sanafe.run import export_sanafe
    from fastsnn_deploy.folders import planned_folder
    from fastsnn_deploy.formats import read_network

    chosen = load_hardware(hardware)
    network = read_network(net)
    planned_folder(out, FOLDER)
    images = sample_images(network, data, data_root, samples, download, preprocess=preprocess)[0]
    made = export_sanafe(network, images, out, chosen, mapping=mapping)
    if as_json:
        print_json(made.to_dict())
    else:
        show(*made.report())
