"""Event-based max pool: emits every change of the maximum of its inputs' net counts."""

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

OUTSIDE = np.iinfo(np.int32).min

Pair = tuple[int, int]


class EventMaxPool(AbstractProcess):  # type: ignore[misc]
    """Maximum over windows of (W, H, C) counts, one step after the spike that changes it.

    kernel, stride, padding, dilation: (width, height). output_shape: (W, H, C); windows may hang over the end,
    and positions outside never win. Source: QFFS (10.3389/fnins.2022.918793) Algorithm 2.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        output_shape: tuple[int, ...],
        kernel: Pair,
        stride: Pair,
        padding: Pair,
        dilation: Pair,
        clock: Clock,
    ) -> None:
        super().__init__(
            shape=shape,
            output_shape=output_shape,
            kernel=kernel,
            stride=stride,
            padding=padding,
            dilation=dilation,
            clock=clock,
        )
        self.s_in = InPort(shape=shape)
        self.s_out = OutPort(shape=output_shape)
        self.count = Var(shape=shape, init=0)
        self.maximum = Var(shape=output_shape, init=0)


@implements(proc=EventMaxPool, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyEventMaxPool(PyLoihiProcessModel):  # type: ignore[misc]
    """CPU model of EventMaxPool."""

    s_in: Any = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    s_out: Any = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)
    count: Any = LavaPyType(np.ndarray, np.int32, precision=24)
    maximum: Any = LavaPyType(np.ndarray, np.int32, precision=24)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.clock = proc_params["clock"]
        self.window = tuple(proc_params[key] for key in ("kernel", "stride", "padding", "dilation"))
        self.outputs = proc_params["output_shape"]
        self.arrived = np.zeros(proc_params["shape"], dtype=np.int32)

    def run_spk(self) -> None:
        """One time step: works on what arrived in the step before."""
        now = self.clock.at(self.time_step)
        spikes = np.zeros(self.outputs, dtype=np.int32)
        if now is not None:
            if now[1] == 0:
                self.count[...] = 0
                self.maximum[...] = 0
            self.count += self.arrived
            found = window_maximum(self.count, self.outputs, *self.window)
            spikes = found - self.maximum
            self.maximum[...] = found
        self.s_out.send(spikes)
        self.arrived = self.s_in.recv()


def window_maximum(
    count: npt.NDArray[np.int32], outputs: tuple[int, ...], kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> npt.NDArray[np.int32]:
    """Maximum over each window of (W, H, C), one shifted view per tap of the window."""
    reach = [(outputs[i] - 1) * stride[i] + (kernel[i] - 1) * dilation[i] + 1 for i in (0, 1)]
    size = [max(reach[i], padding[i] + count.shape[i]) for i in (0, 1)]
    padded = np.full((*size, count.shape[2]), OUTSIDE, dtype=np.int32)
    padded[padding[0] : padding[0] + count.shape[0], padding[1] : padding[1] + count.shape[1]] = count
    best = np.full(outputs, OUTSIDE, dtype=np.int32)
    for x in range(kernel[0]):
        for y in range(kernel[1]):
            left, top = x * dilation[0], y * dilation[1]
            right = left + (outputs[0] - 1) * stride[0] + 1
            bottom = top + (outputs[1] - 1) * stride[1] + 1
            np.maximum(best, padded[left : right : stride[0], top : bottom : stride[1]], out=best)
    return best
