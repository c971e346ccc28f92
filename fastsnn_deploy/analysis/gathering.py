"""The sum of what several processes have evaluated."""

from __future__ import annotations

from functools import reduce
from operator import add

import numpy as np

from fastsnn_deploy.analysis.evaluation import Evaluation
from fastsnn_deploy.analysis.serialise import pack, unpack
from fastsnn_deploy.processes import PATIENCE, Processes, connected, talking


def gather(evaluation: Evaluation, processes: Processes) -> Evaluation:
    """The sum of the evaluations of all processes, the same in each. Every process must call it once.

    Uses torch.distributed with gloo, and starts and ends it unless the caller has. Raises BackendError if another
    process is gone.
    """
    if processes.size == 1:
        return evaluation
    with connected(processes), talking(processes):
        packed = _exchange(pack(evaluation))
    return reduce(add, (unpack(evaluation.network, part) for part in packed))


def _exchange(own: bytes) -> list[bytes]:
    """The bytes of every process in the order of ranks. Tensors, since gathering objects would unpickle them."""
    import torch
    import torch.distributed as dist

    group = dist.new_group(backend="gloo", timeout=PATIENCE)  # the caller's own group may only know GPUs
    size = dist.get_world_size()
    lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(size)]
    dist.all_gather(lengths, torch.tensor([len(own)]), group=group)
    longest = max(int(length) for length in lengths)
    sent = torch.zeros(longest, dtype=torch.uint8)
    sent[: len(own)] = torch.from_numpy(np.frombuffer(own, dtype=np.uint8).copy())
    received = [torch.zeros(longest, dtype=torch.uint8) for _ in range(size)]
    dist.all_gather(received, sent, group=group)
    return [part[: int(length)].numpy().tobytes() for part, length in zip(received, lengths, strict=True)]
