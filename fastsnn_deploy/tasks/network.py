"""The task of a network that is at hand: `fd.task_of`."""

from __future__ import annotations

from pathlib import Path

from fastsnn_deploy.formats import Network, as_network
from fastsnn_deploy.quantisation import Checkpoint
from fastsnn_deploy.tasks.base import Task, task_in
from fastsnn_deploy.tasks.classification import Classification


def task_of(network: Network | Checkpoint | str | Path) -> Task:
    """What a network answers: it makes boxes, classes of pixels, or probabilities of its output, and draws them.

    Args:
        network: What `convert`, `read` or `export` gave, a checkpoint, or the path of an exported file.

    Returns:
        The task that the network brings along, with the names of its classes; a classifier's where it brings none.

    Raises:
        InputError: its description is damaged.
    """
    metadata = (as_network(network) if isinstance(network, (str, Path)) else network).metadata
    return task_in(metadata) or Classification()
