"""The example exports are what their manifest says, and the README quotes the manifest."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from fastsnn_deploy.formats import netx
from fastsnn_deploy.graph.integer_network import integer_values, logits
from fastsnn_deploy.simulators.reference import simulate
from fastsnn_deploy.training.data import load_images

ROOT = Path(__file__).resolve().parent.parent
MANIFEST = json.loads((ROOT / "netx_exports" / "manifest.json").read_text(encoding="utf-8"))


def test_the_manifest_lists_every_example():
    files = {path.name for path in (ROOT / "netx_exports").glob("*.net") if not path.name.startswith("demo-")}
    assert files == set(MANIFEST)


@pytest.mark.parametrize("name", MANIFEST)
def test_examples_are_those_of_the_manifest(name: str):
    path = ROOT / "netx_exports" / name
    assert hashlib.sha256(path.read_bytes()).hexdigest() == MANIFEST[name]["sha256"]
    graph = netx.read(path)
    assert graph.metadata["recipe"] == MANIFEST[name]["recipe"]
    assert {population.neurons for population in graph.populations} == {MANIFEST[name]["neurons"]}
    assert MANIFEST[name]["verified_on_lava"]["integers_differing"] == 0


@pytest.mark.parametrize("name", [name for name in MANIFEST if name.startswith("digits")])
def test_digits_examples_have_the_accuracy_of_the_manifest(name: str):
    graph = netx.read(ROOT / "netx_exports" / name)
    test = load_images("digits", "test")
    emitted = graph.input.encode(test.for_input(graph.input))
    values = integer_values(graph, emitted)
    accuracy = float((logits(graph, values).argmax(1) == test.labels.numpy()).mean())
    assert accuracy == MANIFEST[name]["integer_accuracy"] >= 0.96
    run = simulate(graph, emitted[:20])
    assert np.array_equal(run.final(graph.outputs[0]), values[graph.outputs[0]][:20])


def test_the_readme_quotes_the_manifest():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in ("digits-2bit-unary.net", "mnist-lenet-2bit-unary.net"):
        entry = MANIFEST[name]
        row = next(
            line for line in text.splitlines() if f"{entry['test_images']:,} test images" in line and "|" in line
        )
        for quantity in ("quantised_accuracy", "integer_accuracy"):
            assert f" {100 * entry[quantity]:.2f} % " in row
        assert f"{entry['verified_on_lava']['integers_compared']:,} integers, 0 differ" in row
