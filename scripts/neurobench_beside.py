"""NeuroBench's metrics of a spiking network, by this program and by the package neurobench, on the same network.

    uv run --with neurobench==2.3.0 python scripts/neurobench_beside.py --record docs/records/neurobench.json

The network is one that both can express: convolutions and a linear layer without bias, neurons that send one spike a
step and keep what is over, no neuron that a ceiling holds back. Exit code 1 if a metric differs.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import snntorch
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from fastsnn_deploy.analysis.profile import profile
from fastsnn_deploy.graph import Conv2d, Encoded, Flatten, Input, Linear, Population, Readout, Schedule, SpikingGraph
from fastsnn_deploy.graph.neurons import spike_bounds

STEPS = 60
"""More than any image needs."""


def network(seed: int) -> SpikingGraph:
    """Two convolutions, the second with a stride, and a linear layer."""
    rng = np.random.default_rng(seed)

    def weights(*shape: int) -> np.ndarray:
        return rng.integers(-3, 5, shape).astype(np.int8)

    def population(name: str, source: str, shape: tuple[int, ...], most: int) -> Population:
        channels = shape[0]
        low, high = spike_bounds("unsigned", 0, 10_000)
        return Population(
            name=name, inputs=(source,), shape=shape, threshold=rng.integers(most // 2, most, channels), scale=1.0,
            bias=np.zeros(channels), initial=np.zeros(channels), input_scale=np.ones(channels), ceiling=10_000, floor=0,
            min_spike=low, max_spike=high,
        )  # fmt: skip

    nodes = (
        Input(name="image", shape=(1, 8, 8), step=1.0, low=0, high=3, offset=np.zeros(1), scale=1.0),
        Conv2d(
            name="conv1", inputs=("image",), shape=(4, 8, 8), weight=weights(4, 1, 3, 3), exponent=np.zeros(4),
            padding=(1, 1),
        ),
        population("first", "conv1", (4, 8, 8), 9),
        Conv2d(
            name="conv2", inputs=("first",), shape=(6, 4, 4), weight=weights(6, 4, 3, 3), exponent=np.zeros(6),
            padding=(1, 1), stride=(2, 2),
        ),
        population("second", "conv2", (6, 4, 4), 40),
        Flatten(name="flat", inputs=("second",), shape=(96,)),
        Linear(name="linear", inputs=("flat",), shape=(5,), weight=weights(5, 96), exponent=np.zeros(5)),
        Readout(name="answer", inputs=("linear",), shape=(5,), bias=np.zeros(5), scale=np.ones(5)),
    )  # fmt: skip
    return SpikingGraph(nodes=nodes, outputs=("answer",), schedule=Schedule())


class Leaky(snntorch.Leaky):  # type: ignore[misc]
    """A neuron that forgets nothing, with the buffers that ours has; NeuroBench knows it by this name."""

    def __init__(self, node: Population) -> None:
        nn.Module.__init__(self)
        self.init_hidden, self.output, self._reset_mechanism = True, False, "subtract"
        for name, values in (("threshold", node.threshold), ("bias", node.bias), ("mem", np.zeros(node.size))):
            self.register_buffer(name, torch.tensor(values, dtype=torch.int32))
        self.shape = (len(node.threshold), *(1,) * (len(node.shape) - 1))

    def forward(self, arriving: Tensor) -> Tensor:
        """One step."""
        threshold = self.threshold.reshape(self.shape)
        potential = (self.mem if self.mem.dim() > 1 else 0) + arriving
        spikes = (potential >= threshold).to(arriving.dtype)
        self.mem = (potential - spikes * threshold).to(torch.int32)
        return spikes


class Conv(nn.Conv2d):
    """Weights of one byte."""

    def __init__(self, node: Conv2d, inputs: int) -> None:
        super().__init__(inputs, node.channels, node.kernel, node.stride, node.padding, bias=False)
        self.weight = nn.Parameter(torch.tensor(np.array(node.weight)), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Exact in float32."""
        return F.conv2d(x, self.weight.float(), None, self.stride, self.padding)


