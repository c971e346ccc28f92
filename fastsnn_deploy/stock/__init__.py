"""Sequential networks of stock lava-dl NetX layers and neurons, and their integer simulation."""

from fastsnn_deploy.stock.compare import difference as difference
from fastsnn_deploy.stock.network import Lif as Lif
from fastsnn_deploy.stock.network import Neuron as Neuron
from fastsnn_deploy.stock.network import Sdnn as Sdnn
from fastsnn_deploy.stock.network import StockConv as StockConv
from fastsnn_deploy.stock.network import StockDense as StockDense
from fastsnn_deploy.stock.network import StockFlatten as StockFlatten
from fastsnn_deploy.stock.network import StockInput as StockInput
from fastsnn_deploy.stock.network import StockLayer as StockLayer
from fastsnn_deploy.stock.network import StockNetwork as StockNetwork
from fastsnn_deploy.stock.rules import check as check
from fastsnn_deploy.stock.rules import problems_of as problems_of
from fastsnn_deploy.stock.simulate import Reset as Reset
from fastsnn_deploy.stock.simulate import StockRun as StockRun
from fastsnn_deploy.stock.simulate import run as run
