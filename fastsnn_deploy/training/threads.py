"""Threads within an operator of PyTorch, where a network is so small that they would only wait for each other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

TINY = 10**8
"""Multiply-accumulates of a batch below which one thread is about as fast, and much faster beside other programs: a
thread that has no core keeps all others waiting at the end of each operator."""


@contextmanager
def suited_threads(model: nn.Module, images: Tensor, batch: int, device: torch.device) -> Iterator[None]:
    """One thread for a tiny network on the processor; the number of threads is put back at the end.

    images: some that the model takes, on any device. batch: images at a time. device: where the model will run.
    """
    before = torch.get_num_threads()
    if device.type == "cpu" and before > 1 and multiplies(model, images) * batch < TINY * len(images):
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def multiplies(model: nn.Module, images: Tensor) -> int:
    """Multiply-accumulates of a forward pass on all of these images, as PyTorch counts them."""
    home = next((parameter.device for parameter in model.parameters()), images.device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(images.to(home))
    return int(counter.get_total_flops()) // 2