class Dense(nn.Linear):
    """Weights of one byte."""

    def __init__(self, node: Linear) -> None:
        super().__init__(node.weight.shape[1], node.channels, bias=False)
        self.weight = nn.Parameter(torch.tensor(np.array(node.weight)), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Exact in float32."""
        return F.linear(x, self.weight.float())


class Torch(nn.Module):
    """The same network in PyTorch: an image enters in the first step."""

    def __init__(self, graph: SpikingGraph) -> None:
        super().__init__()
        self.conv1, self.first = Conv(graph["conv1"], 1), Leaky(graph["first"])
        self.conv2, self.second = Conv(graph["conv2"], 4), Leaky(graph["second"])
        self.linear = Dense(graph["linear"])
        for name in ("bias", "answer"):
            self.register_buffer(name, torch.zeros(5, dtype=torch.int32))
        self.sizes = {name: graph[name].size for name in ("first", "second")}

    def reset(self) -> None:
        """Before the first step of a batch."""
        for name, size in self.sizes.items():
            getattr(self, name).mem = torch.zeros(size, dtype=torch.int32)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """One step."""
        return self.linear(self.second(self.conv2(self.first(self.conv1(x)))).flatten(1)), None


def theirs(graph: SpikingGraph, images: np.ndarray) -> dict[str, Any]:
    """The package's metrics, by its own names."""
    from neurobench.benchmarks import Benchmark
    from neurobench.metrics.static import ConnectionSparsity, Footprint
    from neurobench.metrics.workload import (
        ActivationSparsity,
        ActivationSparsityByLayer,
        MembraneUpdates,
        NeuronOperations,
        SynapticOperations,
    )
    from neurobench.models import SNNTorchModel

    steps = torch.zeros((len(images), STEPS, *images.shape[1:]))
    steps[:, 0] = torch.from_numpy(images).float()
    data = DataLoader(TensorDataset(steps, torch.zeros(len(images))), batch_size=len(images))
    workload = [ActivationSparsity, ActivationSparsityByLayer, SynapticOperations, MembraneUpdates, NeuronOperations]
    benchmark = Benchmark(SNNTorchModel(Torch(graph)), data, [], [], [[Footprint, ConnectionSparsity], workload])
    return dict(benchmark.run(quiet=True))


def flat(metrics: dict[str, Any]) -> dict[str, float]:
    """One number a name."""
    found: dict[str, float] = {}
    for key, value in metrics.items():
        found |= {f"{key}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {key: value}
    return found


def main() -> None:
    """Compare, print, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for seed in range(options.seeds):
        graph = network(seed)
        images = np.random.default_rng(seed).integers(0, 4, (2, 1, 8, 8))
        ours = profile(graph, Encoded(images), "loihi2", steps=STEPS)
        assert ours.counts.total("undelivered_operations") == 0
        mine, package = flat(ours.neurobench.to_dict()), flat(theirs(graph, images))
        for key in sorted({*mine, *package}):
            same = key in mine and key in package and math.isclose(mine[key], package[key], rel_tol=1e-12)
            rows.append(
                {"seed": seed, "metric": key, "here": mine.get(key), "package": package.get(key), "equal": same}
            )
    for row in rows:
        print(f"{row['seed']}  {row['metric']:<40} {row['here']!s:>22} {row['package']!s:>22} {row['equal']}")
    if options.record is not None:
        versions = {name: version(name) for name in ("neurobench", "snntorch", "torch")}
        record = {"date": date.today().isoformat(), "versions": versions, "steps": STEPS, "rows": rows}
        options.record.write_text(json.dumps(record, indent=1) + "\n")
    sys.exit(0 if all(row["equal"] for row in rows) else 1)


if __name__ == "__main__":
    main()
