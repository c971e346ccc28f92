"""Quantised and spiking networks of other projects' own modules: `from_quantised`."""

from fastsnn_deploy.quantisation.others import fast_snn, qcfs, spikingjelly  # noqa: F401  they register
from fastsnn_deploy.quantisation.others.find import found_in as found_in
