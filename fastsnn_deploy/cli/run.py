"""`fastsnn-deploy run`: a network on images, on a simulator or on hardware."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import numpy as np
import typer

from fastsnn_deploy.cli.common import (
    Data,
    DataRoot,
    Download,
    Json,
    Samples,
    print_json,
    progress_bar,
    sample_images,
    show,
)
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph import Input, SpikingGraph
from fastsnn_deploy.tables import percent

if TYPE_CHECKING:
    from fastsnn_deploy.lava_dl import StockNetwork, StockRun


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

    net: Path
    backend: Backend
    stream: bool
    steps: int | None
    everything: bool
    timeout: float


@dataclass
class Outcome:
    """What a run gave: a class for each image, facts to report, and series by name."""

    predictions: np.ndarray
    facts: dict[str, Any]
    series: dict[str, np.ndarray] = field(default_factory=dict)


def run(
    net: Annotated[Path, typer.Argument(help="Exported network (model.net), of this program or stock NetX.")],
    backend: Annotated[Backend, typer.Option(help="simulator, lava (CPU), or loihi2 (needs lava-loihi).")]
    = Backend.simulator,
    samples: Samples = 20,
    data: Data = None,
    data_root: DataRoot = Path("data"),
    download: Download = False,
    stream: Annotated[
        bool, typer.Option("--stream", help="Without a reset: only changes between images, or one image a step.")
    ] = False,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps for each image. Default: until settled, or the network's depth.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write series and predictions to this .npz.")] = None,
    record: Annotated[Record, typer.Option(help="Series in --out: of the outputs, or of all layers.")] = Record.outputs,
    timeout: Annotated[float, typer.Option(help="Seconds for a run on Lava or Loihi 2.")] = 600.0,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Run a network on test images and print predictions, accuracy, steps and spikes.

    With --stream a network of this program stays on and receives only the difference between an image and the one
    before; a stock network without memory receives a new image at every step.
    """
    from fastsnn_deploy.backends import loihi
    from fastsnn_deploy.formats import netx

    options = Options(net, backend, stream, steps, record is Record.all, timeout)
    kind = netx.kind_of(net)
    if backend is Backend.loihi2:
        loihi.require_stock_neurons(net)
    network = netx.read(net) if kind == "extension" else netx.read_stock(net)
    source = network if isinstance(network, SpikingGraph) else image_source(network)
    images, labels, name = sample_images(source, data, data_root, samples, download)
    if isinstance(network, SpikingGraph):
        outcome = run_graph(network, network.input.encode(images), options)
    else:
        outcome = run_stock(network, source.input.encode(images), options)
    facts: dict[str, Any] = {
        "net": str(net),
        "kind": kind,
        "backend": backend.value,
        "stream": stream,
        "images": samples,
        "data": name,
    }
    facts |= outcome.facts
    if labels is not None:
        facts["accuracy"] = float((outcome.predictions == labels).mean())
    facts["predictions"] = outcome.predictions.tolist()
    if out is not None:
        save(out, outcome, labels)
        facts["out"] = str(out)
    if as_json:
        print_json(facts)
    else:
        show(*lines(facts))


# spiking graphs


def run_graph(graph: SpikingGraph, emitted: np.ndarray, options: Options) -> Outcome:
    """A spiking graph on the simulator or Lava. emitted: int64 [N, *input shape]."""
    from fastsnn_deploy.backends import lava
    from fastsnn_deploy.graph.integer_network import logits
    from fastsnn_deploy.simulators.reference import simulate

    if options.stream:
        return _stream_graph(graph, emitted, options)
    if options.backend is Backend.lava:
        steps = options.steps or max(1, int(simulate(graph, emitted).settle_steps.max(initial=1)))
        with progress_bar("Lava") as update:
            result = lava.run(options.net, emitted, steps, timeout=options.timeout, progress=update)
    else:
        result = simulate(graph, emitted, options.steps)
    finals = {name: result.final(name) for name in graph.outputs}
    predictions = _classes(logits(graph, finals))
    sent = sum(int(np.count_nonzero(series)) for series in result.spikes.values())
    settle = result.settle_steps
    facts = {
        "steps": result.steps,
        "settle_steps": {"mean": float(settle.mean()), "max": int(settle.max())},
        "spikes_per_image": sent / len(emitted),
    }
    return Outcome(predictions, facts, _graph_series(graph, result, options.everything))


