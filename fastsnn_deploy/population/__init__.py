"""Population code: a spiking graph as a sequential network of stock LIF neurons, exact and one step per layer."""

from fastsnn_deploy.population.chain import Boundary as Boundary
from fastsnn_deploy.population.chain import Chain as Chain
from fastsnn_deploy.population.chain import Copied as Copied
from fastsnn_deploy.population.chain import Part as Part
from fastsnn_deploy.population.chain import Stage as Stage
from fastsnn_deploy.population.chain import Target as Target
from fastsnn_deploy.population.chain import Weighted as Weighted
from fastsnn_deploy.population.check import problems_of as problems_of
from fastsnn_deploy.population.check import require_stock as require_stock
from fastsnn_deploy.population.code import Placement as Placement
from fastsnn_deploy.population.plan import chain as chain
from fastsnn_deploy.population.population import PopulationNetwork as PopulationNetwork
from fastsnn_deploy.population.population import placements_of as placements_of
from fastsnn_deploy.population.population import to_population as to_population
from fastsnn_deploy.population.stock_range import changed_counts as changed_counts
from fastsnn_deploy.population.stock_range import to_stock_range as to_stock_range
