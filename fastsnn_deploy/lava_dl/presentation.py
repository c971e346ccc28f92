"""How images are shown to a stock network, step by step, and where its answers come out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.lava_dl.network import StockNetwork
from fastsnn_deploy.lava_dl.simulate import StockRun

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Presentation:
    """What `lava_dl.run` or a backend takes: frames, int64 [T', N, *input shape], for `steps` steps.

    streamed: the images follow each other in one stream (N = 1), one a step; else each image has a stream of its own.
    """

    network: StockNetwork
    frames: Int64
    steps: int
    streamed: bool

    def answers(self, run: StockRun) -> npt.NDArray[np.float64]:
        """Real-valued answer to each image, float64 [images, *output shape], from the series of the last layer."""
        network, (spikes, potentials) = self.network, (run.spikes[-1], run.potentials[-1])
        assert spikes is not None
        assert potentials is not None
        if self.streamed:
            values = network.values(spikes[network.depth :], potentials[network.depth :])[:, 0]
        else:
            values = network.values(spikes, potentials)[min(network.depth, self.steps - 1) if network.forgets else -1]
        return network.logits(values)


def present(network: StockNetwork, emitted: Int64, steps: int | None = None, *, stream: bool = False) -> Presentation:
    """Show images to a network.

    A network that forgets gets each image for one step and answers `depth` steps later; with stream, images follow
    each other step by step. Other networks get their image at every step.

    Args:
        network: which.
        emitted: int64 [N, *input shape], `network.encode(images)`.
        steps: steps for each image; default: until it has passed all layers, or until nothing changes any more.
        stream: one image after the other in one stream.

    Returns:
        Frames, and how the answers are read.

    Raises:
        InputError: for a stream through neurons with memory, and where the number of steps must be said.
    """
    if stream and not network.forgets:
        raise InputError(
            "the network has neurons with memory, so an image at every step would not be an inference of its own. "
            "Leave out --stream, or export with --target stock-lif"
        )
    if stream:
        return Presentation(network, emitted[:, None], len(emitted) + network.depth, True)
    if network.forgets:
        return Presentation(network, emitted[None], steps or network.depth + 1, False)
    length = network.steps_for(steps)
    return Presentation(network, np.broadcast_to(emitted, (length, *emitted.shape)), length, False)
