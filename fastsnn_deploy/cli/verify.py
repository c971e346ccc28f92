"""`fastsnn-deploy verify`: the proof that nothing was lost."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from fastsnn_deploy.cli.common import (
    Data,
    DataRoot,
    Download,
    Json,
    Samples,
    output,
    percent,
    print_json,
    progress_bar,
    sample_images,
)

if TYPE_CHECKING:
    from torch import nn

    from fastsnn_deploy.analysis.compare import Comparison
    from fastsnn_deploy.analysis.verify import Verification


class BackendName(str, Enum):
    """What runs the spiking network."""

    reference = "reference"
    lava = "lava"


class Models(str, Enum):
    """Lava's process model of a convolution."""

    fast = "fast"
    stock = "stock"


def verify(
    model: Annotated[Path, typer.Argument(help="Checkpoint of the quantised network (model.pt).")],
    net: Annotated[Path | None, typer.Argument(help="Exported file to check against it (model.net).")] = None,
    samples: Samples = 20,
    backend: Annotated[BackendName, typer.Option(help="lava also compares every neuron at every step on Lava.")]
    = BackendName.reference,
    data: Data = None,
    data_root: DataRoot = Path("data"),
    download: Download = False,
    batch: Annotated[int, typer.Option(min=1, help="Images at a time; one Lava run each.")] = 100,
    models: Annotated[Models, typer.Option(help="Lava's model of a convolution: ours (fast) or stock.")] = Models.fast,
    timeout: Annotated[float, typer.Option(help="Seconds for one Lava run.")] = 600.0,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Prove that the spiking network computes the quantised network's integers, neuron by neuron.

    Compares the settled count of every neuron of every layer with the integer network, and with --backend lava
    every neuron at every step with Lava. Exit code 1 if a single integer differs.
    """
    from fastsnn_deploy import quantize
    from fastsnn_deploy.analysis.verify import verify as run_verification
    from fastsnn_deploy.analysis.verify_thermometer import verify_thermometer
    from fastsnn_deploy.convert.convert import convert
    from fastsnn_deploy.formats import netx

    checkpoint = quantize.load(model)
    truth = convert(checkpoint)
    images, labels, name = sample_images(truth, data, data_root, samples, download)
    options: dict[str, Any] = {
        "backend": backend.value, "batch": batch, "models": models.value, "timeout": timeout
    }  # fmt: skip
    with progress_bar("verifying") as update:
        if net is not None and netx.kind_of(net) == "stock":
            result = verify_thermometer(netx.read_stock(net), truth, images, **options, progress=update)
        else:
            graph = netx.read(net) if net is not None else truth
            result = run_verification(graph, images, truth=truth, net=net, **options, progress=update)
    quantised = quantised_predictions(checkpoint.model, images, truth.input.step)
    report = as_plain(result, quantised, labels, name)
    if as_json:
        print_json(report)
    else:
        console = output()
        for line in lines(result, report):
            console.print(line, highlight=False, soft_wrap=True)
    if not result.exact:
        raise typer.Exit(1)


def quantised_predictions(quantised: nn.Module, images: np.ndarray, step: float) -> np.ndarray:
    """Classes that the quantised PyTorch network (floating point) predicts for integer levels: int64 [N]."""
    import torch

    quantised.eval()
    with torch.no_grad():
        logits = [quantised(part.float() * step).flatten(1) for part in torch.split(torch.from_numpy(images), 200)]
    return torch.cat(logits).argmax(1).numpy()


def as_plain(result: Verification, quantised: np.ndarray, labels: np.ndarray | None, data: str) -> dict[str, Any]:
    """The verification as JSON values."""
    total = result.total
    report: dict[str, Any] = {
        "exact": total.exact,
        "integers_compared": total.compared,
        "integers_differing": total.differing,
        "images": result.images,
        "data": data,
        "settled": _comparison(result.settled),
        **{name: _comparison(comparison) for name, comparison in result.backend.items()},
        "settle_steps": {"mean": float(result.settle_steps.mean()), "max": int(result.settle_steps.max())},
        "predictions_changed_by_rounding": result.rounded,
        "predictions_differing_from_quantised": int((quantised != result.predictions).sum()),
    }
    if labels is not None:
        report["integer_accuracy"] = float((result.predictions == labels).mean())
        report["quantised_accuracy"] = float((quantised == labels).mean())
    return report


def _comparison(comparison: Comparison) -> dict[str, Any]:
    return {
        "compared": comparison.compared,
        "differing": comparison.differing,
        "first": None if comparison.first is None else str(comparison.first),
    }


def verdict(comparison: Comparison) -> str:
    """`exact: K integers compared, 0 differ`, or how many differ and the first one."""
    if comparison.exact:
        return f"exact: {comparison.compared:,} integers compared, 0 differ"
    return (
        f"NOT EXACT: {comparison.compared:,} integers compared, {comparison.differing:,} differ; "
        f"first: {comparison.first}"
    )


def lines(result: Verification, report: dict[str, Any]) -> list[str]:
    """The verification as text."""
    steps = report["settle_steps"]
    text = [
        f"integer network against settled spiking network, {result.images} images ({report['data']}):",
        f"  {verdict(result.settled)}",
    ]
    for name, comparison in result.backend.items():
        text += [f"reference against {name}, {result.scope} at every step:", f"  {verdict(comparison)}"]
    text.append(f"settled after {steps['mean']:.1f} steps on average, {steps['max']} at most")
    differing = report["predictions_differing_from_quantised"]
    if "integer_accuracy" in report:
        text.append(
            f"accuracy: integer network {percent(report['integer_accuracy'])}, quantised model "
            f"{percent(report['quantised_accuracy'])}; {differing} of {result.images} predictions differ"
        )
    else:
        text.append(f"{differing} of {result.images} predictions differ from the quantised model's")
    if result.scope != "every neuron":
        text.append(f"rounding to the target's ranges changed {result.rounded} of {result.images} predictions")
    text.append(verdict(result.total))
    return text
