"""The CPU engine: int8 convolutions over all steps of a layer, neurons in one pass over the charge."""

from fastsnn_deploy.engine.cpu.engine import CpuEngine as CpuEngine
