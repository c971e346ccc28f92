"""A spiking graph as stages: the chain of `population`, with the weights of every stage merged into one layer.

The chain knows nothing of codes; here each of its values is one channel, and a relay is the weight 1. Counts are
never negative, so the ReLU of a relay passes them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.errors import LoweringError, Problem
from fastsnn_deploy.graph import Conv2d, Linear, MaxPool2d, Node, Population, Readout, SpikingGraph, Synapse
from fastsnn_deploy.lava_dl.limits import MAX_WEIGHTS
from fastsnn_deploy.passes.chain import Chain, Part, Stage, Weighted
from fastsnn_deploy.passes.linearise import chain as linearised
from fastsnn_deploy.passes.routes import Routes
from fastsnn_deploy.targets.sigma_delta.stages import Float64, RealStage

Int64 = npt.NDArray[np.int64]


def stages_of(graph: SpikingGraph) -> tuple[RealStage, ...]:
    """The chain of stages from the input to the readout, without nodes that the readout does not depend on.

    Raises LoweringError with every node that does not fit, GraphError where the graph has no chain.
    """
    problems = [problem for node in graph.nodes for problem in _problems(node)]
    if len(graph.outputs) != 1 or not isinstance(graph[graph.outputs[0]], Readout):
        problems.append(Problem("graph", f"has the outputs {list(graph.outputs)}, must have one readout"))
    _require(problems)
    links = linearised(graph)
    _require([*_relayed_input(links), *(problem for stage in links.stages for problem in _too_large(stage))])
    return tuple(_stage(links, stage) for stage in links.stages)


def _require(problems: list[Problem]) -> None:
    if problems:
        raise LoweringError("the graph has no sigma-delta form", problems)


def _problems(node: Node) -> list[Problem]:
    at = f"{type(node).__name__} '{node.name}'" + (f" (module {node.module})" if node.module else "")
    if isinstance(node, Population) and node.floor < 0:
        return [Problem(at, f"has counts down to {node.floor}; the sigma-delta neuron has a ReLU")]
    if isinstance(node, MaxPool2d):
        what = "has no sigma-delta form in stock NetX, whose neurons add and cannot take a maximum"
        return [Problem(at, what, "Train with average pooling or strided convolutions in its place")]
    return []


def _relayed_input(links: Chain) -> list[Problem]:
    """An image with negative values cannot pass the ReLU of a relay."""
    image = links.graph.input
    relayed = any(part.source == image.name for stage in links.stages for part in stage.after.parts)
    if not relayed or (image.low - image.offset).min() >= 0:
        return []
    what = "has values below 0 and is read by more than the first layer, so it would have to pass a ReLU on the way"
    return [Problem(f"Input '{image.name}'", what, "Put a convolution with an activation first")]


def _too_large(stage: Stage) -> list[Problem]:
    shape = _weight_shape(stage)
    if np.prod(shape, dtype=np.float64) <= MAX_WEIGHTS:
        return []
    names = ", ".join(f"'{part.source}'" for part in stage.computed)
    what = f"needs a layer with {' x '.join(map(str, shape))} weights, more than {MAX_WEIGHTS}"
    return [Problem(names, what, "Use fewer channels, or shortcuts that cross fewer layers")]


def _weight_shape(stage: Stage) -> tuple[int, ...]:
    kernel = stage.window.kernel if stage.stride else (stage.before.positions,)
    return (stage.after.channels, stage.before.channels, *kernel)


def _stage(chain: Chain, stage: Stage) -> RealStage:
    bias, scale = np.zeros(stage.after.channels), np.ones(stage.after.channels)
    for part in stage.computed:
        rows = stage.after.rows[part]
        bias[rows], scale[rows] = _affine(chain, stage, part)
    units, alone = chain.units(stage), _alone(chain, stage)
    if alone is None:
        return RealStage(stage, units, _weight(stage, scale), bias, stage.window.padding)
    weight = alone.effective_weight / scale.reshape(-1, *(1,) * (alone.weight.ndim - 1))
    if isinstance(alone, Linear):
        return RealStage(stage, units, weight, bias)
    return RealStage(stage, units, weight, bias, alone.padding, alone.dilation, alone.groups)


def _affine(chain: Chain, stage: Stage, part: Part) -> tuple[Float64, Float64]:
    """Bias in counts, and the synaptic input of one count (1 for a readout), for each row of a computed part."""
    node = chain.graph[part.source]
    assert isinstance(node, (Population, Readout))
    threshold, bias = np.ones(node.channels), node.bias.astype(np.float64)
    if isinstance(node, Population):
        threshold = node.threshold.astype(np.float64)
        # initial = threshold // 2 only rounds; what it holds beyond that is a bias
        bias += node.initial - node.threshold // 2
    channel = chain.rows(part, stage.after.size)
    return (bias / threshold)[channel], threshold[channel]


def _alone(chain: Chain, stage: Stage) -> Conv2d | Linear | None:
    """The synapse that by itself is the whole layer, with its groups and dilation; None where weights are merged."""
    before, after = stage.before.parts, stage.after.parts
    if len(before) != 1 or len(after) != 1 or before[0].stride != (1, 1) or after[0].stride != (1, 1):
        return None
    routes, source, unit = Routes(chain.graph), chain.graph[before[0].source], chain.graph[after[0].source]
    reader, *others = routes.readers(unit)
    if others or not isinstance(reader, Synapse) or routes.pieces(reader.inputs[0]) != (source.name,):
        return None
    if stage.before.size is not None and source.shape != stage.before.shape:
        return None
    synapse = reader.as_primitive()
    kind = Linear if stage.stride is None else Conv2d
    return synapse if isinstance(synapse, kind) and synapse.shape == unit.shape else None


def _weight(stage: Stage, scale: Float64) -> Float64:
    """All links of a stage in one array, float64 [O, I, kh, kw] or [O, I * positions]. scale: of each row."""
    weight = np.zeros(_weight_shape(stage))
    inputs, outputs, padding = stage.before.rows, stage.after.rows, stage.window.padding
    for target in stage.targets:
        rows = outputs[target.part]
        for link in target.links:
            tap = () if link.tap is None else (link.tap[0] + padding[0], link.tap[1] + padding[1])
            if isinstance(link, Weighted):
                synaptic_input = link.weight / scale[rows].reshape(-1, *(1,) * (link.weight.ndim - 1))
                weight[(rows, inputs[link.part], *tap)] += synaptic_input
            else:
                position = tap if link.position is None else (link.position,)
                weight[(rows.start + link.target, inputs[link.part].start + link.channel, *position)] = 1.0
    return weight.reshape(len(weight), -1) if stage.stride is None else weight
