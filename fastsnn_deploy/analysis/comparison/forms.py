"""The forms of one network that are compared, checked before anything runs."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx, nn

from fastsnn_deploy.analysis.comparison.file import differences
from fastsnn_deploy.analysis.comparison.places import Place, places
from fastsnn_deploy.analysis.comparison.reference import Reference, given_reference, own_reference
from fastsnn_deploy.analysis.kinds import kind_of
from fastsnn_deploy.conversion.convert import converted
from fastsnn_deploy.errors import InputError, Problem
from fastsnn_deploy.formats import as_network
from fastsnn_deploy.formats.base import Network
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.graph.arithmetic import per_channel
from fastsnn_deploy.graph.images import images_and_labels, labels_of, sliceable
from fastsnn_deploy.passes.spike_bounds import with_neurons
from fastsnn_deploy.passes.window import for_window
from fastsnn_deploy.quantisation.capture import canonicalise
from fastsnn_deploy.quantisation.checkpoint import Checkpoint
from fastsnn_deploy.quantisation.given import as_checkpoint

FEW_STEPS = 15
"""Up to this window neurons are unary unless the user says otherwise; beyond, a unary network takes long."""


@dataclass(frozen=True)
class Forms:
    """checkpoint, model: the quantised model; `model` is a copy that may be run. truth: the spiking graph made from
    it, whose populations are called `names` by their activations' calls. deployed: the network of the file, `truth`
    without one. file: its name, "" without one. differences: where the two differ. reference: the float network.
    places: the layers."""

    checkpoint: Checkpoint
    model: fx.GraphModule
    truth: SpikingGraph
    names: Mapping[str, str]
    deployed: Network
    file: str
    differences: tuple[Problem, ...]
    reference: Reference
    places: tuple[Place, ...]

    @property
    def integer(self) -> SpikingGraph:
        """The graph whose integers are shown: the file's, where its counts mean the same as the model's."""
        graph = self.deployed
        return graph if isinstance(graph, SpikingGraph) and graph.schedule.gain == 1 else self.truth

    @property
    def classifies(self) -> bool:
        """Whether an answer is one number a class."""
        return len(self.truth[self.truth.outputs[0]].shape) == 1


@dataclass(frozen=True)
class Shown:
    """Images that all forms see. levels: int64 [N, *shape], on the grid of the input; labels: int64 [N] or None."""

    emitted: npt.NDArray[np.int64]
    levels: npt.NDArray[np.int64]
    step: float
    labels: npt.NDArray[np.int64] | None

    def raw(self, index: Any) -> Tensor:
        """Chosen images in units of the data, float32."""
        return torch.from_numpy(self.levels[index] * self.step).float()

    def __len__(self) -> int:
        return len(self.levels)


def forms_of(
    model: Any, net: Any, float_model: nn.Module | None, mean: Sequence[float] | None, std: Sequence[float] | None,
    input_shape: Sequence[int] | None, neurons: str | None, allow_loss: bool, options: Mapping[str, Any],
) -> Forms:  # fmt: skip
    """All forms of a network; arguments as of `compare`. Raises InputError or LoweringError."""
    checkpoint = as_checkpoint(model, input_shape)
    graph, names = converted(checkpoint, neurons="unary" if neurons is None else neurons, allow_loss=allow_loss)
    if neurons is None and graph.schedule.window > FEW_STEPS:
        graph = with_neurons(graph, "graded")
    module = copy.deepcopy(canonicalise(checkpoint.model)).eval()
    deployed, file = graph if net is None else as_network(net), ""
    if net is not None:
        file = os.path.basename(net) if isinstance(net, (str, Path)) else "the network"
        _require_same_task(graph, deployed, file)
    reference = own_reference(module, checkpoint.metadata)
    if float_model is not None:
        reference = given_reference(module, checkpoint, float_model, mean, std, options)
    return Forms(
        checkpoint=checkpoint,
        model=module,
        truth=graph,
        names=names,
        deployed=deployed,
        file=file,
        differences=_differences(checkpoint, graph, deployed, allow_loss) if net is not None else (),
        reference=reference,
        places=places(module, names, graph.outputs[0]),
    )


def shown(forms: Forms, images: Any, labels: Any) -> Shown:
    """Raw images, or those of a data set with their labels, as the network takes them. Raises InputError."""
    source = forms.truth.input
    images, own = images_and_labels(forms.truth, images)
    labels = own if labels is None and forms.classifies else labels
    emitted = np.asarray(source.encode(sliceable(images, len(source.shape))[:]))
    if not len(emitted):
        raise InputError("there is no image. Give one at least, better 500")
    known = None if labels is None else labels_of(labels, len(emitted), "the network")
    if known is not None and not forms.classifies:
        raise InputError("the network answers with a map, and labels are one class an image. Leave them out")
    classes = forms.truth[forms.truth.outputs[0]].shape[0]
    if known is not None and (known.min() < 0 or known.max() >= classes):
        raise InputError(
            f"labels reach from {known.min()} to {known.max()}, but the network has {classes} classes. Use the data "
            "set that it was trained on"
        )
    return Shown(emitted, emitted + per_channel(source.offset, len(source.shape)), source.step, known)


def _require_same_task(ours: SpikingGraph, theirs: Network, file: str) -> None:
    """Raise InputError where a file's network takes other images, or answers with another shape."""
    problems = []
    if tuple(theirs.input.shape) != ours.input.shape:
        problems.append(
            Problem("images", f"{list(theirs.input.shape)} in the file, {list(ours.input.shape)} in the model")
        )
    if theirs.input.step != ours.input.step:
        problems.append(
            Problem("step of the input", f"{theirs.input.step} in the file, {ours.input.step} in the model")
        )
    answers, own = (list(kind_of(each).outputs(each).values()) for each in (theirs, ours))
    if [list(shape) for shape in answers] != [list(shape) for shape in own]:
        problems.append(Problem("answers", f"{_listed(answers)} in the file, {_listed(own)} in the model"))
    if problems:
        raise InputError(f"{file} is another network than the model, and cannot be compared with it", problems)


def _listed(shapes: Sequence[Sequence[int]]) -> str:
    return ", ".join(str(list(shape)) for shape in shapes)


def _differences(
    checkpoint: Checkpoint, graph: SpikingGraph, deployed: Network, allow_loss: bool
) -> tuple[Problem, ...]:
    """What differs, once a schedule with another window is put into ours; nothing is known of stock neurons."""
    if not isinstance(deployed, SpikingGraph):
        return ()
    steps = deployed.schedule.steps
    if steps is not None:
        graph = for_window(converted(checkpoint, allow_loss=allow_loss, steps=steps)[0], steps)
    return differences(graph, deployed)
