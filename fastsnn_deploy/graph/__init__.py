"""The integer spiking graph: data classes, validation, range analysis, and its file format. NumPy only."""

from fastsnn_deploy.graph.encoded import Encoded as Encoded
from fastsnn_deploy.graph.events import Events as Events
from fastsnn_deploy.graph.file import load as load
from fastsnn_deploy.graph.file import save as save
from fastsnn_deploy.graph.node import Node as Node
from fastsnn_deploy.graph.nodes import Concat as Concat
from fastsnn_deploy.graph.nodes import Flatten as Flatten
from fastsnn_deploy.graph.nodes import Input as Input
from fastsnn_deploy.graph.nodes import MaxPool2d as MaxPool2d
from fastsnn_deploy.graph.nodes import Population as Population
from fastsnn_deploy.graph.nodes import Readout as Readout
from fastsnn_deploy.graph.schedule import Schedule as Schedule
from fastsnn_deploy.graph.spike_trains import SpikeTrains as SpikeTrains
from fastsnn_deploy.graph.spike_trains import spike_trains as spike_trains
from fastsnn_deploy.graph.spiking_graph import SpikingGraph as SpikingGraph
from fastsnn_deploy.graph.synapses import Conv2d as Conv2d
from fastsnn_deploy.graph.synapses import ConvTranspose2d as ConvTranspose2d
from fastsnn_deploy.graph.synapses import Identity as Identity
from fastsnn_deploy.graph.synapses import Linear as Linear
from fastsnn_deploy.graph.synapses import SumPool2d as SumPool2d
from fastsnn_deploy.graph.synapses import Synapse as Synapse
from fastsnn_deploy.graph.synapses import Upsample as Upsample
