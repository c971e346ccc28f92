"""`fastsnn-deploy run`: a network on images, on a simulator or on hardware."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
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
    Preprocess,
    Samples,
    differences,
    output,
    print_json,
    progress_bar,
    sample_images,
    show,
)
from fastsnn_deploy.cli.tasks import TaskName, chosen_task
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.lava_dl import StockNetwork

if TYPE_CHECKING:
    from fastsnn_deploy.formats import Network
    from fastsnn_deploy.lava_dl import Presentation, StockRun

AT_ONCE = 16
"""Images of a run of which only answers are kept."""

UNKNOWN_TASK = "the network answers with a map and does not say what it means. Name it with --task"


class Backend(str, Enum):
    """What runs the network."""

    simulator = "simulator"
    lava = "lava"
    loihi2 = "loihi2"


class Record(str, Enum):
    """Nodes whose series are written to --out."""

    outputs = "outputs"
    all = "all"


@dataclass
class Options:
    """What the user asked for."""

    source: Any
    backend: Backend
    stream: bool
    steps: int | None
    everything: bool
    timeout: float
    series: bool


@dataclass
class Outcome:
    """What a run gave: answers in real units, [N, *output shape], facts to report, and series by name."""

    logits: np.ndarray
    facts: dict[str, Any]
    series: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def predictions(self) -> np.ndarray:
        """A class for each image; of maps it means nothing."""
        return np.asarray(self.logits.reshape(len(self.logits), -1).argmax(1))


def run(
    net: Annotated[Path, typer.Argument(help="Exported network (model.net), of this program or stock NetX.")],
    images: Annotated[
        list[Path] | None, typer.Argument(help="Image files, or folders of them. Default: test images of --data.")
    ] = None,
    backend: Annotated[Backend, typer.Option(help="simulator, lava (CPU), or loihi2 (needs lava-loihi).")]
    = Backend.simulator,
    samples: Samples = 20,
    data: Data = None,
    data_root: DataRoot = Path("data"),
    download: Download = False,
    preprocess: Preprocess = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Without a reset: only changes between images, or one image a step.")
    ] = False,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps for each image. Default: until settled, or the network's depth.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", callback=output, help="Write series and predictions to this .npz.")
    ] = None,
    record: Annotated[Record, typer.Option(help="Series in --out: of the outputs, or of all layers.")] = Record.outputs,
    timeout: Annotated[float, typer.Option(help="Seconds for a run on Lava or Loihi 2.")] = 600.0,
    task: TaskName = None,
    draw: Annotated[
        Path | None,
        typer.Option(help="Draw the answers on the images: a .png or .jpg for one image, a folder for several."),
    ] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Run a network on images and print its answers, how good they are, steps and spikes.

    Answers are classes, boxes with their scores, or the share of each class in the pixels.

    With --stream a network of this program stays on and receives only the difference between an image and the one
    before; a stock network without memory receives a new image at every step.
    """
    from fastsnn_deploy.analysis.kinds import kind_of
    from fastsnn_deploy.backends import loihi
    from fastsnn_deploy.cli.answers import draw_answers, pictures_in, pictures_of, places_of, told
    from fastsnn_deploy.formats.base import format_of, read_network
    from fastsnn_deploy.tasks import Classification

    network = read_network(net)
    if backend is Backend.loihi2:
        loihi.require_stock_neurons(network, f"{net}")
    # a backend runs the very file where it can read it, else the network is written to one
    source = net if format_of(net).name == "netx" else network
    options = Options(source, backend, stream, steps, record is Record.all, timeout, out is not None)
    chosen = chosen_task(network.metadata, task) or (Classification() if is_classifier(network) else None)
    if images and data is not None:
        raise InputError("give image files, or --data; not both")
    if draw is not None and chosen is None:
        raise InputError(f"--draw: {UNKNOWN_TASK}")
    if images:
        pictures, name = pictures_in(network, images), "files"
    else:
        levels, truth, name = sample_images(network, data, data_root, samples, download, task, preprocess)
        pictures = pictures_of(levels[:], truth, network.input.high, draw is not None)
    places = [] if draw is None else places_of(draw, pictures.names)
    differs = differences(network, as_json)
    outcome = RUNNERS[type(network)](network, kind_of(network).encode(network, pictures.levels), options)
    facts: dict[str, Any] = {
        "net": str(net),
        "kind": "extension" if isinstance(network, SpikingGraph) else "stock",
        "backend": backend.value,
        "stream": stream,
        "images": len(pictures.levels),
        "data": name,
        **outcome.facts,
    }
    facts |= {"differs": differs} if differs else {}
    notes = list(pictures.notes)
    if chosen is None:
        notes.append(f"note: {UNKNOWN_TASK}")
    else:
        found = told(chosen, outcome.logits, pictures, is_classifier(network) and not images)
        facts |= found.facts
        notes += found.lines
        if places:
            draw_answers(places, chosen, found.answers, pictures)
    if out is not None:
        save(out, outcome, pictures.truth if is_classifier(network) else None)
        facts["out"] = str(out)
    if places:
        facts["pictures"] = [str(place) for place in places]
    if as_json:
        print_json(facts)
    else:
        show(*lines(facts), *notes, *([f"written: {out}"] if out else []), *([f"drawn: {draw}"] if draw else []))


