"""Synapse types. To add one: write its file, decorate its class with `@register`, import it here."""

from fastsnn_deploy.graph.synapses.base import MAX_EXPONENT as MAX_EXPONENT
from fastsnn_deploy.graph.synapses.base import Synapse as Synapse
from fastsnn_deploy.graph.synapses.base import zero_exponent as zero_exponent
from fastsnn_deploy.graph.synapses.channelwise import Identity as Identity
from fastsnn_deploy.graph.synapses.channelwise import SumPool2d as SumPool2d
from fastsnn_deploy.graph.synapses.channelwise import Upsample as Upsample
from fastsnn_deploy.graph.synapses.conv2d import Conv2d as Conv2d
from fastsnn_deploy.graph.synapses.conv_transpose2d import ConvTranspose2d as ConvTranspose2d
from fastsnn_deploy.graph.synapses.linear import Linear as Linear
