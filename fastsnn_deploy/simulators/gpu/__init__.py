"""The engine "gpu": one node after another, each with all its time steps at once, on tensor cores where they are exact.

Importing this package imports torch. Triton is imported only when its kernels run.
"""

from fastsnn_deploy.simulators.gpu.engine import GpuEngine as GpuEngine
