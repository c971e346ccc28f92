"""What can be done about a layer without training, each done to a copy of the model."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx

from fastsnn_deploy.analysis.comparison.places import Place
from fastsnn_deploy.quantisation.calibration import set_steps
from fastsnn_deploy.quantisation.layers import QUANT_WEIGHTED, QuantActivation, switch_quantisers
from fastsnn_deploy.quantisation.post_training.bias import correct_biases
from fastsnn_deploy.quantisation.post_training.equalise import equalise
from fastsnn_deploy.quantisation.post_training.thresholds import least_error

MOST_BITS = 8


@dataclass(frozen=True, eq=False)
class Cure:
    """A change that was made. kind: "step", "activation bits", "equalisation", "biases", "weight steps",
    "weight steps by channel" or "weight bits". words: what was done, as a request. paths: of the modules that are
    others in `model`. free: the network needs no more bits for it."""

    kind: str
    words: str
    model: fx.GraphModule
    paths: tuple[str, ...]
    free: bool = True


def cures(model: fx.GraphModule, place: Place, images: Tensor) -> Iterator[Cure]:
    """Every change to one layer that applies, those that cost no bits first; the model stays as it is.

    images: raw, from which steps and biases are set anew, float32 [N, ...].
    """
    if place.activation:
        yield _with_step(model, place, images)
        equalised = _equalised(model, place, images)
        if equalised is not None:
            yield equalised
    if place.weights:
        corrected = copy.deepcopy(model)
        correct_biases(corrected, images, place.weights)
        yield Cure("biases", "correct its biases", corrected, (*place.weights, *_norms(model, place)))
        yield from _with_weight_steps(model, place)
    if place.activation:
        for bits in _more(_at(model, place.activation).bits, _bits_of_activations(model)):
            yield _with_step(model, place, images, bits)
    if place.weights:
        for bits in _more(min(_at(model, path).weight_bits for path in place.weights), _bits_of_weights(model)):
            changed = copy.deepcopy(model)
            for path in place.weights:
                layer = _at(changed, path)
                if layer.weight_bits < bits <= layer._rule.highest_bits:
                    layer.set_weight_bits(bits)
            yield Cure("weight bits", f"give its weights {bits} bits", changed, place.weights, free=False)


def of_all_layers(model: fx.GraphModule, images: Tensor) -> Iterator[Cure]:
    """Changes to the network as a whole."""
    paths = tuple(
        name for name, module in model.named_modules() if isinstance(module, (*QUANT_WEIGHTED, QuantActivation))
    )
    changed = copy.deepcopy(model)
    set_steps(changed, images, least_error)
    yield Cure("step", "set the steps of all activations by squared error", changed, paths)
    changed = copy.deepcopy(model)
    correct_biases(changed, images)
    yield Cure("biases", "correct the biases of all layers", changed, paths)


def _with_step(model: fx.GraphModule, place: Place, images: Tensor, bits: int | None = None) -> Cure:
    """The step that fits its values best, and that of the activations which share it; also with more bits."""
    changed = copy.deepcopy(model)
    activation: QuantActivation = _at(changed, place.activation)
    before = float(activation.step_in_use())
    if bits is not None:
        for each in activation.sharers:
            each.set_levels(bits)
    set_steps(changed, images, least_error, activation.sharers)
    after = float(activation.step_in_use())
    shared = tuple(name for name, module in changed.named_modules() if module in activation.sharers)
    if bits is not None:
        return Cure("activation bits", f"give it {bits} bits", changed, shared, free=False)
    words = f"{'raise' if after > before else 'lower'} its step from {before:.3g} to {after:.3g}"
    return Cure("step", words, changed, shared)


def _equalised(model: fx.GraphModule, place: Place, images: Tensor) -> Cure | None:
    """Its channels brought to one range by what reads them; None where a factor cannot pass."""
    changed = copy.deepcopy(model)
    switch_quantisers(changed, on=False)
    done = equalise(changed, images, only=(place.activation,))
    switch_quantisers(changed, on=True)
    if not done:
        return None
    set_steps(changed, images, least_error, [_at(changed, place.activation)])
    others = tuple(
        name
        for name, module in changed.named_modules()
        if isinstance(module, QUANT_WEIGHTED) and not module.weight.equal(_at(model, name).weight)
    )
    return Cure("equalisation", "equalise its channels", changed, (place.activation, *others, *_norms(model, place)))


def _with_weight_steps(model: fx.GraphModule, place: Place) -> Iterator[Cure]:
    """Steps of weights that fit them best: as many as there are, and one for each channel."""
    changed = copy.deepcopy(model)
    for path in place.weights:
        _at(changed, path).reset_weight_step()
    yield Cure("weight steps", "set the steps of its weights by squared error", changed, place.weights)
    single = [path for path in place.weights if not _at(model, path).per_channel and _at(model, path)._rule.per_channel]
    if single:
        changed = copy.deepcopy(model)
        for path in single:
            layer = _at(changed, path)
            layer._setup_weight(layer.weight_bits, True, layer.quantiser)
        yield Cure("weight steps by channel", "give its weights a step for each channel", changed, tuple(single))


def _more(bits: int, usual: int) -> list[int]:
    """One bit more, and as many as is usual in the network."""
    return [more for more in sorted({bits + 1, usual}) if bits < more <= MOST_BITS]


def _bits_of_activations(model: fx.GraphModule) -> int:
    return statistics.median_low(m.bits for m in model.modules() if isinstance(m, QuantActivation))


def _bits_of_weights(model: fx.GraphModule) -> int:
    return statistics.median_low(m.weight_bits for m in model.modules() if isinstance(m, QUANT_WEIGHTED))


def _norms(model: fx.GraphModule, place: Place) -> tuple[str, ...]:
    """Paths of batch norms right behind its layers with weights: a correction goes there."""
    nodes = [node for node in model.graph.nodes if node.op == "call_module" and str(node.target) in place.weights]
    readers = {str(user.target) for node in nodes for user in node.users if user.op == "call_module"}
    return tuple(sorted(readers - {place.activation}))


def _at(model: fx.GraphModule, path: str) -> Any:
    return model.get_submodule(path)
