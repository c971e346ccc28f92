"""The image of a network that is quantised: raw levels, and the quantiser that the network has for it."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn

from fastsnn_deploy.errors import Problem
from fastsnn_deploy.quantisation.graph_edit import insert_after
from fastsnn_deploy.quantisation.image_grid import ImageGrid, checked_grid, fold_affine
from fastsnn_deploy.quantisation.layers import BATCH_NORMS, QuantActivation, QuantInput
from fastsnn_deploy.quantisation.moves import Affine
from fastsnn_deploy.quantisation.structure import KEEPS_GRID, module_at

PIXELS = checked_grid((0.0,), (1.0,), 1 / 255, (0, 255))
"""What raw images are where nobody says otherwise and the network has no quantiser for them."""


def put_image(
    quantised: fx.GraphModule, shape: tuple[int, ...], grid: ImageGrid | None, problems: list[Problem]
) -> ImageGrid:
    """Put the raw image before the network, and return its grid; what cannot be is added to the problems.

    A normalisation becomes neurons of their own where the network rounds the image itself, and else, as in training,
    whole levels.
    """
    given = grid or PIXELS
    image = next(node for node in quantised.graph.nodes if node.op == "placeholder")
    if not _rounds_image(quantised, image):
        folded = fold_affine(quantised, given)
        if len(set(folded.std)) > 1 or min(folded.std) < 0:
            what = f"has images with different std ({', '.join(f'{std:g}' for std in folded.std)}), and no quantiser"
            problems.append(Problem("image", what, "Quantise the image in the network, or give one std for all"))
        else:
            folded.insert(quantised, shape)
        return given
    channels = shape[0]
    module = QuantInput(channels, given.step, *given.levels)
    node = insert_after(quantised, image, module, name="image")
    if (given.mean, given.std) != (PIXELS.mean, PIXELS.std):
        insert_after(quantised, node, _normalisation(given, channels), name="normalisation")
    return given


def _normalisation(grid: ImageGrid, channels: int) -> Affine:
    mean, std = (torch.tensor(values, dtype=torch.float64).expand(channels) for values in (grid.mean, grid.std))
    layer = Affine(channels)
    with torch.no_grad():
        layer.weight.copy_(1 / std)
        layer.bias.copy_(-mean / std)
    return layer


def _rounds_image(quantised: fx.GraphModule, image: fx.Node) -> bool:
    """True if whatever reads the image is a quantiser, looking through moves and constants."""
    waiting, found = [image], False
    while waiting:
        for user in waiting.pop().users:
            module = module_at(quantised, user)
            if isinstance(module, QuantActivation):
                found = True
            elif isinstance(module, (*KEEPS_GRID, *BATCH_NORMS, Affine)):
                waiting.append(user)
            else:
                return False
    return found


def with_own_grid(quantised: fx.GraphModule, own: bool) -> None:
    """Take the quantiser behind the image into the image's grid, if it is the only one and each of its integers is a
    level. own: raw images may be on whatever grid the network has."""
    node = next(each for each in quantised.graph.nodes if isinstance(module_at(quantised, each), QuantInput))
    layer, chain = module_at(quantised, node), _chain(quantised, node)
    assert isinstance(layer, QuantInput)
    if not chain:
        return
    *between, last = chain
    activation = module_at(quantised, last)
    assert isinstance(activation, QuantActivation)
    channels, step = len(layer.offset), float(activation.step_in_use())
    if own and not between:
        new = QuantInput(channels, step, activation.low, activation.high)
    else:
        offsets = _offsets(layer, module_at(quantised, between[0]) if between else None, activation)
        if offsets is None:
            return
        mean = [float(offset) * layer.step for offset in offsets]
        new = QuantInput(channels, layer.step, layer.low, layer.high, mean=mean, std=layer.step / step)
    quantised.add_submodule(str(node.target), new.train(layer.training))
    last.replace_all_uses_with(node)
    for each in reversed(chain):
        quantised.graph.erase_node(each)


def _chain(quantised: fx.GraphModule, node: fx.Node) -> list[fx.Node]:
    """The only quantiser that reads a node, behind a normalisation if there is one; [] if there are others."""
    found: list[fx.Node] = []
    while len(node.users) == 1:
        node = next(iter(node.users))
        module = module_at(quantised, node)
        found.append(node)
        if isinstance(module, QuantActivation):
            return found if len(found) <= 2 else []
        if not isinstance(module, Affine):
            break
    return []


def _offsets(layer: QuantInput, affine: nn.Module | None, activation: QuantActivation) -> Tensor | None:
    """The level of each channel that is 0 to the network, int64 [C]; None if its integers are not the levels."""
    levels = torch.arange(layer.low, layer.high + 1, dtype=torch.float64)
    values = (levels * layer.step).float().expand(len(layer.offset), -1).unsqueeze(0)
    values = values if affine is None else affine(values)
    with torch.no_grad():
        found = (activation(values)[0] / activation.step_in_use()).round().double()
    offsets = levels - found
    return offsets[:, 0].long() if bool((offsets == offsets[:, :1]).all()) else None
