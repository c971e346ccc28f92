"""Stand-in: the chip's model of LIF is Lava's bit-accurate CPU model."""

from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.nc.model import AbstractNcProcessModel
from lava.magma.core.resources import Loihi2NeuroCore
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.proc.lif import models, process


@implements(proc=process.LIF, protocol=LoihiProtocol)
@requires(Loihi2NeuroCore)
@tag("fixed_pt")
class NcModelLIF(models.PyLifModelBitAcc, AbstractNcProcessModel):
    pass
