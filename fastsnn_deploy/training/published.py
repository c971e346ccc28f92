"""What published weights say of the pictures that they want: timm's and torchvision's own metadata."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from torch import fx, nn

from fastsnn_deploy.errors import InputError, wrong_type
from fastsnn_deploy.graph.preprocessing import Preprocessing
from fastsnn_deploy.training.models.registry import name_and_options

TORCHVISION, TIMM = "torchvision:", "timm:"


def preprocessing(network: Any) -> Preprocessing | None:
    """How pictures become images of a network, as whoever trained it has written down.

    Args:
        network: A name, `timm:NAME` or `torchvision:NAME`, whose `weights='IMAGENET1K_V1'` may follow in brackets; a
            network of timm; an entry of torchvision's weights; or anything of this program that knows it: a quantised
            model, a Checkpoint, a graph.

    Returns:
        The record for `load_data`, `prepare` and `quantize`; None where nothing is known, and where the network has
        another number of classes than the published weights, which may be other weights then. Nothing is downloaded.

    Raises:
        InputError: a kind of preprocessing that is not known here.

    Example:
        >>> found = preprocessing("torchvision:resnet50(weights='IMAGENET1K_V1')")
        >>> found.resize, found.crop, found.interpolation
        (256, (224, 224), 'bilinear')
    """
    if isinstance(network, str):
        return _named(network)
    if hasattr(network, "metadata") and isinstance(network.metadata, Mapping):
        return Preprocessing.of(network.metadata)
    if isinstance(network, fx.GraphModule) and isinstance(network.meta.get("metadata"), Mapping):
        return Preprocessing.of(network.meta["metadata"])
    if hasattr(network, "transforms") and hasattr(network, "meta"):  # of torchvision's weights
        return _of_torchvision(network)
    if isinstance(network, nn.Module):
        return _of_timm(network) if isinstance(getattr(network, "pretrained_cfg", None), Mapping) else None
    raise wrong_type("the network", network, "timm:NAME, torchvision:NAME, a network, or an entry of weights")


def _named(text: str) -> Preprocessing | None:
    name, options = name_and_options(text)
    if name.startswith(TIMM):
        try:
            timm = import_module("timm")
        except ImportError:
            return None
        config = timm.get_pretrained_cfg(name.removeprefix(TIMM))
        if config is None:
            return None
        published = config.to_dict()
        return _of_config(name, published) if _same_classes(options, published.get("num_classes")) else None
    if not name.startswith(TORCHVISION):
        return None
    from torchvision import models

    try:
        weights = models.get_model_weights(name.removeprefix(TORCHVISION))
    except ValueError:  # no such network, or one without weights
        return None
    asked = options.get("weights")
    if asked is not None and asked not in weights.__members__:
        close = difflib.get_close_matches(str(asked), weights.__members__, n=1)
        guess = f"Did you mean {close[0]}? " if close else ""
        raise InputError(
            f"model '{text}': weights '{asked}' are not known. {guess}Known: {', '.join(weights.__members__)}"
        )
    chosen = weights[asked] if asked is not None else weights.DEFAULT
    return _of_torchvision(chosen) if _same_classes(options, len(chosen.meta.get("categories", ()))) else None


def _same_classes(options: Mapping[str, Any], published: int | None) -> bool:
    return bool(options.get("num_classes", published) == published)


def _of_torchvision(weights: Any) -> Preprocessing | None:
    """What an entry of torchvision's weights says, for those that classify images."""
    made = weights.transforms()
    if type(made).__name__ != "ImageClassification":
        return None
    resize = made.resize_size
    return Preprocessing(
        channels="RGB", resize=_side(resize), interpolation=made.interpolation.value, crop=_size(made.crop_size),
        mean=tuple(made.mean), std=tuple(made.std),
    )  # fmt: skip


def _of_timm(network: nn.Module) -> Preprocessing | None:
    """What a network of timm says, if it has the published number of classes."""
    published: Mapping[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    classes = getattr(network, "num_classes", None)
    return _of_config(type(network).__name__, published) if classes in (None, published.get("num_classes")) else None


def _of_config(name: str, config: Mapping[str, Any]) -> Preprocessing:
    """timm's rule, of `timm.data.transforms_factory.transforms_imagenet_eval`, without its test sizes."""
    resolved = import_module("timm.data").resolve_data_config(pretrained_cfg=dict(config))
    channels, height, width = resolved["input_size"]
    mode, share = resolved["crop_mode"], resolved["crop_pct"]
    scaled = math.floor(height / share), math.floor(width / share)
    square = scaled[0] == scaled[1]
    if mode not in ("center", "squash") or (mode == "center" and not square) or channels not in (1, 3):
        raise InputError(
            f"{name}: pictures of {channels} channels and {height}x{width} pixels with timm's crop_mode '{mode}' are "
            "not known here. Preprocess the images yourself, and give them as an .npz file"
        )
    return Preprocessing(
        channels="RGB" if channels == 3 else "L", resize=scaled if mode == "squash" else scaled[0],
        interpolation=resolved["interpolation"], crop=(height, width), mean=tuple(map(float, resolved["mean"])),
        std=tuple(map(float, resolved["std"])),
    )  # fmt: skip


def _side(size: Any) -> int | tuple[int, int]:
    """torchvision's [256], or [height, width]."""
    return int(size[0]) if len(size) == 1 else _size(size)


def _size(size: Any) -> tuple[int, int]:
    return int(size[0]), int(size[-1])
