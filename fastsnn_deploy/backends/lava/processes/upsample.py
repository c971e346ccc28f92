"""Synapses of nearest-neighbour upsampling, one weight per channel."""

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


class NearestUpsample(AbstractProcess):  # type: ignore[misc]
    """Synaptic input of the spikes of the step before. shape: (W, H, C); weight: int [C]; factor: (width, height)."""

    def __init__(self, *, shape: tuple[int, ...], weight: npt.NDArray[np.integer], factor: tuple[int, int]) -> None:
        output_shape = (shape[0] * factor[0], shape[1] * factor[1], shape[2])
        super().__init__(factor=factor)
        self.s_in = InPort(shape=shape)
        self.a_out = OutPort(shape=output_shape)
        self.weight = Var(shape=weight.shape, init=weight)
        self.a_buf = Var(shape=output_shape, init=0)


@implements(proc=NearestUpsample, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyNearestUpsample(PyLoihiProcessModel):  # type: ignore[misc]
    """CPU model of NearestUpsample."""

    s_in: Any = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    a_out: Any = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)
    weight: Any = LavaPyType(np.ndarray, np.int32, precision=24)
    a_buf: Any = LavaPyType(np.ndarray, np.int32, precision=24)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.factor = proc_params["factor"]

    def run_spk(self) -> None:
        """One time step."""
        self.a_out.send(self.a_buf)
        synaptic_input = self.s_in.recv() * self.weight
        self.a_buf = synaptic_input.repeat(self.factor[0], axis=0).repeat(self.factor[1], axis=1)
