"""What becomes of networks as users write them, against what must become of each.

    uv run python scripts/check_cases.py CASES.py [NAME ...]

CASES.py holds `CASES` (name -> builder of (model, input shape)), `EXPECT` (name -> "same", "refuse" or "either"),
`images(shape)` and `settle_statistics(model, shape)`. Every network is prepared at 8 bits, trained for three steps,
prepared again, calibrated, saved, loaded, converted, written to NetX, read back and simulated. Printed are the
correlation of its answers with the float network's, the share of answers that are the prepared model's to 1 %, and
whether the settled spiking network that was read holds the integers of the integer network, on the reference and on the
CPU engine. Exit code 1 if a network is not what it must be.

Training must lower the loss with Adam, whose step is as large in every layer. Plain SGD's is printed beside it: on a
gradient clipped as a whole nearly all of its step goes into the first layers, and there the gradient of a deep network
with random weights is that of rounding noise (`scripts/training_noise.py`), so that 8 images may or may not do.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import fastsnn_deploy as fd
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph import MaxPool2d, Population, SpikingGraph
from fastsnn_deploy.graph.integer_network import integer_values
from fastsnn_deploy.simulators.integer import integer_logits

CORRELATION = 0.98
"""What "same" asks of 8-bit networks that are not too deep for random weights."""


def read_cases(path: Path) -> Any:
    """The module in a file."""
    spec = importlib.util.spec_from_file_location("cases", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["cases"] = module
    spec.loader.exec_module(module)
    return module


def train(
    model: nn.Module, shape: tuple[int, ...], images: Tensor, optimiser_of: Callable[[Any], torch.optim.Optimizer]
) -> tuple[float, float]:
    """Loss before and after three steps of training what `prepare` returns."""
    quantised = fd.prepare(model, 8, 8, input_shape=shape).train()
    fd.calibrate(quantised, images)
    optimiser = optimiser_of([p for p in quantised.parameters() if p.requires_grad])
    target = torch.zeros_like(quantised(images)).detach()
    losses = []
    for _ in range(4):
        optimiser.zero_grad()
        loss = (quantised(images) - target).square().mean()
        losses.append(float(loss.detach()))
        loss.backward()
        nn.utils.clip_grad_norm_(quantised.parameters(), 1.0)
        optimiser.step()
    return losses[0], losses[-1]


def settles(graph: SpikingGraph, images: np.ndarray) -> bool:
    """True if the settled spiking network holds the integers of the integer network, on both engines."""
    wanted = integer_values(graph, graph.input.encode(images))
    names = [node.name for node in graph.nodes if isinstance(node, (Population, MaxPool2d))]
    runs = [fd.simulate(graph, images, engine) for engine in ("reference", "cpu")]
    return all(np.array_equal(run.final(name), wanted[name]) for run in runs for name in (*names, *graph.outputs))


def check(cases: Any, name: str) -> tuple[bool, str]:
    """(as it must be, what became of it)."""
    expected = cases.EXPECT[name]
    torch.manual_seed(0)
    model, shape = cases.CASES[name]()
    images = cases.images(shape, 64)
    if expected != "refuse":
        cases.settle_statistics(model, shape)
    try:
        quantised = fd.prepare(model, 8, 8, input_shape=shape)
    except InputError as error:
        return expected != "same", "refused: " + str(error).replace("\n", " ")[:150]
    if expected == "refuse":
        return False, "accepted"
    plain = train(model, shape, images[:8], lambda parameters: torch.optim.SGD(parameters, lr=1e-3))
    first, last = train(model, shape, images[:32], lambda parameters: torch.optim.Adam(parameters, lr=1e-4))
    fd.calibrate(quantised, images)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, file = Path(folder) / "model.pt", Path(folder) / "network.net"
        fd.save(quantised, checkpoint, input_shape=shape)
        fd.export(fd.convert(checkpoint, neurons="graded"), file)
        graph = fd.read(file)
    assert isinstance(graph, SpikingGraph)
    with torch.no_grad():
        wanted = model.eval()(images[:32]).double().flatten(1).numpy()
        prepared = quantised.eval()(images[:32]).double().flatten(1).numpy()
    integer = integer_logits(graph, images[:32].numpy()).reshape(wanted.shape)
    correlation = float(np.corrcoef(wanted.ravel(), integer.ravel())[0, 1])
    equal = float((np.abs(integer - prepared) <= 0.01 * np.abs(prepared).max()).mean())
    settled = settles(graph, images[:1].numpy())
    good = settled and last < first and (name.startswith("torchvision") or correlation >= CORRELATION)
    return (
        good,
        f"correlation {correlation:.4f}, as prepared {100 * equal:5.1f} %, loss {first:.3g} -> {last:.3g} "
        f"(SGD {plain[0]:.3g} -> {plain[1]:.3g}), " + ("settles" if settled else "DOES NOT SETTLE"),
    )


def main() -> int:
    """Check the named cases, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path)
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    cases = read_cases(options.cases)
    wrong = 0
    for name in options.names or cases.CASES:
        start = time.perf_counter()
        try:
            good, what = check(cases, name)
        except Exception as error:  # what must never happen is counted, not raised
            good, what = False, f"{type(error).__name__}: {str(error)[:300]}"
        wrong += not good
        mark = "ok   " if good else "WRONG"
        print(f"{mark} {name:45s} {cases.EXPECT[name]:7s} {what} ({time.perf_counter() - start:.0f} s)", flush=True)
    print(f"{wrong} networks are not what they must be")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
