"""Quantised training: drop-in layers, `prepare`, checkpoints that hold tensors and plain data only."""

from fastsnn_deploy.quantisation.calibration import calibrate as calibrate
from fastsnn_deploy.quantisation.capture import canonicalise as canonicalise
from fastsnn_deploy.quantisation.checkpoint import Checkpoint as Checkpoint
from fastsnn_deploy.quantisation.checkpoint import load as load
from fastsnn_deploy.quantisation.checkpoint import save as save
from fastsnn_deploy.quantisation.layers import QuantActivation as QuantActivation
from fastsnn_deploy.quantisation.layers import QuantConv2d as QuantConv2d
from fastsnn_deploy.quantisation.layers import QuantConvTranspose2d as QuantConvTranspose2d
from fastsnn_deploy.quantisation.layers import QuantInput as QuantInput
from fastsnn_deploy.quantisation.layers import QuantLinear as QuantLinear
from fastsnn_deploy.quantisation.prepare import prepare as prepare
