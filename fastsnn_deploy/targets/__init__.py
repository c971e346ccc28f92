"""Where a spiking graph can go. To add a target: write its file, decorate its writer with `@target`, import it here."""

from fastsnn_deploy.targets import extension as extension
from fastsnn_deploy.targets import population as population
from fastsnn_deploy.targets import sigma_delta as sigma_delta
from fastsnn_deploy.targets.base import TARGETS as TARGETS
from fastsnn_deploy.targets.base import Exported as Exported
from fastsnn_deploy.targets.base import Format as Format
from fastsnn_deploy.targets.base import export as export
