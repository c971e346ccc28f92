"""Sequential networks of stock lava-dl NetX layers and neurons, and their integer simulation."""

from fastsnn_deploy.lava_dl.compare import difference as difference
from fastsnn_deploy.lava_dl.network import Lif as Lif
from fastsnn_deploy.lava_dl.network import Neuron as Neuron
from fastsnn_deploy.lava_dl.network import Sdnn as Sdnn
from fastsnn_deploy.lava_dl.network import StockConv as StockConv
from fastsnn_deploy.lava_dl.network import StockDense as StockDense
from fastsnn_deploy.lava_dl.network import StockFlatten as StockFlatten
from fastsnn_deploy.lava_dl.network import StockInput as StockInput
from fastsnn_deploy.lava_dl.network import StockLayer as StockLayer
from fastsnn_deploy.lava_dl.network import StockNetwork as StockNetwork
from fastsnn_deploy.lava_dl.presentation import Presentation as Presentation
from fastsnn_deploy.lava_dl.presentation import present as present
from fastsnn_deploy.lava_dl.rules import check as check
from fastsnn_deploy.lava_dl.rules import problems_of as problems_of
from fastsnn_deploy.lava_dl.simulate import Reset as Reset
from fastsnn_deploy.lava_dl.simulate import StockRun as StockRun
from fastsnn_deploy.lava_dl.simulate import inferences as inferences
from fastsnn_deploy.lava_dl.simulate import layer_series as layer_series
from fastsnn_deploy.lava_dl.simulate import run as run
