"""Steps of activations from images, without training."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.utils.data import Dataset

from fastsnn_deploy.errors import InputError, wrong_type
from fastsnn_deploy.quantisation.images import input_of, raw_tensor, remember, stacked
from fastsnn_deploy.quantisation.layers import QuantActivation
from fastsnn_deploy.quantisation.post_training.thresholds import Rule, least_error

CALIBRATION_IMAGES = 256
"""Images of a data set that `calibrate` looks at."""

FEW_LEVELS = 15
"""Up to here a step starts as in training, which clips much; beyond, its squared error is the smallest there is."""

OFFICIAL = "official"
"""Key of the `meta` of a model whose thresholds another project has trained."""

EXAMPLES = 4
"""Images of the calibration that a model keeps, in memory only, for `convert` to compare on."""


def calibrate(quantised: nn.Module, images: Any) -> None:
    """Set the steps of all activations from raw images; a second call sets them anew.

    Runs in evaluation mode: no dropout, and the statistics of batch norm stay. Activations that share a step take the
    largest that one of them needs.

    Args:
        quantised: what `prepare` made.
        images: a batch or one image, NumPy or torch, channels first, uint8 from 0 to 255 or floats in units of the
            data; or a data set of torch, of which the first 256 images are taken.

    Raises:
        InputError: the images are constant, of another shape, outside the network's range, or seem normalised.

    Example:
        >>> import torch
        >>> from fastsnn_deploy import prepare
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 4, 3))
        >>> calibrate(prepare(model), torch.rand(16, 3, 8, 8))
    """
    if isinstance(quantised, fx.GraphModule) and OFFICIAL in quantised.meta:
        raise InputError(
            "the thresholds of this network came with it. Give images to fd.from_quantised for other places"
        )
    set_steps(quantised, calibration_images(quantised, images))


def calibration_images(quantised: nn.Module, images: Any, most: int = CALIBRATION_IMAGES) -> Tensor:
    """Raw images as `calibrate` takes them, float32 in units of the data: the first `most` of a data set.

    Raises InputError as `calibrate` does.
    """
    input_of(quantised)
    remember(quantised, images)
    if isinstance(images, Dataset):
        if not hasattr(images, "__len__"):
            raise wrong_type("the data set", images, "a length, as a torch Dataset of (image, label) has it")
        items = [images[i] for i in range(min(most, len(images)))]
        images = stacked([item[0] if isinstance(item, (tuple, list)) else item for item in items])
    name = "the network"
    if hasattr(images, "raw"):  # labelled images of a named data set
        name = f"the network ({images.described})"
        images = images.raw(slice(0, most))
    raw = raw_tensor(quantised, images, name)
    if raw.numel() == 0 or float(raw.min()) == float(raw.max()):
        what = "no images" if raw.numel() == 0 else f"constant images ({float(raw.max()):g} everywhere)"
        raise InputError(f"the network cannot be calibrated on {what}. Give real images")
    return raw


def set_steps(
    quantised: nn.Module, raw: Tensor, rule: Rule | None = None, only: Collection[QuantActivation] | None = None
) -> None:
    """Set the steps of all activations from images of `calibration_images` by a rule; None for that of `calibrate`.

    only: those whose steps are set, None for all.

    Raises InputError, and changes nothing, if the images do not pass through.
    """
    found = [module for module in quantised.modules() if isinstance(module, QuantActivation)]
    activations = [each for each in found if only is None or each in only]
    modes = {module: module.training for module in quantised.modules()}
    before = [(a, a.initialised.clone(), a.learned.detach().clone()) for a in activations]
    hooks = [a.register_forward_pre_hook(partial(_set_step, rule=rule)) for a in activations]
    for activation in activations:
        activation.initialised.fill_(False)
    quantised.eval()
    try:
        with torch.no_grad():
            quantised(raw)
        cast(fx.GraphModule, quantised).meta["examples"] = raw[:EXAMPLES].cpu()
    except (RuntimeError, ValueError, IndexError) as error:
        for activation, initialised, learned in before:
            activation.initialised.copy_(initialised)
            activation.learned.data.copy_(learned)
        reason = str(error).splitlines()[0]
        raise InputError(f"images of shape {tuple(raw.shape)} do not pass through the network ({reason})") from error
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training


def _set_step(activation: nn.Module, arguments: tuple[Any, ...], rule: Rule | None) -> None:
    assert isinstance(activation, QuantActivation)
    if not activation.initialised:
        few = activation.high <= FEW_LEVELS
        chosen = rule or (activation.first_step if few else least_error)
        activation.initialise(arguments[0].detach().float(), chosen)
