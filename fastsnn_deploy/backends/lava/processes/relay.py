"""A relay: delays spikes and places them among more channels (skip connections, concat)."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


class Relay(AbstractProcess):  # type: ignore[misc]
    """Sends what arrived `delay` steps ago, in the channels from `first` on of `channels`; the others are silent.

    shape: of the source, (W, H, C) or (N,); the channel is the last axis.
    """

    def __init__(self, *, shape: tuple[int, ...], delay: int, channels: int, first: int) -> None:
        output_shape = (*shape[:-1], channels)
        super().__init__(shape=shape, output_shape=output_shape, delay=delay, first=first)
        self.s_in = InPort(shape=shape)
        self.s_out = OutPort(shape=output_shape)


@implements(proc=Relay, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyRelay(PyLoihiProcessModel):  # type: ignore[misc]
    """CPU model of Relay."""

    s_in: Any = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    s_out: Any = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.delay = proc_params["delay"]
        self.silence = np.zeros(proc_params["output_shape"], dtype=np.int32)
        first = proc_params["first"]
        self.channels = slice(first, first + proc_params["shape"][-1])
        self.waiting: deque[Any] = deque()

    def run_spk(self) -> None:
        """One time step."""
        if self.delay:
            # send first: a source that waits for this process would otherwise block
            self.s_out.send(self.waiting.popleft() if len(self.waiting) == self.delay else self.silence)
            self.waiting.append(self.place(self.s_in.recv()))
        else:
            self.s_out.send(self.place(self.s_in.recv()))

    def place(self, spikes: Any) -> Any:
        """The spikes among the output's channels."""
        placed = self.silence.copy()
        placed[..., self.channels] = spikes
        return placed
