"""The Triton kernels of the GPU engine without a GPU.

In Triton's interpreter every integer must equal the reference simulator's. That the kernels compile to int8 tensor
core instructions is checked with Triton's own compiler, which needs no GPU either.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from fastsnn_deploy.graph import (
    Concat,
    Conv2d,
    Flatten,
    Identity,
    Input,
    Linear,
    MaxPool2d,
    Population,
    Readout,
    Schedule,
    SpikingGraph,
)
from fastsnn_deploy.graph.neurons import emit
from fastsnn_deploy.simulators.gpu import GpuEngine, engine, kernels
from fastsnn_deploy.simulators.gpu import neurons as gpu_neurons
from tests.random_graphs import bounds, random_graph, random_images
from tests.test_engine_gpu import compare, names_of, random_states


def test_kernels_in_the_interpreter():
    """In a process of its own: Triton reads the variable when it is imported."""
    assert in_process("check_kernels", {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}) == "equal\n"


KINDS = {True: "unary", False: "graded"}
"""Names of the two forms of the rule, by `Cell.single`."""


def check_kernels() -> None:
    """Run by `test_kernels_in_the_interpreter`: graphs that use every path of both kernels, and random ones."""
    used: Counter[str] = Counter()
    advance, advance_conv = kernels.Kernels.advance, kernels.Kernels.advance_conv

    def counted(self, cell, state, drive, spikes):
        used["settling" if drive is None else f"synaptic_input {KINDS[cell.single]}"] += 1
        return advance(self, cell, state, drive, spikes)

    def counted_conv(self, conv, cell, state, arriving, first, drive, spikes, beside=None):
        used.update([f"conv {KINDS[cell.single]}", f"{conv.digits} digits", f"spikes {spikes.dtype}"])
        used.update(["more synaptic input"] * (drive.synaptic_input is not None) + ["identity"] * (beside is not None))
        return advance_conv(self, conv, cell, state, arriving, first, drive, spikes, beside)

    kernels.Kernels.advance, kernels.Kernels.advance_conv = counted, counted_conv
    for neurons in ("unary", "graded"):
        for graph in (every_path(neurons, 15), every_path(neurons, 200)):
            emitted = graph.input.encode(random_images(graph, 1, 3))
            for steps in (None, 6):
                compare(graph, emitted, steps, [])
            compare(graph, emitted, None, names_of(graph))
            for held in ({"stop": "window"}, {"start_delay": 3}):
                compare(replace(graph, schedule=replace(graph.schedule, **held)), emitted, None, [])
        for seed in range(5):
            graph = random_graph(seed, blocks=3, max_size=5, neurons=neurons, balance=bool(seed % 2))
            compare(graph, graph.input.encode(random_images(graph, seed)), None if seed % 2 else 7, [])
    loaded = kernels.load_kernels(torch.device("cpu"))
    assert loaded is not None
    for limits in ((-1, 1), (0, 1), (-17, 17), (-2, 5)):
        check_emission(loaded, limits)
    wanted = {f"{kind} {neurons}" for kind in ("conv", "synaptic_input") for neurons in ("unary", "graded")}
    wanted |= {
        "settling",
        "1 digits",
        "2 digits",
        "more synaptic input",
        "identity",
        "spikes torch.int8",
        "spikes torch.int16",
    }
    assert wanted <= used.keys(), wanted - used.keys()
    print("equal")


def check_emission(loaded: kernels.Kernels, limits: tuple[int, int]) -> None:
    """One step of the neuron kernel from random states against the rule's definition."""
    v, c, theta = random_states()
    tensors = [torch.from_numpy(x.copy()) for x in (v, c, theta)]
    cell = gpu_neurons.Cell(tensors[2], tensors[2], -2, 15, *limits, (64,), 0, torch.int32, False)
    sent = torch.empty((1, *v.shape), dtype=torch.int32)
    pending = loaded.advance(cell, gpu_neurons.State(tensors[0], tensors[1]), None, sent)
    expected = emit(v, c, theta, -2, 15, *limits)
    assert np.array_equal(sent[0].numpy(), expected), limits
    assert np.array_equal(tensors[0].numpy(), v - theta * expected), limits
    assert np.array_equal(tensors[1].numpy(), c + expected), limits
    assert pending == emit(v - theta * expected, c + expected, theta, -2, 15, *limits).any(), limits


