"""Files that networks are written to and read from, one folder a format."""

from fastsnn_deploy.formats.base import Network as Network
from fastsnn_deploy.formats.base import as_network as as_network
from fastsnn_deploy.formats.base import formats as formats
from fastsnn_deploy.formats.base import read_network as read_network
