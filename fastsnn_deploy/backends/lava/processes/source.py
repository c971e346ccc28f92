"""The input: emits one image after another from a memory-mapped file."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from fastsnn_deploy.backends.lava.processes.clock import Clock
from fastsnn_deploy.backends.lava.processes.state import share


class ImageSource(AbstractProcess):  # type: ignore[misc]
    """Emits `steps` of the `parts` even parts of image i from the first step of its period on (Bresenham split).

    images: path of an .npy file, int32 [N, *shape]. progress: path of an .npy file, int64 [1], that receives the
    number of the step just done. starts: if given, the images are emitted within one period of the clock, image i
    from step starts[i] on; they begin with 0 and lie at least `steps` apart. rows: if given, the file holds what is
    emitted in each of so many steps of each image, int32 [N * rows, *shape], and nothing is spread.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        images: str,
        progress: str,
        parts: int,
        steps: int,
        clock: Clock,
        starts: tuple[int, ...] = (),
        rows: int = 0,
    ) -> None:
        super().__init__(
            shape=shape, images=images, progress=progress, parts=parts, steps=steps, clock=clock, starts=starts,
            rows=rows,
        )  # fmt: skip
        self.s_out = OutPort(shape=shape)


@implements(proc=ImageSource, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyImageSource(PyLoihiProcessModel):  # type: ignore[misc]
    """CPU model of ImageSource."""

    s_out: Any = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.clock = proc_params["clock"]
        self.parts, self.steps = proc_params["parts"], proc_params["steps"]
        self.starts, self.rows = proc_params["starts"], proc_params["rows"]
        self.images = np.load(proc_params["images"], mmap_mode="r")
        self.progress = np.load(proc_params["progress"], mmap_mode="r+")
        self.silence = np.zeros(proc_params["shape"], dtype=np.int32)

    def run_spk(self) -> None:
        """One time step."""
        now = self.clock.at(self.time_step)
        if now and self.starts:
            index = bisect_right(self.starts, now[1]) - 1
            now = index, now[1] - self.starts[index]
        spikes = self.silence
        if now and self.rows:
            spikes = self.images[now[0] * self.rows + now[1]] if now[1] < self.rows else self.silence
        elif now and now[1] < self.steps:
            spikes = share(self.images[now[0]], now[1], self.parts, self.steps)
        self.s_out.send(spikes)
        self.progress[0] = self.time_step