def every_path(neurons: str, ceiling: int) -> SpikingGraph:
    """8-bit signed pixels; a strided convolution; a residual with identity and a second convolution; a readout."""
    rng = np.random.default_rng(ceiling)
    none = np.zeros(40, dtype=int)

    def conv(name: str, source: str, outputs: int, inputs: int, shape: tuple, **options) -> Conv2d:
        weight = rng.integers(-20, 21, (outputs, inputs, 3, 3))
        exponent = rng.integers(0, 3, outputs)
        return Conv2d(name=name, inputs=(source,), shape=shape, weight=weight, exponent=exponent, **options)

    def population(name: str, inputs: tuple[str, ...], shape: tuple) -> Population:
        threshold = rng.integers(30, 300, shape[0])
        return Population(
            name=name, inputs=inputs, shape=shape, threshold=threshold, bias=rng.integers(-99, 99, shape[0]),
            initial=threshold // 2, input_scale=np.ones(shape[0]), ceiling=ceiling, scale=1.0,
            **bounds(neurons, 0, ceiling),
        )  # fmt: skip

    nodes = (
        Input(name="image", shape=(3, 7, 6), step=1 / 255, low=0, high=255, offset=np.array([120, 0, 90]), scale=1.0),
        conv("c1", "image", 4, 3, (4, 4, 3), stride=(2, 2), padding=(1, 1)),
        population("p1", ("c1",), (4, 4, 3)),
        conv("c2", "p1", 4, 4, (4, 4, 3), padding=(1, 2), dilation=(1, 2)),
        conv("c3", "p1", 4, 4, (4, 4, 3), padding=(1, 1), delay=3),
        Identity(name="i2", inputs=("p1",), shape=(4, 4, 3), weight=np.array([50, -9, 3, 80]), exponent=none[:4]),
        population("p2", ("c2", "c3", "i2"), (4, 4, 3)),
        Identity(name="i3", inputs=("p2",), shape=(4, 4, 3), weight=np.full(4, 70), exponent=none[:4]),
        population("p3", ("i3",), (4, 4, 3)),
        Concat(name="cat", inputs=("p2", "p3"), shape=(8, 4, 3), delays=(1, 0)),
        MaxPool2d(name="max", inputs=("cat",), shape=(8, 2, 1), kernel=(2, 2), stride=(2, 2)),
        Flatten(name="flat", inputs=("max",), shape=(16,)),
        Linear(name="l4", inputs=("flat",), shape=(20,), weight=rng.integers(-9, 10, (20, 16)), exponent=none[:20]),
        population("p4", ("l4",), (20,)),
        Linear(name="l5", inputs=("p4",), shape=(3,), weight=rng.integers(-9, 10, (3, 20)), exponent=none[:3]),
        Readout(name="out", inputs=("l5",), shape=(3,), bias=np.array([4, 0, -4]), scale=np.ones(3)),
    )
    return SpikingGraph(nodes, ("out", "p4"), Schedule(window=2, input="spread", bias="spread"))


def test_kernels_compile_to_int8_tensor_core_instructions(tmp_path: Path):
    """With the arguments of real launches, for an H100 or H200, in a process whose driver pretends to have one."""
    assert in_process("check_compilation", {"TRITON_CACHE_DIR": str(tmp_path)}) == "compiled\n"


def in_process(function: str, variables: dict[str, str]) -> str:
    """What a function of this module prints in a process with these environment variables."""
    code = f"from tests.test_engine_gpu_kernels import {function}; {function}()"
    environment = {**os.environ, **variables}
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Hopper:
    """As much of a Triton driver as compilation asks for."""

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self):
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", 90, 32)


class CompiledOnly:
    """A kernel that is compiled instead of launched; every neuron seems to fire once in every step.

    fills: the argument that this is written to.
    """

    def __init__(self, kernel, fills: str = "spikes") -> None:
        self.kernel, self.fills = kernel, fills
        self.built: dict[int, str] = {}

    def __getitem__(self, grid):
        def launch(*arguments, **options):
            built = self.kernel.warmup(*arguments, grid=grid, **options)
            assert len(built.asm["cubin"]) > 1000
            self.built[id(built)] = built.asm["ptx"]
            arguments[self.kernel.arg_names.index(self.fills)].fill_(1)

        return launch


def check_compilation() -> None:
    """Run by `test_kernels_compile_to_int8_tensor_core_instructions`."""
    from triton.runtime import driver

    driver.set_active(Hopper())
    from fastsnn_deploy.simulators.gpu import triton_source

    neuron, conv = CompiledOnly(triton_source.advance_neurons), CompiledOnly(triton_source.advance_conv)
    count, pool = CompiledOnly(triton_source.count_sent, "per_image"), CompiledOnly(triton_source.pool_spikes)
    source = SimpleNamespace(
        single=triton_source.single, general=triton_source.general, advance_neurons=neuron, advance_conv=conv,
        count_sent=count, pool_spikes=pool,
    )  # fmt: skip
    engine.load_kernels = lambda device: kernels.Kernels(source)
    counts = []
    for images in (1, 16, 17):
        for neurons, ceiling in (("unary", 15), ("graded", 200)):
            graph = every_path(neurons, ceiling)
            GpuEngine(graph, device="cpu").run(graph.input.encode(random_images(graph, 1, images)), 6)
        counts.append(len(conv.built))
    assert counts[0] >= 6, counts
    assert counts[-1] <= counts[0] + 6, f"compiled anew for every number of images: {counts}"
    assert len(neuron.built) >= 2
    assert len(count.built) >= 2
    assert pool.built
    instruction = re.compile(r"wgmma\.mma_async\.sync\.aligned\.m64n\d+k32\.s32\.s8\.s8")
    assert all(instruction.search(text) for text in conv.built.values())
    print("compiled")
