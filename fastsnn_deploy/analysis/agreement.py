"""Whether the integer network counts what the quantised model counts: layer by layer, on images.

Integers stand for real numbers, so that a few counts next to a rounding edge fall to the other side. More than a few
are a fault of the conversion, or a loss that was allowed.
"""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx
from torch.nn import functional as F

from fastsnn_deploy.graph import Encoded, Input, Population, SpikingGraph
from fastsnn_deploy.graph.arithmetic import per_channel
from fastsnn_deploy.graph.integer_network import logits
from fastsnn_deploy.graph.summary import totals
from fastsnn_deploy.quantisation.capture import canonicalise
from fastsnn_deploy.quantisation.layers import QuantActivation
from fastsnn_deploy.quantisation.structure import module_at
from fastsnn_deploy.simulators.integer import layer_values

MOST_DIFFERING = 0.02
"""Share of its own counts that may differ in a layer before it is named. Trained networks stay below 0.003."""

OPERATIONS = 2e9
"""Multiply-accumulates that the comparison may cost: fewer images of large networks."""

MOST_IMAGES = 8


class RoundingWarning(UserWarning):
    """Counts of a converted network differ from the quantised model's more than rounding explains."""


@dataclass(frozen=True)
class Agreement:
    """Counts of the integer network against those of the quantised model.

    Attributes:
        images: How many were compared.
        calibration: How many of them the model was calibrated on; the others are generated.
        share: Of all counts, from the image on, how many differ: 0 to 1.
        layers: By layer, the share that differs where both read the same counts, so that no layer answers for those
            before it.
        answer: Largest difference of an answer where both read the same counts, against the largest answer: 0 to 1.
    """

    images: int
    calibration: int
    share: float
    layers: Mapping[str, float]
    answer: float

    def __str__(self) -> str:
        seen = f"{self.images} images ({self.calibration} of the calibration)" if self.calibration else (
            f"{self.images} generated images"
        )  # fmt: skip
        line = f"{_percent(self.share)} of counts differ from the quantised model's on {seen}"
        worst = max(self.layers, key=lambda name: self.layers[name], default="")
        most = f"; most where '{worst}' rounds, {_percent(self.layers[worst])}" if worst else ""
        return f"{line}{most}; answers by up to {_percent(self.answer)}"


def with_agreement(graph: SpikingGraph, model: Any, names: Mapping[str, str]) -> SpikingGraph:
    """The same graph, whose metadata says how far it agrees with its model; arguments as in `agreement`.

    Warns (RoundingWarning) of every layer in which more than MOST_DIFFERING of the counts differ.
    """
    found = agreement(model, graph, names)
    if found.answer > MOST_DIFFERING:
        text = f"answers differ from the quantised model's by up to {_percent(found.answer)} of the largest"
        warnings.warn(f"{text}: {cause(graph, graph.outputs[0])}", RoundingWarning, stacklevel=3)
    for name, share in found.layers.items():
        if share > MOST_DIFFERING:
            warnings.warn(
                f"layer '{name}': {_percent(share)} of its counts are not the quantised model's: {cause(graph, name)}",
                RoundingWarning,
                stacklevel=3,
            )
    return dataclasses.replace(graph, metadata={**graph.metadata, "agreement": str(found)})


def agreement(model: Any, graph: SpikingGraph, names: Mapping[str, str]) -> Agreement:
    """Compare the counts of a quantised model with those of the graph that was made from it.

    Args:
        model: Quantised, in evaluation mode.
        graph: Of the same model.
        names: What a population is called in the graph, by the name of its activation's call in the model.

    Returns:
        Shares of differing counts on images of the calibration, where the model knows any, and on generated ones.
    """
    module = canonicalise(model)
    known = getattr(model, "meta", {}).get("examples")
    count = int(np.clip(OPERATIONS // max(1, totals(graph)["synapses"]), 1, MOST_IMAGES))
    known = None if known is None else known[: (count + 1) // 2]
    generated = _generated(graph.input, count - (0 if known is None else len(known)))
    emitted = generated if known is None else np.concatenate([np.asarray(graph.encode(known)), generated])
    values = layer_values(graph, Encoded(emitted), [*names.values(), graph.outputs[0]])
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    wanted = {call: torch.from_numpy(values[name]) for call, name in names.items()}
    with torch.no_grad():
        offset = per_channel(graph.input.offset, len(graph.input.shape))
        image = torch.from_numpy((emitted + offset) * graph.input.step).float().to(device)
        alone, chained = _Compared(module, wanted, True), _Compared(module, wanted, False)
        answer = alone.run(image).cpu().numpy().astype(np.float64)
        chained.run(image)
    compared = sum(values.numel() for values in wanted.values())
    differing = sum(chained.differing.values())
    layers = {names[call]: n / wanted[call].numel() for call, n in alone.differing.items() if n}
    error = np.abs(logits(graph, values).reshape(answer.shape) - answer).max() / max(float(np.abs(answer).max()), 1e-30)
    return Agreement(len(emitted), len(emitted) - len(generated), differing / max(1, compared), layers, float(error))


class _Compared(fx.Interpreter):
    """Runs a quantised model and counts, by activation, how many of its counts are not the wanted ones."""

    def __init__(self, module: fx.GraphModule, wanted: Mapping[str, Tensor], replace: bool) -> None:
        super().__init__(module)
        self.quantised, self.wanted, self.replace = module, wanted, replace
        self.differing: dict[str, int] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        activation = module_at(self.quantised, n)
        if not isinstance(activation, QuantActivation) or n.name not in self.wanted:
            return result
        step, wanted = activation.step_in_use(), self.wanted[n.name].to(result.device)
        self.differing[n.name] = int(((result / step).round() != wanted.view(result.shape)).sum())
        return (wanted.view(result.shape) * step).to(result) if self.replace else result


def _generated(source: Input, images: int) -> npt.NDArray[np.int64]:
    """Smooth pictures and noise over the whole range of the input: what it emits, int64 [images, *shape]."""
    generator = torch.Generator().manual_seed(0)
    made = torch.rand(images, *source.shape, generator=generator, dtype=torch.float64)
    if made.dim() == 4 and images:
        smooth = F.interpolate(F.adaptive_avg_pool2d(made[::2], 4), made.shape[2:], mode="bilinear")
        made[::2] = ((smooth - 0.5) * 4 + 0.5).clamp(0, 1)
    levels = (source.low + made * (source.high - source.low)).round().to(torch.int64).numpy()
    return np.asarray(levels - per_channel(source.offset, len(source.shape)))


def cause(graph: SpikingGraph, name: str) -> str:
    """Why a layer rounds otherwise than its quantised model."""
    node, losses = graph[name], json.loads(graph.metadata.get("losses", "{}"))
    modules = {graph[each].module for each in node.inputs}
    lost: list[str] = [what for module, what in losses.items() if module in modules]
    if lost:
        return lost[0]
    if isinstance(node, Population) and int(node.threshold.max()) == 1:  # a sum of whole numbers rounds nothing
        return "exact ties, which the model's floating point decides either way"
    if isinstance(node, Population):
        return f"a threshold of {int(node.threshold.min())} stands for its step"
    return "its sum has too few bits for the scales that meet in it"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
