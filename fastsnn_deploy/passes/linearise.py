"""Which unit is computed in which stage, and what every boundary must hold."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from fastsnn_deploy.graph import Node, Readout, SpikingGraph
from fastsnn_deploy.passes import geometry
from fastsnn_deploy.passes.chain import Boundary, Chain, Pair, Part, Stage, Target
from fastsnn_deploy.passes.geometry import Step
from fastsnn_deploy.passes.links import GridReader, NoTapError, dense_target, map_target
from fastsnn_deploy.passes.routes import Routes, is_map


class _NoConvolutionError(Exception):
    """Stage `index` cannot be a convolution."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index


@dataclass
class _Plan:
    """units[t]: computed in stage t. steps[t]: its geometry, None if dense. own[t]: strides of sources before it."""

    units: list[list[Node]] = field(default_factory=list)
    steps: list[Step | None] = field(default_factory=list)
    own: list[dict[str, Pair]] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)


def chain(graph: SpikingGraph, *, relay_input: bool = True) -> Chain:
    """The graph as a chain of stages: convolutions as long as possible, then dense stages.

    A unit is computed as early as the stages before allow; vectors follow all feature maps; all readouts share the
    last stage. relay_input: the input may be carried through stages like any other source; otherwise a first
    stage that only copies it (for a target that must code it) is put in front where a later stage or a pool
    reads it. Units that no output depends on are left out. Raises GraphError if something has no chain.
    """
    routes = Routes(graph)
    plan = _attempt(routes, copy_input=False)
    if not relay_input and reads_input_late(routes, plan.units):
        plan = _attempt(routes, copy_input=True)
    return Chain(graph, tuple(plan.stages))


def reads_input_late(routes: Routes, units: list[list[Node]]) -> bool:
    """Whether a pool, or any stage after the first, reads the input itself."""
    name = routes.graph.input.name
    late = any(name in routes.sources(unit) for stage in units[1:] for unit in stage)
    return late or any(name in routes.sources(unit) and not unit_is_linear(unit) for unit in units[0])


def unit_is_linear(unit: Node) -> bool:
    """Whether a unit reads synaptic input, not spikes."""
    return unit.reads == "synaptic input"


def _attempt(routes: Routes, *, copy_input: bool) -> _Plan:
    dense_from = len(routes.units) + 2
    while True:
        plan = _forward(routes, dense_from, copy_input=copy_input)
        try:
            plan.stages = _stages(routes, plan)
        except _NoConvolutionError as error:
            dense_from = error.index
        else:
            return plan


def _forward(routes: Routes, dense_from: int, *, copy_input: bool) -> _Plan:
    """Choose the units of every stage, convolutions before stage `dense_from` where one fits."""
    graph = routes.graph
    strides: dict[str, Pair] = {graph.input.name: (1, 1)}
    waiting, plan = list(routes.units), _Plan()
    dense = not is_map(graph.input)
    if copy_input:
        dense = dense or dense_from < 1
        step = None if dense else Step((1, 1), geometry.map_size(graph, graph.input.name))
        _append(plan, [], step, strides)
    while waiting:
        ready = _ready(routes, waiting, strides)
        dense = dense or len(plan.units) >= dense_from
        found = None if dense or not all(map(is_map, ready)) else geometry.group(routes, ready, strides)
        if found is None or (isinstance(ready[0], Readout) and len(found[0]) < len(ready)):
            dense = True
            _append(plan, ready, None, strides)
            strides = dict.fromkeys((*strides, *(unit.name for unit in ready)), (1, 1))
        else:
            units, step, own = found
            _append(plan, units, step, strides)
            strides = {name: (s[0] * step.stride[0], s[1] * step.stride[1]) for name, s in strides.items()} | own
        done = {unit.name for unit in plan.units[-1]}
        waiting = [unit for unit in waiting if unit.name not in done]
    plan.own.append(strides)
    return plan


def _append(plan: _Plan, units: list[Node], step: Step | None, strides: dict[str, Pair]) -> None:
    plan.units.append(units)
    plan.steps.append(step)
    plan.own.append(strides)


def _ready(routes: Routes, waiting: list[Node], known: dict[str, Pair]) -> list[Node]:
    """Units whose sources are known, the longest way to an output first; vectors after maps, readouts last."""
    ready = [unit for unit in waiting if all(source in known for source in routes.sources(unit))]
    ready = [unit for unit in ready if not isinstance(unit, Readout)] or ready
    if any(is_map(unit) and not isinstance(unit, Readout) for unit in waiting):
        ready = [unit for unit in ready if is_map(unit)]
    return sorted(ready, key=lambda unit: -routes.heights[unit.name])


def _stages(routes: Routes, plan: _Plan) -> list[Stage]:
    """Targets and links of every stage, from the last back to the first, which read what the one before must hold.

    Raises _NoConvolutionError for a stage in which a relay or reader finds no tap.
    """
    stages: list[Stage] = []
    needed: dict[Part, None] = {}
    for index in reversed(range(len(plan.units))):
        parts = tuple(dict.fromkeys((*_computed(plan, index), *needed)))
        units = {unit.name: unit for unit in plan.units[index]}
        try:
            targets = tuple(_target(routes, plan, index, part, units.get(part.source)) for part in parts)
        except NoTapError:
            raise _NoConvolutionError(index) from None
        needed = dict.fromkeys(link.part for target in targets for link in target.links)
        if index == 0:
            needed = dict.fromkeys([_input_part(routes.graph)])
        step = plan.steps[index]
        after = Boundary(parts, step.size if step else None)
        before = Boundary((), None)  # known once the stage before is
        stages.insert(0, Stage(before, after, targets, step.stride if step else None))
    return _joined(stages, Boundary(tuple(needed), _size(routes, plan, 0)))


def _joined(stages: list[Stage], boundary: Boundary) -> list[Stage]:
    joined = []
    for stage in stages:
        joined.append(dataclasses.replace(stage, before=boundary))
        boundary = stage.after
    return joined


def _computed(plan: _Plan, index: int) -> list[Part]:
    """Parts of the units computed in a stage."""
    if plan.steps[index] is None:
        return [Part(unit.name, unit.size) for unit in plan.units[index]]
    own = plan.own[index + 1]
    return [
        Part(unit.name, unit.channels, offset, own[unit.name])
        for unit in plan.units[index]
        for offset in geometry.phases(own[unit.name])
    ]


def _input_part(graph: SpikingGraph) -> Part:
    return Part(graph.input.name, graph.input.channels)


def _size(routes: Routes, plan: _Plan, index: int) -> Pair | None:
    """Size of the grid before a stage, None if it is a vector."""
    if index:
        step = plan.steps[index - 1]
        return step.size if step else None
    image = routes.graph.input
    return geometry.map_size(routes.graph, image.name) if is_map(image) else None


def _target(routes: Routes, plan: _Plan, index: int, part: Part, unit: Node | None) -> Target:
    reader = GridReader(routes.graph, plan.own[index], _size(routes, plan, index), plan.steps[index])
    make = dense_target if plan.steps[index] is None else map_target
    return make(routes, reader, part, unit)
