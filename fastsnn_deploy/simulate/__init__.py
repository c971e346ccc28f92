"""What a spiking graph computes: the integer network without time, and the reference simulator step by step."""

from fastsnn_deploy.simulate.integer_network import evaluate as evaluate
from fastsnn_deploy.simulate.integer_network import logits as logits
from fastsnn_deploy.simulate.reference import simulate as simulate
from fastsnn_deploy.simulate.run import Run as Run
from fastsnn_deploy.simulate.stream import Stream as Stream
from fastsnn_deploy.simulate.stream import stream as stream
