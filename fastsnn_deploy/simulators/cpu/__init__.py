"""The CPU engine: int8 convolutions over all steps of a layer, neurons in one pass over the synaptic input."""

from fastsnn_deploy.simulators.cpu import compilation as _compilation  # noqa: F401  says when loops are compiled
from fastsnn_deploy.simulators.cpu.engine import CpuEngine as CpuEngine