def is_classifier(network: Network) -> bool:
    """Whether the network answers with one row of numbers."""
    from fastsnn_deploy.analysis.kinds import kind_of

    return all(len(shape) == 1 for shape in kind_of(network).outputs(network).values())


# spiking graphs


def run_graph(graph: SpikingGraph, emitted: np.ndarray, options: Options) -> Outcome:
    """A spiking graph on the simulator or Lava. emitted: int64 [N, *input shape]."""
    from fastsnn_deploy.backends import lava
    from fastsnn_deploy.graph.integer_network import logits
    from fastsnn_deploy.simulators.reference import simulate

    if options.stream:
        return _stream_graph(graph, emitted, options)
    if options.backend is Backend.simulator and not options.series:
        return _answers_alone(graph, emitted, options)
    if options.backend is Backend.lava:
        steps = options.steps or max(1, int(simulate(graph, emitted).settle_steps.max(initial=1)))
        with progress_bar("Lava") as update:
            result = lava.run(options.source, emitted, steps, timeout=options.timeout, progress=update)
    else:
        result = simulate(graph, emitted, options.steps)
    finals = {name: result.final(name) for name in graph.outputs}
    sent = sum(int(np.count_nonzero(series)) for series in result.spikes.values())
    settle = result.settle_steps
    facts = {
        "steps": result.steps,
        "settle_steps": {"mean": float(settle.mean()), "max": int(settle.max())},
        "spikes_per_image": sent / len(emitted),
    }
    return Outcome(logits(graph, finals), facts, _graph_series(graph, result, options.everything))


def _answers_alone(graph: SpikingGraph, emitted: np.ndarray, options: Options) -> Outcome:
    """A few images at a time, of which nothing but the answer is kept: maps of many steps fill the memory."""
    from fastsnn_deploy.graph.integer_network import logits
    from fastsnn_deploy.simulators import open_engine

    runner, found, settled, sent, longest = open_engine(graph), [], list[int](), 0, 0
    size = min(runner.batch_size, AT_ONCE)
    with progress_bar("running", unit="images") as update:
        for start in range(0, len(emitted), size):
            run = runner.run(emitted[start : start + size], options.steps)
            found.append(logits(graph, {name: run.final(name) for name in graph.outputs}))
            sent += sum(activity.positive + activity.negative for activity in run.activity.values())
            settled += run.settle_steps.tolist()
            longest = max(longest, run.steps)
            update(min(start + size, len(emitted)), len(emitted))
    facts = {
        "steps": longest,
        "settle_steps": {"mean": float(np.mean(settled)), "max": max(settled)},
        "spikes_per_image": sent / len(emitted),
    }
    return Outcome(np.concatenate(found), facts)


def _stream_graph(graph: SpikingGraph, emitted: np.ndarray, options: Options) -> Outcome:
    from fastsnn_deploy.backends import lava
    from fastsnn_deploy.graph.integer_network import integer_values, logits
    from fastsnn_deploy.simulators.streaming import stream

    with progress_bar("streaming") as update:
        if options.backend is Backend.lava:
            result = lava.stream(options.source, emitted, options.steps, timeout=options.timeout, progress=update)
        else:
            result = stream(graph, emitted, options.steps, progress=update)
    answers = logits(graph, {name: result.values(name) for name in graph.outputs})
    settle, sent = result.settle_steps(), result.spikes()
    facts = {
        "steps": result.run.steps,
        "settle_steps": {"mean": float(settle.mean()), "max": int(settle.max())},
        "spikes_per_image": float(sent.mean()),
        "spikes": sent.tolist(),
        "exact_images": int(result.exact(integer_values(graph, emitted)).sum()),
    }
    return Outcome(answers, facts, _graph_series(graph, result.run, options.everything) | {"starts": result.starts})


