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

from fastsnn_deploy.backends.lava.processes.state import wrap
from fastsnn_deploy.graph.synapses.conv2d import correlate


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
        self.a_buf = wrap(self.synaptic_input(spikes).astype(np.int64)).astype(np.int32)

    def synaptic_input(self, spikes: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Synaptic input (OW, OH, O) of spikes (W, H, I). float64 is exact: every sum stays below 2**53."""
        if self.kernels is None:
            # Lava convolves, so its kernel is flipped; [O, kw, kh, I/groups] -> [O, I/groups, kw, kh]
            flipped = self.weight[:, ::-1, ::-1, :].astype(np.float64)
            self.kernels = np.ascontiguousarray(flipped.transpose(0, 3, 1, 2))
        maps = spikes.astype(np.float64).transpose(2, 0, 1)[None]
        stride, padding, dilation = (tuple(each.tolist()) for each in (self.stride, self.padding, self.dilation))
        made = correlate(maps, self.kernels, stride, padding, dilation, int(self.groups[0]), np.matmul)
        return np.asarray(made[0].transpose(1, 2, 0))
