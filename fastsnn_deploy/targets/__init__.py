"""What a spiking graph becomes for a chip or a simulator. One file or folder a target: decorate it, import it here."""

from fastsnn_deploy.targets import spiking as spiking
from fastsnn_deploy.targets import stock_lif as stock_lif
from fastsnn_deploy.targets.base import TARGETS as TARGETS
from fastsnn_deploy.targets.base import Converted as Converted
from fastsnn_deploy.targets.base import target_named as target_named
from fastsnn_deploy.targets.base import to_target as to_target
from fastsnn_deploy.targets.sigma_delta import target as sigma_delta  # noqa: F401  registers the target
