"""Learning from a float network (distillation)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def distillation_loss(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """temperature**2 * KL(softmax(teacher / temperature) || softmax(logits / temperature)), mean over images.

    logits and teacher: float32 [N, classes].
    """
    target = F.log_softmax(teacher / temperature, 1)
    given = F.log_softmax(logits / temperature, 1)
    return temperature**2 * F.kl_div(given, target, reduction="batchmean", log_target=True)
