"""Times our engine, other simulators of spiking networks, and the bare convolutions, on one network and machine.

python benchmarks/simulate.py --network vgg11 --steps 7 --images 64 --repeat 5 --threads 2 --out FILE.json
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import agreement
import charts
import extras
import machine
import memory
import numpy as np
import peers  # noqa: F401  registers the contenders
from networks import BITS, NETWORKS, active_fractions, build_graph, images_for, known
from peers.base import CONTENDERS, Contender, Int64, NotAvailableError, Options
from peers.ours import Ours
from rounds import Sample, in_turns, stopwatch

from fastsnn_deploy import graph as graphs
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.graph.integer_network import integer_values

DEFAULT_PEERS = ("ours", "ours-window", "ceiling", "float", "fast-snn", "spikingjelly", "snntorch", "sinabs")
FAILURES = (NotAvailableError, RuntimeError, MemoryError)
FULL_IMAGES = 10_000


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="vgg11", help=f"of {','.join(NETWORKS)}, or an exported network.net")
    parser.add_argument("--steps", type=int, choices=BITS, default=7, help="T")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--repeat", type=int, default=5, help="rounds; in each every contender runs once")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32, help="images that a peer computes at a time")
    parser.add_argument("--peers", default=",".join(DEFAULT_PEERS), help=f"of {','.join(CONTENDERS)}")
    parser.add_argument("--engine", default="cpu", help="ours")
    parser.add_argument("--fast-snn", type=Path, help="folder of the official code")
    parser.add_argument("--spikingjelly", type=Path, help="folder that holds the package, if it is not installed")
    parser.add_argument("--sinabs", type=Path, help="folder that holds the package, if it is not installed")
    parser.add_argument("--data-root", type=Path, help="folder of CIFAR-10 and MNIST; default: smooth noise")
    parser.add_argument("--check", type=int, default=4, help="images whose counts are compared, 0 for none")
    parser.add_argument("--lava-steps", type=int, default=2, help="steps that stock Lava is timed over")
    parser.add_argument("--memory", action="store_true", help="also peak memory, each contender in its own process")
    parser.add_argument("--beyond", action="store_true", help="also the cost of settling")
    parser.add_argument("--scaling", action="store_true", help=f"also our engine for T of {', '.join(map(str, BITS))}")
    parser.add_argument("--full", action="store_true", help=f"also {FULL_IMAGES:,} images through our engine")
    parser.add_argument("--out", type=Path, help="JSON file for all figures")
    parser.add_argument("--plot", type=Path, help="picture of images/s")
    given = parser.parse_args()
    unknown = sorted(set(given.peers.split(",")) - set(CONTENDERS))
    if unknown:
        parser.error(f"--peers: {', '.join(unknown)} not known. Known: {', '.join(CONTENDERS)}")
    if not known(given.network):
        parser.error(f"--network: {given.network} is neither one of {', '.join(NETWORKS)} nor the file of a network")
    if given.scaling and given.network not in NETWORKS:
        parser.error("--scaling: an exported network has one T")
    for name in ("images", "repeat", "threads", "batch", "lava_steps"):
        if getattr(given, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    return given


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def main() -> None:
    """Build, check, time, and write."""
    given = arguments()
    folders = {name: getattr(given, name).resolve() for name in ("spikingjelly", "sinabs") if getattr(given, name)}
    fast_snn = given.fast_snn.resolve() if given.fast_snn else None
    options = Options(given.threads, given.batch, given.engine, fast_snn, folders, given.lava_steps)
    say(f"{given.network}, T = {given.steps}: building")
    try:
        graph = build_graph(given.network, given.steps, given.data_root)
    except (InputError, ValueError) as error:
        raise SystemExit(str(error)) from error
    emitted = graph.input.encode(images_for(given.network, given.images, given.data_root))
    report: dict[str, object] = {"machine": machine.describe(), "settings": _settings(given)}
    report["network"] = describe(graph, emitted)

    built, results = build(given.peers.split(","), graph, given.steps, options)
    if given.check:
        check_ours(built, emitted[: given.check])
        check(built, emitted[: given.check], results)
    time_all(built, emitted, given.repeat, results)
    if given.memory:
        measure_memory(graph, emitted[: given.batch], given.steps, options, results)
    report["contenders"] = results
    if given.beyond and isinstance(ours := built.get("ours"), Ours):
        report["beyond_T"] = extras.beyond(ours, emitted, given.repeat, say)
    if given.scaling:
        report["scaling"] = extras.scaling(given.network, given.images, given.repeat, options, given.data_root, say)
    if given.full:
        report["full"] = extras.full(given.network, FULL_IMAGES, given.steps, options, given.data_root)
    finish(report, given)


def describe(graph: SpikingGraph, emitted: Int64) -> dict[str, object]:
    """Size and activity of the network, printed too."""
    fractions = active_fractions(graph, emitted[:2])
    size = {
        "neurons": sum(node.size for node in graph.populations),
        "parameters": sum(synapse.parameters for synapse in graph.synapses),
        "depth": graph.depth,
        "active_fraction": fractions,
    }
    low, middle, high = np.quantile(list(fractions.values()), (0, 0.5, 1))
    say(f"{size['neurons']:,} neurons, {size['parameters']:,} weights, depth {graph.depth}")
    say(f"nonzero counts: {low:.0%} to {high:.0%} of a layer, median {middle:.0%}")
    return size


def build(
    names: list[str], graph: SpikingGraph, steps: int, options: Options
) -> tuple[dict[str, Contender], dict[str, dict[str, object]]]:
    """The contenders that are available, and an entry in the results for all."""
    built: dict[str, Contender] = {}
    results: dict[str, dict[str, object]] = {}
    for name in CONTENDERS:
        if name not in names:
            continue
        results[name] = {"title": CONTENDERS[name].title}
        try:
            built[name] = CONTENDERS[name](graph, steps, options)
        except NotAvailableError as error:
            results[name]["status"] = str(error)
            say(f"{name}: {error}")
        else:
            results[name].update(status="ran", details=built[name].details())
    return built, results


def check_ours(built: dict[str, Contender], emitted: Int64) -> None:
    """Our engine must settle to the integers of the quantised network, and after T steps agree with the reference."""
    for name, ours in built.items():
        if isinstance(ours, Ours):
            found = ours.values(emitted)
            right = integer_values(ours.graph, emitted) if name == "ours" else ours.on("reference").values(emitted)
            wrong = [node for node, values in found.items() if not np.array_equal(values, right[node])]
            run = ours.engine.run(emitted)  # as it is timed: nodes that nobody records take other loops
            wrong += [node for node in ours.graph.outputs if not np.array_equal(run.final(node), right[node])]
            assert not wrong, f"{name} differs in {', '.join(wrong)}"


def check(built: dict[str, Contender], emitted: Int64, results: dict[str, dict[str, object]]) -> None:
    """Compare what each contender computes with its own semantics and with the integer network."""
    for name, each in built.items():
        try:
            results[name]["agreement"] = result = agreement.compare(each, emitted)
        except FAILURES as error:
            results[name]["status"] = f"failed: {error}"
            say(f"{name}: {results[name]['status']}")
        else:
            say(f"{name}: {agreement.verdict(result)}")


def time_all(built: dict[str, Contender], emitted: Int64, repeat: int, results: dict[str, dict[str, object]]) -> None:
    """Samples, images/s and ratios of every contender, into the results."""

    def timer(each: Contender) -> Callable[[], float]:
        def seconds() -> float:
            own = each.seconds(emitted)
            return stopwatch(lambda: each.run(emitted)) if own is None else own

        return seconds

    able = {name: each for name, each in built.items() if results[name]["status"] == "ran"}
    for each in able.values():
        if not each.once:
            each.run(emitted)  # compiles, packs weights, fills caches of memory
    once = frozenset(name for name, each in able.items() if each.once)
    timers = {name: timer(each) for name, each in able.items()}
    samples = in_turns(timers, repeat, once=once, failures=FAILURES, progress=say)
    for name, sample in samples.items():
        if sample.failure:
            results[name]["status"] = f"failed: {sample.failure}"
        else:
            results[name].update(extras.rate(sample, len(emitted)))
    _add_ratios(results, samples)


def _add_ratios(results: dict[str, dict[str, object]], samples: dict[str, Sample]) -> None:
    """How many times the speed of ours, and what share of the ceiling."""
    for reference in ("ours", "ceiling"):
        if reference not in samples or samples[reference].failure:
            continue
        for name, sample in samples.items():
            if not sample.failure:
                results[name][f"speed_over_{reference}"] = samples[reference].median / sample.median


def measure_memory(
    graph: SpikingGraph, emitted: Int64, steps: int, options: Options, results: dict[str, dict[str, object]]
) -> None:
    """Peak memory of every contender that ran in this process, for one batch of images."""
    names = [name for name, each in results.items() if "seconds" in each and not CONTENDERS[name].once]
    plain = _plain({field.name: getattr(options, field.name) for field in dataclasses.fields(options)})
    with tempfile.TemporaryDirectory(prefix="benchmark_") as folder:
        file = Path(folder) / "graph.safetensors"
        graphs.save(graph, file)
        for name, figures in memory.peaks(file, emitted, steps, names, plain).items():
            results[name]["memory"] = figures


def finish(report: dict[str, object], given: argparse.Namespace) -> None:
    """Print the table, write the file and the picture."""
    results = report["contenders"]
    assert isinstance(results, dict)
    say(f"\n{'':28}{'images/s':>12}{'of ours':>10}{'of ceiling':>12}{'peak MiB':>10}")
    for each in results.values():
        if "images_per_second" not in each:
            say(f"{each['title']:28}{each['status']}")
            continue
        ratios = [f"{each[key]:.3f}" if key in each else "" for key in ("speed_over_ours", "speed_over_ceiling")]
        peak = each.get("memory", {}).get("peak_mib")
        line = f"{each['title']:28}{each['images_per_second']:12.4g}{ratios[0]:>10}{ratios[1]:>12}"
        say(line + (f"{peak:10.0f}" if peak else ""))
    for name in ("beyond_T", "scaling", "full"):
        if name in report:
            say(f"{name}: {json.dumps(report[name])}")
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if given.plot:
        given.plot.parent.mkdir(parents=True, exist_ok=True)
        title = f"{given.network}, T = {given.steps}, {given.images} images, {given.threads} threads"
        charts.bars(results, title, given.plot)


def _settings(given: argparse.Namespace) -> dict[str, object]:
    """The options that decide the figures; folders of this machine do not."""
    return {name: value for name, value in vars(given).items() if not isinstance(value, Path)}


def _plain(values: dict[str, object]) -> dict[str, object]:
    """Paths as text, so that JSON takes them."""

    def plain(value: object) -> object:
        if isinstance(value, dict):
            return _plain(value)
        return str(value) if isinstance(value, Path) else value

    return {name: plain(value) for name, value in values.items()}


if __name__ == "__main__":
    main()