def _stream_graph(graph: SpikingGraph, emitted: np.ndarray, options: Options) -> Outcome:
    from fastsnn_deploy.backends import lava
    from fastsnn_deploy.graph.integer_network import integer_values, logits
    from fastsnn_deploy.simulators.streaming import stream

    with progress_bar("streaming") as update:
        if options.backend is Backend.lava:
            result = lava.stream(options.net, emitted, options.steps, timeout=options.timeout, progress=update)
        else:
            result = stream(graph, emitted, options.steps, progress=update)
    predictions = _classes(logits(graph, {name: result.values(name) for name in graph.outputs}))
    settle, sent = result.settle_steps(), result.spikes()
    facts = {
        "steps": result.run.steps,
        "settle_steps": {"mean": float(settle.mean()), "max": int(settle.max())},
        "spikes_per_image": float(sent.mean()),
        "spikes": sent.tolist(),
        "exact_images": int(result.exact(integer_values(graph, emitted)).sum()),
    }
    return Outcome(predictions, facts, _graph_series(graph, result.run, options.everything) | {"starts": result.starts})


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

    A network without memory gets each image for one step and answers when it has passed all layers. On Loihi 2, and
    with --stream, images follow each other step by step. Other networks get each image at every step.
    """
    depth, forgets = _depth(network), _forgets(network)
    if options.everything and options.backend is not Backend.simulator:
        raise InputError("--record all is for the simulator: only the last layer of a stock network is read elsewhere")
    follow = options.stream or options.backend is Backend.loihi2
    if follow and not forgets:
        raise InputError(
            f"{options.net}: has neurons with memory, so an image at every step would not be an inference of its own. "
            "Leave out --stream, or export with --target stock-lif"
        )
    if not forgets and options.steps is None:
        raise InputError(f"{options.net}: has neurons with memory, say with --steps how long to show each image")
    if follow:
        series, steps = frames[:, None], len(frames) + depth
    else:
        steps = options.steps or depth + 1
        series = frames[None] if forgets else np.broadcast_to(frames, (steps, *frames.shape))
    result, facts = _execute_stock(network, series, steps, options)
    spikes, potentials = result.spikes[-1], result.potentials[-1]
    assert spikes is not None
    assert potentials is not None
    answers = (spikes[depth:, 0], potentials[depth:, 0]) if follow else (spikes.sum(0), potentials[-1])
    if forgets and not follow:
        at = min(depth, steps - 1)
        answers = spikes[at], potentials[at]
    elif _is_sigma_delta(network):
        answers = np.zeros_like(spikes[-1]), potentials[-1]  # its state is the answer, not what it sends
    facts = {"steps": steps, "depth": depth} | facts
    if "input" not in network.metadata:
        facts["note"] = "the file does not say how images become spikes: the raw levels are sent"
    if options.backend is Backend.simulator:
        sent = sum(int(np.count_nonzero(layer)) for layer in result.spikes if layer is not None)
        facts["spikes_per_image"] = sent / len(frames)
    kinds = {"spikes": result.spikes, "potentials": result.potentials}
    last = len(network.layers) - 1
    recorded = {
        f"{kind}.{index}": values
        for kind, layers in kinds.items()
        for index, values in enumerate(layers)
        if values is not None and (options.everything or index == last)
    }
    return Outcome(_stock_classes(network, *answers), facts, recorded)


def _execute_stock(
    network: StockNetwork, series: np.ndarray, steps: int, options: Options
) -> tuple[StockRun, dict[str, Any]]:
    from fastsnn_deploy import lava_dl
    from fastsnn_deploy.backends import lava, loihi

    if options.backend is Backend.simulator:
        return lava_dl.run(network, series, steps), {}
    with progress_bar(options.backend.value) as update:
        if options.backend is Backend.lava:
            return lava.run_stock(options.net, series, steps, timeout=options.timeout, progress=update), {}
        result = loihi.run_stock(options.net, series, steps, timeout=options.timeout, progress=update)
    return result.run, {} if result.measurement is None else {"measured": result.measurement.to_dict()}


def _stock_classes(network: StockNetwork, spikes: np.ndarray, potentials: np.ndarray) -> np.ndarray:
    """Classes from the last layer, [N, *shape] each: counts or logits of a thermometer code, else the most active."""
    from fastsnn_deploy.targets.thermometer.network import METADATA_KEY, placements_of

    if METADATA_KEY not in network.metadata:
        return _classes(spikes if spikes.any() else potentials)
    placements = placements_of(network)
    answer = [p for p in placements if p.layer == max(each.layer for each in placements)]
    given = potentials.astype(np.int64) >> 6 if not answer[0].levels else spikes.astype(np.int64)
    values = np.zeros((len(given), *answer[0].shape), dtype=np.int64)
    for placement in answer:
        if placement.node == answer[0].node:
            placement.read(given, values)
    return _classes(values * np.asarray(json.loads(network.metadata.get("output_scale", "1.0"))))


@dataclass(frozen=True)
class _Source:
    """What `sample_images` reads of a graph."""

    input: Input
    metadata: Mapping[str, str]


def image_source(network: StockNetwork) -> SpikingGraph:
    """The input that encodes images for a stock network, and its metadata, in the place of a graph.

    Metadata `input`, a JSON object, may give low, high and offset (one for each channel) as `Input` has them; without
    it every message is a level of the raw image.
    """
    shape = network.layers[0].shape
    high = 2**network.input_message_bits - 1 if network.input_message_bits else 1
    described = {"low": 0, "high": high, "offset": [0] * shape[0], **json.loads(network.metadata.get("input", "{}"))}
    offset = np.asarray(described["offset"], dtype=np.int64)
    image = Input(
        name="input", shape=shape, step=1.0, low=described["low"], high=described["high"], offset=offset, scale=1.0
    )
    return cast("SpikingGraph", _Source(image, network.metadata))


def _depth(network: StockNetwork) -> int:
    """Steps from an image to the last layer: one for each layer with weights, and delays."""
    from fastsnn_deploy.lava_dl import StockConv, StockDense

    weighted = [layer for layer in network.layers if isinstance(layer, (StockConv, StockDense))]
    delays = [layer.delay for layer in weighted if isinstance(layer, StockDense) and layer.delay is not None]
    return len(weighted) + sum(int(delay.max()) for delay in delays)


def _is_sigma_delta(network: StockNetwork) -> bool:
    from fastsnn_deploy.lava_dl import Sdnn

    return isinstance(getattr(network.layers[-1], "neuron", None), Sdnn)


def _forgets(network: StockNetwork) -> bool:
    """Whether every step is an inference of its own: full decay in all layers, equal delays, no input neuron."""
    from fastsnn_deploy.lava_dl import Lif, StockConv, StockDense, StockInput

    for layer in network.layers:
        if isinstance(layer, StockInput) and layer.neuron is not None:
            return False
        if isinstance(layer, (StockConv, StockDense)):
            neuron = layer.neuron
            if not isinstance(neuron, Lif) or (neuron.i_decay, neuron.v_decay) != (4096, 4096):
                return False
            if isinstance(layer, StockDense) and layer.delay is not None and layer.delay.min() != layer.delay.max():
                return False
    return True


# results


def _classes(values: np.ndarray) -> np.ndarray:
    return np.asarray(values.reshape(len(values), -1).argmax(1))


def save(path: Path, outcome: Outcome, labels: np.ndarray | None) -> None:
    """Predictions, labels and series, int32 [T, N, *shape] under `spikes.NAME` and `potentials.NAME`, as .npz."""
    from fastsnn_deploy.files import atomic_path

    arrays = {"predictions": outcome.predictions, **outcome.series}
    if labels is not None:
        arrays["labels"] = labels
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


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
    if "accuracy" in facts:
        text.append(f"accuracy {percent(facts['accuracy'])}")
    text.append("predictions " + " ".join(map(str, facts["predictions"])))
    return text + ([f"written: {facts['out']}"] if "out" in facts else [])
