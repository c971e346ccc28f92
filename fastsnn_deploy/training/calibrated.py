"""A float network made a quantised model with images alone, without training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from fastsnn_deploy.graph.preprocessing import KEY
from fastsnn_deploy.quantisation.calibration import CALIBRATION_IMAGES, calibrate
from fastsnn_deploy.quantisation.checkpoint import Checkpoint
from fastsnn_deploy.quantisation.others.take import from_quantised
from fastsnn_deploy.quantisation.prepare import prepare
from fastsnn_deploy.training.images import Images


def calibrated_checkpoint(
    model: nn.Module,
    images: Images,
    bits: int,
    weight_bits: int,
    source: str | Path = "",
    **options: Any,
) -> Checkpoint:
    """The quantised model of a float network, its steps set from images.

    Args:
        model: A float network; it stays as it is.
        images: Raw, those of which the first 256 are taken; their preprocessing, mean and std go with the network.
        bits: Of activations, 1 to 8.
        weight_bits: Of weights, 2 to 8; the first and the last layer have 8.
        source: File that the network comes from, kept in the metadata by its name.
        **options: Further ones of `prepare`.

    Raises:
        LoweringError: lists everything in the network that has no exact spiking form.
        InputError: images that do not pass through the network.
    """
    quantised = prepare(
        model, bits, weight_bits, preprocessing=images.preprocessing, input_shape=images.shape, **options
    )
    calibrate(quantised, images)
    count = min(CALIBRATION_IMAGES, len(images.labels))
    metadata = {
        **quantised.meta["metadata"],
        "data": images.name,
        "calibrated": {"source": Path(source).name, "images": count, "bits": bits},
    }
    return Checkpoint(quantised, images.shape, metadata)


def taken_checkpoint(
    model: nn.Module,
    images: Images,
    weight_bits: int,
    source: str | Path = "",
    **options: Any,
) -> Checkpoint:
    """The quantised model of a network that another project's modules have quantised; arguments as above.

    images: their grid and shape; steps come from them only where the network has none.
    Raises InputError or LoweringError as `from_quantised`, whose options may follow.
    """
    done = images.preprocessing
    quantised = from_quantised(
        model, weight_bits=weight_bits, mean=done.mean, std=done.std, input_step=done.step, input_levels=done.levels,
        input_shape=images.shape, images=images, **options,
    )  # fmt: skip
    metadata = {
        KEY: done.plain(),
        "data": images.name,
        "taken": {"source": Path(source).name, "notes": list(quantised.meta["notes"])},
    }
    return Checkpoint(quantised, images.shape, metadata)
