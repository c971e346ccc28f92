"""Several processes, each on its share of the images, as torchrun starts them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import reduce
from operator import add

import numpy as np

from fastsnn_deploy.errors import BackendError, InputError
from fastsnn_deploy.evaluate.evaluation import Evaluation
from fastsnn_deploy.evaluate.wire import pack, unpack

PATIENCE = timedelta(days=1)
"""How long a process that is done waits for the others; one that fails ends the wait at once."""


@dataclass(frozen=True)
class Processes:
    """This process among all: rank of size, and how many of them share this machine."""

    rank: int = 0
    size: int = 1
    local_size: int = 1

    @staticmethod
    def from_environment(environment: Mapping[str, str] = os.environ) -> Processes:
        """What torchrun put into RANK, WORLD_SIZE and LOCAL_WORLD_SIZE; without them, one process alone.

        Raises InputError for values that make no sense.
        """
        names = ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
        size = environment.get("WORLD_SIZE", "1")
        texts = environment.get("RANK", "0"), size, environment.get("LOCAL_WORLD_SIZE", size)
        try:
            rank, total, local = (int(text) for text in texts)
        except ValueError:
            rank, total, local = 0, 0, 0
        if not (0 <= rank < total and 1 <= local <= total):
            found = ", ".join(f"{name}={text}" for name, text in zip(names, texts, strict=True))
            raise InputError(f"the environment says {found}, which is no process of several. Start them with torchrun")
        return Processes(rank, total, local)

    @property
    def first(self) -> bool:
        """It is the one that prints and writes."""
        return self.rank == 0

    def share(self, images: int) -> slice:
        """The images of this process: contiguous, disjoint, together all, their numbers at most one apart."""
        return slice(images * self.rank // self.size, images * (self.rank + 1) // self.size)

    @property
    def threads(self) -> int | None:
        """Processor cores for each process on this machine; None if it is alone and may use all."""
        if self.local_size == 1:
            return None
        return max(1, (os.cpu_count() or 1) // self.local_size)


def gather(evaluation: Evaluation, processes: Processes) -> Evaluation:
    """The sum of the evaluations of all processes, the same in each. Every process must call it once.

    Uses torch.distributed with gloo, and starts and ends it unless the caller has. Raises BackendError if another
    process is gone.
    """
    if processes.size == 1:
        return evaluation
    import torch.distributed as dist

    begin = not dist.is_initialized()
    try:
        if begin:
            dist.init_process_group("gloo", rank=processes.rank, world_size=processes.size, timeout=PATIENCE)
        packed = _exchange(pack(evaluation))
    except (RuntimeError, ValueError) as error:  # gloo's, and a missing MASTER_ADDR
        reason = str(error).splitlines()[0]
        raise BackendError(f"process {processes.rank} of {processes.size} lost the others ({reason})") from error
    finally:
        if begin and dist.is_initialized():
            dist.destroy_process_group()
    return reduce(add, (unpack(evaluation.graph, part) for part in packed))


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
