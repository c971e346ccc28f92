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
from fastsnn_deploy.backends.lava.processes.state import Int32, share, wrap


class SignedIF(AbstractProcess):  # type: ignore[misc]
    """A population; the channel is the last axis of `shape`, (W, H, C) or (N,).

    threshold, initial: int [C]. bias: int [C] or of `shape`, added in `bias_parts` even parts from step
    `bias_start` of each image on, for `bias_steps` steps. floor, ceiling: bounds of the net count. min_spike,
    max_spike: of one spike. Neurons fire in the `fire_steps` steps from `fire_start` on (None: for ever).
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
        min_spike: int,
        max_spike: int,
        clock: Clock,
        bias_start: int = 0,
        bias_parts: int = 1,
        bias_steps: int = 1,
        fire_start: int = 0,
        fire_steps: int | None = None,
    ) -> None:
        super().__init__(
            shape=shape,
            clock=clock,
            bias_start=bias_start,
            bias_parts=bias_parts,
            bias_steps=bias_steps,
            fire_start=fire_start,
            fire_steps=fire_steps,
        )
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
        self.min_spike = Var(shape=(1,), init=min_spike)
        self.max_spike = Var(shape=(1,), init=max_spike)


def emit(
    v: Int32, count: Int32, threshold: Int32, floor: Int32, ceiling: Int32, min_spike: Int32, max_spike: Int32
) -> Int32:
    """The neuron rule: what is due of the settled count, within the spike bounds; int32."""
    due = np.clip(np.floor_divide(v, threshold), floor - count, ceiling - count)
    return np.asarray(np.clip(due, min_spike, max_spike))


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
    min_spike: Any = LavaPyType(np.ndarray, np.int32, precision=24)
    max_spike: Any = LavaPyType(np.ndarray, np.int32, precision=24)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.clock = proc_params["clock"]
        self.bias_start = proc_params["bias_start"]
        self.bias_parts, self.bias_steps = proc_params["bias_parts"], proc_params["bias_steps"]
        self.fire_start, self.fire_steps = proc_params["fire_start"], proc_params["fire_steps"]
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
        bias = share(self.bias, now[1] - self.bias_start, self.bias_parts, self.bias_steps)
        self.v[...] = wrap(self.v + synaptic_input + bias)
        spikes = self.silence
        since = now[1] - self.fire_start
        if since >= 0 and (self.fire_steps is None or since < self.fire_steps):
            limits = self.floor, self.ceiling, self.min_spike, self.max_spike
            spikes = emit(self.v, self.count, self.threshold, *limits)
        self.v -= spikes * self.threshold
        self.count += spikes
        self.s_out.send(spikes)
        self.v_out.send(self.v)
