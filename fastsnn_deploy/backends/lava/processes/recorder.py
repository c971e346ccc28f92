"""A sink that writes what it receives into a memory-mapped file; Lava's own `Var.get` takes 15 us an element."""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from fastsnn_deploy.backends.lava.processes.clock import Clock


class Recorder(AbstractProcess):  # type: ignore[misc]
    """Writes to an existing .npy file, int32 [N, T, *shape], at the step of the input's time: offset + own step."""

    def __init__(self, *, shape: tuple[int, ...], file: str, clock: Clock) -> None:
        super().__init__(file=file, clock=clock)
        self.a_in = InPort(shape=shape)


@implements(proc=Recorder, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyRecorder(PyLoihiProcessModel):  # type: ignore[misc]
    """CPU model of Recorder."""

    a_in: Any = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.clock = proc_params["clock"]
        self.series = np.load(proc_params["file"], mmap_mode="r+")

    def run_spk(self) -> None:
        """One time step."""
        values = self.a_in.recv()
        now = self.clock.at(self.time_step)
        if now is not None and now[1] + self.clock.offset < self.series.shape[1]:
            self.series[now[0], now[1] + self.clock.offset] = values
