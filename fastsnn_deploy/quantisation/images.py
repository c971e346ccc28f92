"""Raw images in any form, as the tensor that a quantised model takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx, nn

from fastsnn_deploy.errors import InputError, wrong_type
from fastsnn_deploy.graph.images import array_of, levels_of
from fastsnn_deploy.graph.preprocessing import KEY, Preprocessing
from fastsnn_deploy.quantisation.layers import QuantInput
from fastsnn_deploy.quantisation.moves import SelectChannels
from fastsnn_deploy.quantisation.structure import image_readers, module_at

BATCH = 1000
"""Images that are checked at a time."""


def input_of(model: Any) -> QuantInput:
    """Where a quantised model takes its images. Raises InputError for a network that `prepare` has not made."""
    found = next(_inputs(model), None)
    if found is None or not isinstance(model, fx.GraphModule):
        raise InputError(f"{type(model).__name__} is not a quantised model. Call prepare first")
    return found


def require_quantised(model: Any) -> None:
    """Raise InputError for anything but a quantised network, made by `prepare` or by hand."""
    if next(_inputs(model), None) is None:
        raise InputError(f"{type(model).__name__} is not a quantised model. Call prepare first")


def _inputs(model: Any) -> Iterator[QuantInput]:
    if not isinstance(model, nn.Module):
        raise wrong_type("the model", model, "a quantised model: what fd.prepare or fd.load gives")
    return (module for module in model.modules() if isinstance(module, QuantInput))


def raw_levels(model: nn.Module, images: Any, name: str = "the network") -> npt.NDArray[np.int64]:
    """Raw images on the grid of a quantised model's input. The model remembers the shape of the first ones.

    Args:
        model: what `prepare` made.
        images: NumPy array or torch tensor, uint8 from 0 to 255 or floats in units of the data, one image or a batch,
            channels first.
        name: what takes them, for messages.

    Returns:
        int64 [N, C, H, W] or [N, features].

    Raises:
        InputError: see `graph.images.levels_of`.
    """
    grid, array = input_of(model), array_of(images, name)
    levels = levels_of(array, shape=_shape(model, array), step=grid.step, low=grid.low, high=grid.high, name=name)
    cast(fx.GraphModule, model).meta.setdefault("input_shape", levels.shape[1:])
    return levels


def raw_tensor(model: nn.Module, images: Any, name: str = "the network") -> Tensor:
    """As `raw_levels`, in units of the data and on the model's device: float32."""
    grid = input_of(model)
    return (torch.from_numpy(raw_levels(model, images, name)).float() * grid.step).to(grid.offset.device)


def remember(model: Any, images: Any) -> None:
    """Keep with a quantised model what is done to the pictures of a data set, unless it knows, and their classes."""
    known = getattr(images, "preprocessing", None)
    if isinstance(known, Preprocessing) and hasattr(model, "meta"):
        metadata = model.meta.setdefault("metadata", {})
        stored = Preprocessing.of(metadata) or known
        done = stored if stored.moves else known
        metadata[KEY] = replace(stored, **done.geometry(), classes=known.classes or stored.classes).plain()


def stacked(items: Sequence[Any]) -> npt.NDArray[Any]:
    """Single images, tensors, arrays or of Pillow, as one array, channels first.

    Raises InputError if there are none, if one has no numbers, or if sizes differ.
    """
    if not items:
        raise InputError("the data set holds no images. Give at least one")
    arrays = [_channels_first(item) for item in items]
    sizes = sorted({array.shape for array in arrays})
    if len(sizes) != 1:
        raise InputError(f"images differ in shape: {sizes[:3]}. Resize them to one size")
    return np.stack(arrays)


def _channels_first(image: Any) -> npt.NDArray[Any]:
    array = array_of(image, "a data set")
    if hasattr(image, "convert"):  # Pillow's: [H, W] or [H, W, C]
        return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    return array


def _shape(model: nn.Module, array: npt.NDArray[Any]) -> tuple[int, ...]:
    """The shape that one of these images should have: a layer with weights fixes the channels, not the size."""
    assert isinstance(model, fx.GraphModule)
    dimensions, channels = 3 if array.ndim > 2 else 1, _channels(model)
    if channels is not None:
        shape = array.shape[-3:]
        swapped = len(shape) == 3 and shape[-1] == channels != shape[0]
        return (channels, *(shape[:2] if swapped else array.shape[-2:]))
    return array.shape[-dimensions:]


def _channels(model: fx.GraphModule) -> int | None:
    """Channels of an image, where a shape that was given or a layer fixes them."""
    known = model.meta.get("input_shape", ())
    if len(known) == 3:
        return int(known[0])
    reader = next(iter(image_readers(model)), None)
    first = None if reader is None else module_at(model, reader)
    while reader is not None and reader.op != "placeholder":
        reader = reader.all_input_nodes[0]
        if isinstance(module_at(model, reader), SelectChannels):  # the layer reads some of them
            return None
    return first.in_channels if isinstance(first, nn.Conv2d) else None
