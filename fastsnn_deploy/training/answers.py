"""What a quantised model answers in floating point."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fastsnn_deploy.training.data import Images

Progress = Callable[[int, int], None]


def quantised_logits(
    quantised: nn.Module, images: Images, batch: int = 100, progress: Progress | None = None
) -> npt.NDArray[np.float32]:
    """What a network that takes raw images answers in inference mode: float32 [N, classes]."""
    quantised.eval()
    found = []
    with torch.no_grad():
        for start in range(0, len(images.labels), batch):
            found.append(quantised(images.raw(slice(start, start + batch))).flatten(1).float().numpy())
            if progress is not None:
                progress(min(start + batch, len(images.labels)), len(images.labels))
    return np.concatenate(found)
