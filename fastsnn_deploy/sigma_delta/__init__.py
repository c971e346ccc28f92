"""Spiking graphs as sigma-delta networks of stock Lava layers with graded spikes: close, not exact, with a bound."""

from fastsnn_deploy.sigma_delta.convert import LayerBound as LayerBound
from fastsnn_deploy.sigma_delta.convert import SigmaDeltaNetwork as SigmaDeltaNetwork
from fastsnn_deploy.sigma_delta.convert import convert as convert
from fastsnn_deploy.sigma_delta.measure import Comparison as Comparison
from fastsnn_deploy.sigma_delta.measure import LayerError as LayerError
from fastsnn_deploy.sigma_delta.measure import compare as compare
from fastsnn_deploy.sigma_delta.merge import stages_of as stages_of
from fastsnn_deploy.sigma_delta.stages import Stage as Stage
from fastsnn_deploy.sigma_delta.stages import Unit as Unit
