"""Several processes, each on its share of the images, as torchrun starts them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from fastsnn_deploy.errors import BackendError, InputError

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
        return max(1, available_cores() // self.local_size)


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def connected(processes: Processes, backend: str = "gloo") -> Iterator[None]:
    """torch.distributed between the processes, started and ended unless the caller has; nothing for one process."""
    if processes.size == 1:
        yield
        return
    import torch.distributed as dist

    begin = not dist.is_initialized()
    try:
        if begin:
            with talking(processes):
                dist.init_process_group(backend, rank=processes.rank, world_size=processes.size, timeout=PATIENCE)
        yield
    finally:
        if begin and dist.is_initialized():
            dist.destroy_process_group()


@contextmanager
def talking(processes: Processes) -> Iterator[None]:
    """Around messages between processes. Raises BackendError if another process is gone."""
    try:
        yield
    except (RuntimeError, ValueError) as error:  # gloo's, and a missing MASTER_ADDR
        reason = str(error).splitlines()[0]
        raise BackendError(f"process {processes.rank} of {processes.size} lost the others ({reason})") from error
