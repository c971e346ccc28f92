"""Random float networks: accepted is the same with the quantisers off and in integers, refused names a layer."""

from __future__ import annotations

import copy
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastsnn_deploy.api import read
from fastsnn_deploy.conversion.convert import convert
from fastsnn_deploy.errors import LoweringError
from fastsnn_deploy.formats.export import export
from fastsnn_deploy.graph import MaxPool2d, Population, SpikingGraph
from fastsnn_deploy.graph.integer_network import integer_values
from fastsnn_deploy.quantisation import Checkpoint, calibrate, load, prepare, save
from fastsnn_deploy.quantisation.layers import quantisers_off
from fastsnn_deploy.simulators.integer import integer_logits
from fastsnn_deploy.simulators.reference import simulate
from tests.random_torch_networks import random_torch_network


def check(seed: int) -> bool:
    """True if the network was accepted; asserts what must hold."""
    model, images = random_torch_network(seed)
    shape = tuple(images.shape[1:])
    state, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    refusal = None
    try:
        quantised = prepare(model, 8, 8, input_shape=shape)
    except LoweringError as error:
        refusal = error
    if refusal is not None:
        assert refusal.problems
        assert all(problem.where and problem.what for problem in refusal.problems)
        return False
    assert modes == [m.training for m in model.modules()]
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    with torch.no_grad(), quantisers_off(quantised):
        wanted = copy.deepcopy(model).eval()(images.clone())
        assert torch.allclose(quantised.eval()(images), wanted, atol=3e-4 * float(wanted.abs().max()) + 1e-9)
    calibrate(quantised, images)
    with tempfile.TemporaryDirectory() as folder:
        save(Checkpoint(quantised, shape), Path(folder) / "model.pt")
        loaded = load(Path(folder) / "model.pt")
    with torch.no_grad():
        answer = quantised.eval()(images)
        assert torch.equal(loaded.model.eval()(images), answer)
    made = convert(loaded, neurons="graded", allow_loss=True)
    with tempfile.TemporaryDirectory() as folder:
        export(made, Path(folder) / "model.net", "signed-if", "netx")
        graph = read(Path(folder) / "model.net")
    assert isinstance(graph, SpikingGraph)
    encoded = graph.input.encode(images[:2].numpy())
    values, run = integer_values(graph, encoded), simulate(graph, encoded)
    for node in graph.nodes:
        if isinstance(node, (Population, MaxPool2d)) or node.name in graph.outputs:
            assert np.array_equal(run.final(node.name), values[node.name]), node.name
    expected = answer.numpy().reshape(len(images), -1)
    got = integer_logits(graph, images.numpy()).reshape(expected.shape)
    assert np.abs(got - expected).max() <= 0.1 * np.abs(expected).max() + 1e-6
    return True


@settings(max_examples=100)
@example(seed=97968701)  # a concatenation, rescaled and then flattened
@example(seed=616)  # a wide layer behind a concatenation whose branches have steps of their own
@given(seed=st.integers(0, 2**32 - 1))
def test_accepted_networks_are_the_users_and_refused_ones_name_a_layer(seed: int) -> None:
    check(seed)


if __name__ == "__main__":  # python -m tests.test_random_capture COUNT [FIRST SEED]
    count, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    accepted = 0
    for number in range(first, first + count):
        try:
            accepted += check(number)
        except Exception as error:
            print(f"seed {number}: {type(error).__name__}: {str(error)[:400]}", flush=True)
    print(f"{count} networks, {accepted} accepted")
