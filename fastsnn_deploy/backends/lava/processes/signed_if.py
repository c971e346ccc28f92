"""Signed integrate-and-fire neurons with soft reset and a bounded net count, in int32."""

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
from fastsnn_deploy.backends.lava.processes.state import Int32, bias_part, wrap


class SignedIF(AbstractProcess):  # type: ignore[misc]
    """A population; the channel is the last axis of `shape`, (W, H, C) or (N,).

    threshold, initial: int [C]. bias: int [C] or of `shape`, added in `bias_parts` even parts from step
    `bias_start` of each image on. floor, ceiling: bounds of the net count. code: a key of `EMISSION`.
    Ports: a_in synaptic input, s_out spikes, v_out potential after the reset by subtraction.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        threshold: npt.NDArray[np.integer],
        initial: npt.NDArray[np.integer],
        bias: npt.NDArray[np.integer],
        floor: int,
        ceiling: int,
        code: str,
        clock: Clock,
        bias_start: int = 0,
        bias_parts: int = 1,
    ) -> None:
        super().__init__(shape=shape, code=code, clock=clock, bias_start=bias_start, bias_parts=bias_parts)
        self.a_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)
        self.v_out = OutPort(shape=shape)
        self.v = Var(shape=shape, init=0)
        self.count = Var(shape=shape, init=0)
        self.threshold = Var(shape=threshold.shape, init=threshold)
        self.initial = Var(shape=initial.shape, init=initial)
        self.bias = Var(shape=bias.shape, init=bias)
        self.floor = Var(shape=(1,), init=floor)
        self.ceiling = Var(shape=(1,), init=ceiling)


def unary(v: Int32, count: Int32, threshold: Int32, floor: Int32, ceiling: Int32) -> Int32:
    """One spike, +1 at or above threshold or -1 below zero, unless the count is at its bound."""
    up = (v >= threshold) & (count < ceiling)
    down = (v < 0) & (count > floor)
    return np.subtract(up, down, dtype=np.int32)


def graded(v: Int32, count: Int32, threshold: Int32, floor: Int32, ceiling: Int32) -> Int32:
    """All spikes that are due, in one message: the payload is the change of the settled count."""
    due = np.floor_divide(v, threshold)
    return np.asarray(np.minimum(np.maximum(due, floor - count), ceiling - count))


EMISSION = {"unary": unary, "graded": graded}
"""Emission rules by the name of the code."""


@implements(proc=SignedIF, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PySignedIF(PyLoihiProcessModel):  # type: ignore[misc]
    """CPU model of SignedIF."""

    a_in: Any = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    s_out: Any = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)
    v_out: Any = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)
    v: Any = LavaPyType(np.ndarray, np.int32, precision=24)
    count: Any = LavaPyType(np.ndarray, np.int32, precision=24)
    threshold: Any = LavaPyType(np.ndarray, np.int32, precision=24)
    initial: Any = LavaPyType(np.ndarray, np.int32, precision=24)
    bias: Any = LavaPyType(np.ndarray, np.int32, precision=24)
    floor: Any = LavaPyType(np.ndarray, np.int32, precision=24)
    ceiling: Any = LavaPyType(np.ndarray, np.int32, precision=24)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.clock = proc_params["clock"]
        self.emission = EMISSION[proc_params["code"]]
        self.bias_start = proc_params["bias_start"]
        self.bias_parts = proc_params["bias_parts"]
        self.silence = np.zeros(proc_params["shape"], dtype=np.int32)

    def run_spk(self) -> None:
        """One time step."""
        synaptic_input = self.a_in.recv()
        now = self.clock.at(self.time_step)
        if now is None:
            self.s_out.send(self.silence)
            self.v_out.send(self.v)
            return
        if now[1] == 0:
            self.v[...] = self.initial
            self.count[...] = 0
        bias = bias_part(self.bias, now[1] - self.bias_start, self.bias_parts)
        self.v[...] = wrap(self.v + synaptic_input + bias)
        spikes = self.emission(self.v, self.count, self.threshold, self.floor, self.ceiling)
        self.v -= spikes * self.threshold
        self.count += spikes
        self.s_out.send(spikes)
        self.v_out.send(self.v)
