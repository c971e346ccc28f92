"""Counts and energy of networks on cores, by this program and by the simulator SANA-FE, term by term.

    uv venv FOLDER && uv pip install --python FOLDER/bin/python sanafe==2.2.9
    python scripts/sanafe_beside.py --sanafe FOLDER/bin/python --data-root data --record docs/records/sanafe.json

SANA-FE is under the GPL and runs as a program of its own, in an environment of its own; it reads the files that
`fastsnn-deploy sanafe` writes. Exit code 1 if a count differs.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

import fastsnn_deploy as fd
from fastsnn_deploy.analysis.kinds import kind_of
from fastsnn_deploy.analysis.sanafe.result import SanafeExport
from fastsnn_deploy.analysis.sanafe.trains import trains_of

ROOT = Path(__file__).resolve().parent.parent

PROGRAM = """
import importlib.metadata, json, sys
import sanafe
folder, steps, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
arch = sanafe.load_arch(folder + "/arch.yaml")
chip = sanafe.SpikingChip(arch)
chip.load(sanafe.load_net(folder + "/network.yaml", arch))
run = chip.sim(steps, spike_trace=True, message_trace=True, perf_trace=True)
sent = {}
for step in run["message_trace"]:
    for message in step:
        if not message["placeholder"]:
            row = sent.setdefault(message["src_neuron_group_id"], [0, 0, 0])
            for place, number in enumerate((1, message["hops"], message["spikes"])):
                row[place] += number
found = {
    "version": importlib.metadata.version("sanafe"),
    "totals": [run["neurons_fired"], run["spikes"], run["packets_sent"], int(sum(run["perf_trace"]["hops"]))],
    "energy": run["energy"], "seconds": run["sim_time"], "sent": sent,
    "spikes": [[str(each) for each in step] for step in run["spike_trace"]],
}
with open(out, "w") as file:
    json.dump(found, file)
"""
"""What SANA-FE is told to do."""

OWN = "loihi1-sanafe"

REPLACED = {
    "energy_update_neuron: 0.0": "energy_update_neuron: 21.6e-12",
    "energy_spike_out: 9.09e-11": "energy_spike_out: 69.3e-12",
    "energy_north_hop: 3.6e-12": "energy_north_hop: 4.2e-12",
    "energy_south_hop: 3.6e-12": "energy_south_hop: 4.2e-12",
    "energy_east_hop: 3.6e-12": "energy_east_hop: 3.0e-12",
    "energy_west_hop: 3.6e-12": "energy_west_hop: 3.0e-12",
}
"""From the profile `loihi1-sanafe` to the file arch/loihi.yaml that it is from."""

COUNTS = ("spikes", "synaptic_operations", "messages", "hops")
TERMS = ("synapse", "soma", "network")


class Case(NamedTuple):
    """A network and images on a chip."""

    name: str
    network: Any
    images: Any
    hardware: str


def cases(root: str) -> Iterator[Case]:
    """Two shipped networks, and a small one of stock LIF neurons."""
    for data, net, number in (("digits", "digits-2bit-unary", 5), ("mnist", "mnist-lenet-2bit-unary", 2)):
        network = fd.read(ROOT / "netx_exports" / f"{net}.net")
        test = fd.load_data(data, "test", root)
        yield Case(net, network, test.for_input(network.input, slice(number)), "loihi2")
    yield stock()


def stock() -> Case:
    """A small network of thresholds in thermometer code, trained on digits: SANA-FE computes its spikes itself."""
    torch.manual_seed(1)  # with some others a bias takes more than the 13 bits of Loihi 1
    layers = (
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Flatten(), nn.Linear(128, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip
    train, test = (fd.load_data("digits", split) for split in ("train", "test"))
    model = fd.prepare(nn.Sequential(*layers), bits=2, weight_bits=4, input_shape=(1, 8, 8))
    fd.fit(model, train, test, epochs=15, progress=False)
    with tempfile.TemporaryDirectory() as folder:
        fd.export(model, f"{folder}/stock.net", target="stock-lif")
        network = fd.read(f"{folder}/stock.net")
    return Case("digits-small-stock-lif", network, test.for_input(network.input, slice(5)), "loihi1-sanafe")


def run_sanafe(python: str, folder: Path, steps: int) -> dict[str, Any]:
    """What SANA-FE finds."""
    out = folder.parent / "found.json"
    command = [python, "-c", PROGRAM, str(folder), str(steps), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{python}: SANA-FE did not run:\n{done.stderr[-2000:]}")
    return dict(json.loads(out.read_text(encoding="utf-8")))


def compared(case: Case, python: str) -> dict[str, Any]:
    """One case by both."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "export"
        made = fd.export_sanafe(case.network, case.images, folder, case.hardware)
        found = run_sanafe(python, folder, made.steps)
        own = own_constants(case, python, folder, made.steps)
    rows = [
        {"what": key, "here": made.total(key), "sanafe": number, "equal": made.total(key) == number}
        for key, number in zip(COUNTS, found["totals"], strict=True)
    ]
    for layer in made.layers:
        sent = found["sent"].get(layer.group, [0, 0, 0])
        for key, number in zip(("messages", "hops"), sent, strict=False):
            here = getattr(layer, key)
            rows.append({"what": f"{key} of {layer.layer}", "here": here, "sanafe": number, "equal": here == number})
    rows.append(same_spikes(case, made, found["spikes"]))
    return {
        "network": case.name, "hardware": case.hardware, "images": made.images, "steps": made.steps,
        "cores": made.cores, "synapses": made.synapses, "computed": list(made.computed), "counts": rows,
        "energy_uj": [
            {"term": term, "here": made.total(f"{term}_pj") / 1e6, "sanafe": found["energy"][term] * 1e6}
            for term in TERMS
        ],
        "own_constants_uj": own, "profile": profiled(case, made), "least_ms": least_ms(case, made),
        "sanafe_ms": found["seconds"] * 1e3, "version": found["version"],
    }  # fmt: skip


