"""Spikes put apart on a larger, otherwise empty map, which turns a transposed convolution into a convolution."""

from __future__ import annotations

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


class Spread(AbstractProcess):  # type: ignore[misc]
    """Sends in the same step what arrives at (x, y), at first + step * (x, y) if that is on the map.

    shape: of the source, (W, H, C). size: width and height of the map. first, step: along both axes, in this order.
    """

    def __init__(
        self, *, shape: tuple[int, ...], size: tuple[int, ...], first: tuple[int, ...], step: tuple[int, ...]
    ) -> None:
        output_shape = (*size, shape[2])
        super().__init__(shape=shape, output_shape=output_shape, first=first, step=step)
        self.s_in = InPort(shape=shape)
        self.s_out = OutPort(shape=output_shape)


@implements(proc=Spread, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PySpread(PyLoihiProcessModel):  # type: ignore[misc]
    """CPU model of Spread."""

    s_in: Any = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    s_out: Any = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.silence = np.zeros(proc_params["output_shape"], dtype=np.int32)
        places = [proc_params["first"][i] + proc_params["step"][i] * np.arange(proc_params["shape"][i]) for i in (0, 1)]
        inside = [(place >= 0) & (place < self.silence.shape[i]) for i, place in enumerate(places)]
        self.kept = np.ix_(*(np.flatnonzero(each) for each in inside))
        self.to = np.ix_(*(place[each] for place, each in zip(places, inside, strict=True)))

    def run_spk(self) -> None:
        """One time step."""
        spread = self.silence.copy()
        spread[self.to] = self.s_in.recv()[self.kept]
        self.s_out.send(spread)
