"""How far a sigma-delta network is from the real-valued and from the integer quantised network, image by image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.graph import Population, Readout, SpikingGraph
from fastsnn_deploy.graph.integer_network import integer_values
from fastsnn_deploy.lava_dl import StockConv, StockDense, run
from fastsnn_deploy.passes.chain import Unit
from fastsnn_deploy.targets.sigma_delta.convert import STATE_ONE, SigmaDeltaNetwork

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

BATCH_VALUES = 2**26
"""Neurons x steps x images that are recorded at a time: 512 MiB of spikes and states."""


@dataclass(frozen=True)
class LayerError:
    """Errors of one unit's activation in counts (readout: synaptic input), over all images and neurons.

    name: of the population or readout; relays are not compared. largest, mean: against the real-valued ReLU network.
    bound: what `largest` cannot exceed on the calibration images. quantised_largest, quantised_mean: against the
    integers of the quantised network, whose rounding and ceiling the sigma-delta network does not have.
    """

    name: str
    largest: float
    mean: float
    bound: float
    quantised_largest: float
    quantised_mean: float


@dataclass(frozen=True)
class Comparison:
    """layers: one for each population and the readout. Predictions are the arg max of the logits.

    images: compared. different: predictions that differ from those of the quantised network. accuracy,
    quantised_accuracy: fraction of predictions that equal the labels, None without labels.
    """

    layers: tuple[LayerError, ...]
    images: int
    different: int
    accuracy: float | None
    quantised_accuracy: float | None

    def __str__(self) -> str:
        lines = [
            f"{layer.name}: error {layer.largest:.4g} (mean {layer.mean:.3g}), bound {layer.bound:.4g}; "
            f"against the quantised network {layer.quantised_largest:.4g} (mean {layer.quantised_mean:.3g})"
            for layer in self.layers
        ]
        lines.append(f"{self.different} of {self.images} predictions differ from the quantised network")
        if self.accuracy is not None:
            lines.append(f"accuracy {self.accuracy:.4f}, quantised network {self.quantised_accuracy:.4f}")
        return "\n".join(lines)


def compare(
    converted: SigmaDeltaNetwork, graph: SpikingGraph, emitted: Int64, labels: Int64 | None = None
) -> Comparison:
    """Run a batch through the sigma-delta network and compare every layer with `graph`, which it came from.

    emitted: int64 [N, *input shape], as for `convert`. labels: int64 [N].
    """
    errors: dict[str, tuple[_Errors, _Errors]] = {unit.node.name: (_Errors(), _Errors()) for unit in _units(converted)}
    answers: list[tuple[Int64, Int64]] = []
    for start in range(0, len(emitted), _batch(converted)):
        batch = emitted[start : start + _batch(converted)]
        found, quantised = activations_of(converted, batch), integer_values(graph, batch)
        real = batch.astype(np.float64)
        for stage, values in zip(converted.stages, found, strict=True):
            real = stage.real(real)
            for unit in stage.units:
                value = unit.read(values)
                errors[unit.node.name][0].add(value - unit.read(real))
                errors[unit.node.name][1].add(value - quantised[unit.node.name])
        last = converted.stages[-1].units[0]
        node = converted.stages[-1].node
        answers.append((_classes(node, last.read(found[-1])), _classes(node, quantised[node.name])))
    none = [np.zeros(0, dtype=np.int64)]
    predictions, expected = (np.concatenate([answer[i] for answer in answers] or none) for i in (0, 1))
    different = (predictions != expected).any(axis=tuple(range(1, predictions.ndim)))  # of a map: anywhere in it
    layers = tuple(
        LayerError(unit.node.name, *errors[unit.node.name][0].figures, worst, *errors[unit.node.name][1].figures)
        for unit, worst in zip(_units(converted), _worst(converted), strict=True)
    )
    accuracies = (None, None) if labels is None else (_mean(predictions == labels), _mean(expected == labels))
    return Comparison(layers, len(emitted), int(different.sum()), *accuracies)


def _units(converted: SigmaDeltaNetwork) -> list[Unit]:
    return [unit for stage in converted.stages for unit in stage.units]


def _worst(converted: SigmaDeltaNetwork) -> list[float]:
    """Bound of each unit."""
    both = zip(converted.stages, converted.bounds, strict=True)
    return [_largest(unit, bound.activation) for stage, bound in both for unit in stage.units]


def _largest(unit: Unit, rows: Float64) -> float:
    """The largest of some numbers, float64 [C] for the rows of the layer, over the unit's rows."""
    return max(float(rows[part].max(initial=0.0)) for part, _ in unit.parts)


@dataclass
class _Errors:
    """Largest, sum and number of absolute errors so far."""

    largest: float = 0.0
    total: float = 0.0
    count: int = 0

    def add(self, error: Float64) -> None:
        self.largest = max(self.largest, float(np.abs(error).max(initial=0.0)))
        self.total += float(np.abs(error).sum())
        self.count += error.size

    @property
    def figures(self) -> tuple[float, float]:
        """Largest and mean."""
        return self.largest, self.total / max(self.count, 1)


def _classes(node: Population | Readout, values: npt.NDArray[np.generic]) -> Int64:
    scale = np.atleast_1d(node.scale)
    return np.asarray((values * scale.reshape(-1, *(1,) * (len(node.shape) - 1))).argmax(1))


def _batch(converted: SigmaDeltaNetwork) -> int:
    """Images that are run at a time."""
    neurons = sum(int(np.prod(layer.shape)) for layer in converted.network.layers)
    return max(1, BATCH_VALUES // (neurons * converted.steps))


def activations_of(converted: SigmaDeltaNetwork, emitted: Int64) -> list[Float64]:
    """Settled activation of each stage, float64 [N, *shape], in counts; synaptic input with its bias for the
    readout."""
    result = run(converted.network, converted.frames(emitted), converted.steps)
    values = []
    for index, stage, exponent in zip(converted.layers, converted.stages, converted.exponents[1:], strict=True):
        sigma = result.potentials[index]
        assert sigma is not None
        if stage.is_readout:
            values.append(converted.readout(sigma[-1]))
            continue
        layer = converted.network.layers[index]
        assert isinstance(layer, (StockConv, StockDense))
        assert layer.bias is not None
        state = sigma[-1].astype(np.float64) / STATE_ONE + stage.along(layer.bias)
        values.append(np.maximum(state, 0) / 2.0**exponent)
    return values


def _mean(values: npt.NDArray[np.bool_]) -> float:
    return float(np.mean(values)) if values.size else 0.0
