"""Capture a trained twin as a quantised graph: integer weights, scales, and nothing of PyTorch."""

from fastsnn_deploy.trace.quant_graph import QuantGraph as QuantGraph
from fastsnn_deploy.trace.tracer import trace as trace
