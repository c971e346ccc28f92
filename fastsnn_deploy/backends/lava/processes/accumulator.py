"""The readout: adds synaptic input, never spikes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from fastsnn_deploy.backends.lava.processes.clock import Clock
from fastsnn_deploy.backends.lava.processes.state import share, wrap


class Accumulator(AbstractProcess):  # type: ignore[misc]
    """Potential = all synaptic input of the image so far plus bias; the channel is the last axis.

    bias: int [C], of whose `bias_parts` even parts `bias_steps` enter from step `bias_start` of each image on. v_out:
    the potential.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        bias: npt.NDArray[np.integer],
        clock: Clock,
        bias_start: int = 0,
        bias_parts: int = 1,
        bias_steps: int = 1,
    ) -> None:
        super().__init__(shape=shape, clock=clock, bias_start=bias_start, bias_parts=bias_parts, bias_steps=bias_steps)
        self.a_in = InPort(shape=shape)
        self.v_out = OutPort(shape=shape)
        self.v = Var(shape=shape, init=0)
        self.bias = Var(shape=bias.shape, init=bias)


@implements(proc=Accumulator, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyAccumulator(PyLoihiProcessModel):  # type: ignore[misc]
    """CPU model of Accumulator."""

    a_in: Any = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    v_out: Any = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)
    v: Any = LavaPyType(np.ndarray, np.int32, precision=24)
    bias: Any = LavaPyType(np.ndarray, np.int32, precision=24)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.clock = proc_params["clock"]
        self.bias_start = proc_params["bias_start"]
        self.bias_parts, self.bias_steps = proc_params["bias_parts"], proc_params["bias_steps"]

    def run_spk(self) -> None:
        """One time step."""
        synaptic_input = self.a_in.recv()
        now = self.clock.at(self.time_step)
        if now is not None:
            if now[1] == 0:
                self.v[...] = 0
            bias = share(self.bias, now[1] - self.bias_start, self.bias_parts, self.bias_steps)
            self.v[...] = wrap(self.v + synaptic_input + bias)
        self.v_out.send(self.v)
