"""Quantisers of activations and weights, one file and one registration each. Layers choose theirs by name."""

from fastsnn_deploy.quantisation.quantisers import absmax, apot, clip, given, lsq, qcfs, uniform  # noqa: F401  they register
from fastsnn_deploy.quantisation.quantisers.base import ACTIVATION_QUANTISERS as ACTIVATION_QUANTISERS
from fastsnn_deploy.quantisation.quantisers.base import WEIGHT_QUANTISERS as WEIGHT_QUANTISERS
from fastsnn_deploy.quantisation.quantisers.base import ActivationQuantiser as ActivationQuantiser
from fastsnn_deploy.quantisation.quantisers.base import WeightQuantiser as WeightQuantiser
from fastsnn_deploy.quantisation.quantisers.base import activation_quantiser as activation_quantiser
from fastsnn_deploy.quantisation.quantisers.base import weight_quantiser as weight_quantiser
