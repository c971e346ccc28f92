"""NIR files through the `nir` package: export with a report of what NIR cannot say, and import. See `docs/nir.md`."""

from fastsnn_deploy.formats.nir import format as _format  # noqa: F401  registers the format
from fastsnn_deploy.formats.nir.foreign import import_nir as import_nir
from fastsnn_deploy.formats.nir.graph_file import export_graph as export_graph
from fastsnn_deploy.formats.nir.graph_file import import_graph as import_graph
from fastsnn_deploy.formats.nir.report import Loss as Loss
from fastsnn_deploy.formats.nir.report import LossReport as LossReport
from fastsnn_deploy.formats.nir.thermometer import export_thermometer as export_thermometer
from fastsnn_deploy.formats.nir.thermometer import import_thermometer as import_thermometer
