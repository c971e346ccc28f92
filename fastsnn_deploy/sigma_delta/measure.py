"""How far a sigma-delta network is from the real-valued and from the integer quantised network, image by image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.sigma_delta.convert import STATE_ONE, SigmaDeltaNetwork
from fastsnn_deploy.simulate import evaluate
from fastsnn_deploy.stock import run

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LayerError:
    """Errors of one layer's activation in counts (readout: charge), over all images and neurons.

    largest, mean: against the real-valued ReLU network. bound: what `largest` cannot exceed on the calibration images.
    quantised_largest, quantised_mean: against the integers of the quantised network, whose rounding and ceiling the
    sigma-delta network does not have.
    """

    name: str
    largest: float
    mean: float
    bound: float
    quantised_largest: float
    quantised_mean: float


@dataclass(frozen=True)
class Comparison:
    """layers: one for each stage. Predictions are the arg max of the logits.

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
    activations = activations_of(converted, emitted)
    quantised = evaluate(graph, emitted)
    real = emitted.astype(np.float64)
    layers = []
    for stage, bound, value in zip(converted.stages, converted.bounds, activations, strict=True):
        real = stage.real(real)
        error, other = np.abs(value - real), np.abs(value - quantised[stage.node.name])
        worst = float(bound.activation.max())
        layers.append(LayerError(stage.node.name, _max(error), _mean(error), worst, _max(other), _mean(other)))
    last = converted.stages[-1].node
    predictions = (activations[-1] * last.scale).argmax(1)
    expected = (quantised[last.name] * last.scale).argmax(1)
    accuracies = (None, None) if labels is None else (_mean(predictions == labels), _mean(expected == labels))
    return Comparison(tuple(layers), len(emitted), int((predictions != expected).sum()), *accuracies)


def activations_of(converted: SigmaDeltaNetwork, emitted: Int64) -> list[Float64]:
    """Settled activation of each stage, float64 [N, *shape], in counts; charge with its bias for the readout."""
    result = run(converted.network, converted.frames(emitted), converted.steps)
    values = []
    for index, layer, stage in zip(converted.layers, converted.stages, converted.exponents[1:], strict=True):
        sigma = result.potentials[index]
        assert sigma is not None
        bias = getattr(converted.network.layers[index], "bias", None)
        state = sigma[-1].astype(np.float64) / STATE_ONE
        if layer.is_readout:
            values.append(converted.readout(sigma[-1]))
            continue
        state = state + (0 if bias is None else bias.reshape(-1, *(1,) * (state.ndim - 2)))
        values.append(np.maximum(state, 0) / 2.0**stage)
    return values


def _max(values: npt.NDArray[np.floating]) -> float:
    return float(values.max(initial=0.0))


def _mean(values: npt.NDArray[np.floating | np.bool_]) -> float:
    return float(np.mean(values)) if values.size else 0.0
