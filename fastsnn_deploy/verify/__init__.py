"""Proof by integers: integer network == settled spiking network, and reference == backend at every step."""

from fastsnn_deploy.verify.compare import Comparison as Comparison
from fastsnn_deploy.verify.compare import Difference as Difference
from fastsnn_deploy.verify.compare import compare_runs as compare_runs
from fastsnn_deploy.verify.compare import compare_settled as compare_settled
from fastsnn_deploy.verify.population import verify_population as verify_population
from fastsnn_deploy.verify.verify import Backend as Backend
from fastsnn_deploy.verify.verify import Verification as Verification
from fastsnn_deploy.verify.verify import verify as verify