def _graph_series(graph: SpikingGraph, result: Any, everything: bool) -> dict[str, np.ndarray]:
    kinds = {"spikes": result.spikes, "potentials": result.potentials}
    return {
        f"{kind}.{name}": values
        for kind, series in kinds.items()
        for name, values in series.items()
        if everything or name in graph.outputs
    }


# stock networks


def run_stock(network: StockNetwork, frames: np.ndarray, options: Options) -> Outcome:
    """A stock network on the simulator, Lava or Loihi 2. frames: int64 [N, *input shape], one for each image.

    On Loihi 2, and with --stream, images follow each other step by step.
    """
    from fastsnn_deploy.lava_dl import present

    if options.everything and options.backend is not Backend.simulator:
        raise InputError("--record all is for the simulator: only the last layer of a stock network is read elsewhere")
    shown = present(network, frames, options.steps, stream=options.stream or options.backend is Backend.loihi2)
    result, measured = _execute_stock(shown, options)
    facts: dict[str, Any] = {"steps": shown.steps, "depth": network.depth} | measured
    if not network.says_how_images_enter:
        how = "through its input transform" if getattr(network.layers[0], "weight", None) is not None else "as they are"
        facts["note"] = f"the file does not say how images become spikes: the raw levels are sent {how}"
    if options.backend is Backend.simulator:
        series = [result.spikes[index] for index in network.senders]
        facts["spikes_per_image"] = sum(int(np.count_nonzero(x)) for x in series if x is not None) / len(frames)
    kinds = {"spikes": result.spikes, "potentials": result.potentials}
    last = len(network.layers) - 1
    recorded = {
        f"{kind}.{index}": values
        for kind, layers in kinds.items()
        for index, values in enumerate(layers)
        if values is not None and (options.everything or index == last)
    }
    return Outcome(np.asarray(shown.answers(result)), facts, recorded)


def _execute_stock(shown: Presentation, options: Options) -> tuple[StockRun, dict[str, Any]]:
    from fastsnn_deploy import lava_dl
    from fastsnn_deploy.backends import lava, loihi

    if options.backend is Backend.simulator:
        return lava_dl.run(shown.network, shown.frames, shown.steps), {}
    with progress_bar(options.backend.value) as update:
        if options.backend is Backend.lava:
            result = lava.run_stock(options.source, shown.frames, shown.steps, timeout=options.timeout, progress=update)
            return result, {}
        measured = loihi.run_stock(options.source, shown.frames, shown.steps, timeout=options.timeout, progress=update)
    report = measured.measurement
    return measured.run, {} if report is None else {"measured": report.to_dict()}


RUNNERS: dict[type, Callable[[Any, np.ndarray, Options], Outcome]] = {
    SpikingGraph: run_graph,
    StockNetwork: run_stock,
}
"""What runs each kind of network."""

# results


def save(path: Path, outcome: Outcome, labels: np.ndarray | None) -> None:
    """Predictions (of maps: `logits`, float [N, *shape]), labels and series as .npz.

    Series are int32 [T, N, *shape] under `spikes.NAME` and `potentials.NAME`.
    """
    from fastsnn_deploy.files import write_file

    plain = outcome.logits[0].ndim == 1
    arrays = {**({"predictions": outcome.predictions} if plain else {"logits": outcome.logits}), **outcome.series}
    if labels is not None:
        arrays["labels"] = labels
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    write_file(path, content.getvalue())


def lines(facts: dict[str, Any]) -> list[str]:
    """The facts as text."""
    how = "streamed" if facts["stream"] else "one by one"
    text = [f"{facts['images']} images ({facts['data']}), {how}, on {facts['backend']}: {facts['steps']} steps"]
    if "settle_steps" in facts:
        settle = facts["settle_steps"]
        text.append(f"settled after {settle['mean']:.1f} steps on average, {settle['max']} at most")
    if "depth" in facts:
        text.append(f"an answer {facts['depth']} steps after its image")
    if "exact_images" in facts:
        text.append(f"{facts['exact_images']} of {facts['images']} images equal to the integer network in every neuron")
    if "spikes_per_image" in facts:
        text.append(f"{facts['spikes_per_image']:,.1f} spikes for one image")
    if "measured" in facts:
        measured = facts["measured"]
        columns = [f"{key} {measured[key]}" for key in ("total_power", "static_total_power", "avg_time_per_step")]
        text.append("measured: " + ", ".join(columns) + " (W, W, us)")
    if "note" in facts:
        text.append(f"note: {facts['note']}")
    return text