def own_constants(case: Case, python: str, folder: Path, steps: int) -> list[dict[str, Any]]:
    """Energies with what SANA-FE's own Loihi has besides: a price for neurons that receive something or hold a
    potential, which a profile has at the high end of its band, and two prices of links by their direction."""
    if case.hardware != OWN:
        return []
    path = folder / "arch.yaml"
    text = path.read_text(encoding="utf-8")
    for mine, theirs in REPLACED.items():
        assert mine in text, mine
        text = text.replace(mine, theirs)
    path.write_text(text, encoding="utf-8")
    energy = run_sanafe(python, folder, steps)["energy"]
    return [{"term": term, "sanafe": energy[term] * 1e6} for term in TERMS]


def same_spikes(case: Case, made: SanafeExport, theirs: list[list[str]]) -> dict[str, Any]:
    """Every spike of every neuron in every step."""
    kind = kind_of(case.network)
    sent = trains_of(case.network, kind.encode(case.network, case.images)).sent
    groups = {layer.layer: layer.group for layer in made.layers}
    ours = {
        (step, f"{groups[name]}.{neuron}")
        for name, train in sent.items()
        for step, neuron in np.argwhere(train).tolist()
    }
    found = {(step, neuron) for step, neurons in enumerate(theirs) for neuron in neurons}
    both, equal = len(ours & found), ours == found
    return {"what": "spikes by neuron and step", "here": len(ours), "sanafe": both, "equal": equal}


def profiled(case: Case, made: SanafeExport) -> list[dict[str, Any]]:
    """The same from `fd.profile`; nothing for stock networks, of which it counts no step that fills the layers.

    What enters from outside is one message a spike there, without hops; SANA-FE has a core for it, which sends to each
    core that reads.
    """
    if made.computed:
        return []
    found = fd.profile(case.network, case.images, case.hardware)
    amounts = {each.name: each.amounts for each in found.energy.layers}
    outside = {layer.layer for layer in made.layers} - {layer.name for layer in found.mapping.layers}

    def sent(term: str) -> int:
        numbers = (each.get(term, {}) for name, each in amounts.items() if name not in outside)
        return round(made.images * sum(sum(each.values()) for each in numbers))

    def theirs(key: str) -> int:
        return sum(getattr(layer, key) for layer in made.layers if layer.layer not in outside)

    pairs = {
        "spikes": (found.counts.total("spikes"), made.total("spikes")),
        "synaptic operations": (found.counts.total("synaptic_operations"), made.total("synaptic_operations")),
        "messages of the chip's layers": (sent("messages"), theirs("messages")),
        "hops of the chip's layers": (sent("hops"), theirs("hops")),
    }
    return [{"what": key, "here": a, "sanafe": b, "equal": a == b} for key, (a, b) in pairs.items()]


def least_ms(case: Case, made: SanafeExport) -> float | None:
    """The least time of all images by the profile, where it counts the same steps."""
    timing = None if made.computed else fd.profile(case.network, case.images, case.hardware).timing
    return None if timing is None else made.images * timing.image.value * 1e-6


def page(record: dict[str, Any]) -> Iterator[str]:
    """The tables of docs/sanafe.md."""
    for case in record["cases"]:
        yield f"{case['network']} on {case['hardware']}, {case['images']} images, {case['steps']} steps"
        yield ""
        yield "| | here | SANA-FE |"
        yield "|---|---|---|"
        for row in case["counts"]:
            if " of " not in row["what"]:
                yield f"| {row['what'].replace('_', ' ')} | {row['here']:,} | {row['sanafe']:,} |"
        for row in case["energy_uj"]:
            yield f"| energy of {row['term']}, µJ | {row['here']:.4f} | {row['sanafe']:.4f} |"
        for row in case["own_constants_uj"]:
            yield f"| energy of {row['term']} with SANA-FE's own constants, µJ | | {row['sanafe']:.4f} |"
        least = case["least_ms"]
        yield f"| time, ms (here: the least) | {'' if least is None else f'{least:.3f}'} | {case['sanafe_ms']:.3f} |"
        yield ""


def main() -> None:
    """Compare, print, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sanafe", required=True, help="Python of an environment with SANA-FE.")
    parser.add_argument("--data-root", default="data")
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    found = [compared(case, options.sanafe) for case in cases(options.data_root)]
    record = {
        "date": date.today().isoformat(),
        "versions": {"sanafe": found[0]["version"], "fastsnn-deploy": fd.__version__, "numpy": np.__version__},
        "cases": [{key: value for key, value in case.items() if key != "version"} for case in found],
    }
    print("\n".join(page(record)))
    if options.record is not None:
        options.record.write_text(json.dumps(record, indent=1) + "\n")
    rows = [row for case in found for row in (*case["counts"], *case["profile"])]
    different = [row for row in rows if not row["equal"]]
    energies = [row for case in found for row in case["energy_uj"]]
    different += [row for row in energies if not math.isclose(row["here"], row["sanafe"], rel_tol=1e-9)]
    for row in different:
        print(f"differs: {row}")
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
