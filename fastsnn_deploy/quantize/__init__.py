"""Quantised training: drop-in layers, `prepare`, checkpoints that hold tensors and plain data only.

The package may be called: `fd.quantize(model, images)` is `quantize.post_training.quantize`.
"""

import sys
from types import ModuleType
from typing import Any

from fastsnn_deploy.quantize.calibration import calibrate as calibrate
from fastsnn_deploy.quantize.capture import canonicalise as canonicalise
from fastsnn_deploy.quantize.checkpoint import Checkpoint as Checkpoint
from fastsnn_deploy.quantize.checkpoint import load as load
from fastsnn_deploy.quantize.checkpoint import save as save
from fastsnn_deploy.quantize.layers import QuantActivation as QuantActivation
from fastsnn_deploy.quantize.layers import QuantConv2d as QuantConv2d
from fastsnn_deploy.quantize.layers import QuantConvTranspose2d as QuantConvTranspose2d
from fastsnn_deploy.quantize.layers import QuantInput as QuantInput
from fastsnn_deploy.quantize.layers import QuantLinear as QuantLinear
from fastsnn_deploy.quantize.post_training.quantize import quantize as _quantize
from fastsnn_deploy.quantize.post_training.report import PostTraining as PostTraining
from fastsnn_deploy.quantize.prepare import prepare as prepare


class _CalledByName(ModuleType):
    """A package that is called as the function of its name: `fd.quantize` cannot be both otherwise."""

    __wrapped__ = staticmethod(_quantize)  # its signature

    def __call__(self, *arguments: Any, **options: Any) -> PostTraining:
        return _quantize(*arguments, **options)


sys.modules[__name__].__class__ = _CalledByName
