"""`fastsnn-deploy demo`: the whole way in one command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from fastsnn_deploy.cli.common import Json, messages, print_json, show
from fastsnn_deploy.tables import Table, percent

if TYPE_CHECKING:
    from fastsnn_deploy.cli.demo_run import Demo


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the checkpoint and the export.")] = Path(
        "netx_exports"
    ),
    samples: Annotated[int, typer.Option(min=1, max=360, help="Test images to verify and profile.")] = 50,
    hardware: Annotated[str, typer.Option(help="Hardware profile of the energy estimate.")] = "loihi2",
    as_json: Json = False,
) -> None:
    """Train a small residual network on digits, export it, prove it equal on Lava, and profile it.

    Needs no download: the digits come with scikit-learn. Takes a few minutes on two cores.
    """
    from fastsnn_deploy.analysis.hardware import load_hardware
    from fastsnn_deploy.cli.demo_run import STAGES, run_demo

    load_hardware(hardware)  # a wrong name should fail now, not after the training
    console = messages()
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:

        def step(number: int, text: str) -> Callable[[int, int], None]:
            for task in bar.task_ids:
                bar.remove_task(task)
            task = bar.add_task(text, total=None)
            if text != "done":
                console.print(f"[{number}/{STAGES - 1}] {text}", markup=False, highlight=False)
            return lambda done, total: bar.update(task, completed=done, total=total)

        result = run_demo(out, samples, hardware, step)
    if as_json:
        print_json(as_plain(result))
    else:
        _render(result)
    if not result.verification.exact:
        raise typer.Exit(1)


def as_plain(result: Demo) -> dict[str, Any]:
    """The demo's results as JSON values."""
    from fastsnn_deploy.cli.demo_run import right

    verification = result.verification
    return {
        "model": str(result.model_file),
        "net": str(result.net_file),
        "seconds": round(result.seconds, 1),
        "quantised_accuracy": result.checkpoint.metadata["quantised_accuracy"],
        "integer_accuracy": result.accuracy,
        "backend": result.backend,
        "images_verified": verification.images,
        "images_right": right(result),
        "exact": verification.exact,
        "integers_compared": verification.total.compared,
        "integers_differing": verification.total.differing,
        "profile": result.profile.to_dict(),
    }


def _render(result: Demo) -> None:
    from fastsnn_deploy.cli.demo_run import right

    verification, counts, energy = result.verification, result.profile.counts, result.profile.energy
    operations, spikes_sent = (counts.total(key) / counts.images for key in ("synaptic_operations", "spikes"))
    assert result.profile.ann is not None  # of a spiking graph there always are
    macs = result.profile.ann.total("macs") / counts.images
    total, quantised = energy.dynamic, percent(result.checkpoint.metadata["quantised_accuracy"])
    steps = verification.settle_steps
    rows = {
        "accuracy": f"integer network {percent(result.accuracy)} of the test images, quantised model {quantised}",
        f"proof on {result.backend}": f"{verification.total} ({verification.images} images, every neuron, "
        f"every step; {right(result)} right)",
        "latency": f"settled after {steps.mean():.1f} steps on average, {steps.max()} at most",
        "work for one image": f"{operations:,.0f} synaptic operations, {spikes_sent:,.0f} spikes; "
        f"the same network without spikes: {macs:,.0f} MACs",
        "energy for one image": f"{total.value / 1000:,.1f} nJ dynamic on {result.profile.hardware.name} "
        f"({total.low / 1000:,.1f} to {total.high / 1000:,.1f}; constants and sources: see profile)",
        "files": f"{result.model_file} (checkpoint), {result.net_file} (NetX)",
        "time": f"{result.seconds:.0f} s",
    }
    show(
        Table.facts("Digits, 2-bit activations, 4-bit weights", rows),
        f"next: fastsnn-deploy profile {result.net_file}\n"
        f"      fastsnn-deploy verify {result.model_file} {result.net_file} --backend lava",
    )
