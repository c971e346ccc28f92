"""Loihi 2 through Intel's closed extension of Lava: what is there, and runs on it. Not run on silicon.

Importing this imports neither Lava nor the extension; both are only touched in processes of their own.
"""

from fastsnn_deploy.backends.loihi.backend import LoihiRun as LoihiRun
from fastsnn_deploy.backends.loihi.backend import require_stock_neurons as require_stock_neurons
from fastsnn_deploy.backends.loihi.backend import run_stock as run_stock
from fastsnn_deploy.backends.loihi.checks import check as check
from fastsnn_deploy.backends.loihi.checks import problems_of as problems_of
from fastsnn_deploy.backends.loihi.detection import Board as Board
from fastsnn_deploy.backends.loihi.detection import Detection as Detection
from fastsnn_deploy.backends.loihi.detection import detect as detect
from fastsnn_deploy.backends.loihi.measurement import Measurement as Measurement
