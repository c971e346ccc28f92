"""A process model for Lava's stock Conv process: im2col and one matrix product, the same integers in less time."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.proc.conv.process import Conv
from numpy.lib.stride_tricks import sliding_window_view

HALF = 2**23


@implements(proc=Conv, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyConvMatrix(PyLoihiProcessModel):  # type: ignore[misc]
    """CPU model of lava.proc.conv.process.Conv; wraps to 24 bits as PyConvModelFixed does.

    Kernel size, stride, padding, dilation and groups are int32; the stock model stores them as int8.
    """

    s_in: Any = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    a_out: Any = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)
    a_buf: Any = LavaPyType(np.ndarray, np.int32, precision=24)
    weight: Any = LavaPyType(np.ndarray, np.int32, precision=8)
    kernel_size: Any = LavaPyType(np.ndarray, np.int32, precision=8)
    stride: Any = LavaPyType(np.ndarray, np.int32, precision=8)
    padding: Any = LavaPyType(np.ndarray, np.int32, precision=8)
    dilation: Any = LavaPyType(np.ndarray, np.int32, precision=8)
    groups: Any = LavaPyType(np.ndarray, np.int32, precision=8)
    num_message_bits: Any = LavaPyType(np.ndarray, np.int32, precision=5)
    weight_exp: Any = LavaPyType(np.ndarray, np.int32, precision=8)
    num_weight_bits: Any = LavaPyType(np.ndarray, np.int32, precision=5)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.kernels: npt.NDArray[np.float64] | None = None

    def run_spk(self) -> None:
        """One time step: sends the synaptic input of the step before, then computes the next."""
        self.a_out.send(self.a_buf)
        spikes = self.s_in.recv()
        if self.num_message_bits.item() == 0:
            spikes = spikes.astype(bool)
        if not spikes.any():
            self.a_buf = np.zeros(self.a_buf.shape, dtype=np.int32)
            return
        synaptic_input = self.correlate(spikes).astype(np.int64)
        self.a_buf = ((synaptic_input + HALF) % (2 * HALF) - HALF).astype(np.int32)

    def correlate(self, spikes: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Synaptic input (OW, OH, O) of spikes (W, H, I). float64 is exact: every sum stays below 2**53."""
        groups = int(self.groups[0])
        if self.kernels is None:
            # Lava convolves, so its kernel is flipped; [O, kw, kh, I/groups] -> [groups, taps, O/groups]
            flipped = self.weight[:, ::-1, ::-1, :].astype(np.float64)
            self.kernels = np.ascontiguousarray(flipped.reshape(groups, len(flipped) // groups, -1).transpose(0, 2, 1))
        columns = self.columns(spikes.astype(np.float64), groups)
        # [groups, positions, taps] x [groups, taps, O/groups]
        product = np.matmul(columns, self.kernels)
        return np.asarray(product.transpose(1, 0, 2).reshape(self.a_buf.shape))

    def columns(self, spikes: npt.NDArray[np.float64], groups: int) -> npt.NDArray[np.float64]:
        """im2col: [groups, OW * OH, kw * kh * I/groups]."""
        pads, strides, dilations = self.padding.tolist(), self.stride.tolist(), self.dilation.tolist()
        padded = np.pad(spikes, ((pads[0],) * 2, (pads[1],) * 2, (0, 0)))
        extent = tuple(dilations[i] * (int(self.kernel_size[i]) - 1) + 1 for i in (0, 1))
        view = sliding_window_view(padded, extent, axis=(0, 1))  # type: ignore[call-overload]
        view = view[:: strides[0], :: strides[1], :, :: dilations[0], :: dilations[1]]  # [OW, OH, I, kw, kh]
        width, height, channels, kw, kh = view.shape
        grouped = view.reshape(width, height, groups, channels // groups, kw, kh)
        return np.asarray(grouped.transpose(2, 0, 1, 4, 5, 3).reshape(groups, width * height, -1))
