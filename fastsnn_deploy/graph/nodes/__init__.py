"""Nodes that are not synapses, one file a kind."""

from fastsnn_deploy.graph.nodes.input import Input as Input
from fastsnn_deploy.graph.nodes.max_pool import MaxPool2d as MaxPool2d
from fastsnn_deploy.graph.nodes.population import Population as Population
from fastsnn_deploy.graph.nodes.readout import Readout as Readout
from fastsnn_deploy.graph.nodes.routing import Concat as Concat
from fastsnn_deploy.graph.nodes.routing import Flatten as Flatten
