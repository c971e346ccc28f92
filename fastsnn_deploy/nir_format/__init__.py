"""NIR files through the `nir` package: export with a report of what NIR cannot say, and import. See `docs/nir.md`."""

from fastsnn_deploy.nir_format.foreign import import_nir as import_nir
from fastsnn_deploy.nir_format.graph_file import export_graph as export_graph
from fastsnn_deploy.nir_format.graph_file import import_graph as import_graph
from fastsnn_deploy.nir_format.population import export_population as export_population
from fastsnn_deploy.nir_format.population import import_population as import_population
from fastsnn_deploy.nir_format.report import Loss as Loss
from fastsnn_deploy.nir_format.report import LossReport as LossReport
