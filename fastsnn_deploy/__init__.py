"""From a PyTorch network to a neuromorphic chip, with proof that nothing was lost on the way.

import fastsnn_deploy as fd

q = fd.prepare(model, bits=2, weight_bits=4)   # a torch.nn.Module: train it, or
fd.calibrate(q, images)
snn = fd.convert(q, input_shape=(3, 32, 32))   # the integer spiking network
fd.verify(q, images)                           # every neuron's integer is right
fd.export(snn, "model.net")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from fastsnn_deploy.analysis.check import Check as Check
    from fastsnn_deploy.analysis.check import check as check
    from fastsnn_deploy.analysis.choosing.run import compare_targets as compare_targets
    from fastsnn_deploy.analysis.comparison.run import compare as compare
    from fastsnn_deploy.analysis.evaluation import Evaluation as Evaluation
    from fastsnn_deploy.analysis.events import evaluate_events as evaluate_events
    from fastsnn_deploy.analysis.mapping.result import Mapping as Mapping
    from fastsnn_deploy.analysis.mapping.run import map_cores as map_cores
    from fastsnn_deploy.analysis.result import Profile as Profile
    from fastsnn_deploy.analysis.sanafe.run import export_sanafe as export_sanafe
    from fastsnn_deploy.analysis.verify import Verification as Verification
    from fastsnn_deploy.api import calibrate as calibrate
    from fastsnn_deploy.api import convert as convert
    from fastsnn_deploy.api import export as export
    from fastsnn_deploy.api import fit as fit
    from fastsnn_deploy.api import load_data as load_data
    from fastsnn_deploy.api import prepare as prepare
    from fastsnn_deploy.api import profile as profile
    from fastsnn_deploy.api import read as read
    from fastsnn_deploy.api import simulate as simulate
    from fastsnn_deploy.api import verify as verify
    from fastsnn_deploy.api.evaluate import evaluate as evaluate
    from fastsnn_deploy.conversion.by_hand import Graph as Graph
    from fastsnn_deploy.errors import DeployError as DeployError
    from fastsnn_deploy.errors import InputError as InputError
    from fastsnn_deploy.graph import Encoded as Encoded
    from fastsnn_deploy.graph import Events as Events
    from fastsnn_deploy.graph import SpikingGraph as SpikingGraph
    from fastsnn_deploy.graph import spike_trains as spike_trains
    from fastsnn_deploy.graph.preprocessing import Preprocessing as Preprocessing
    from fastsnn_deploy.graph.run import Run as Run
    from fastsnn_deploy.quantisation import Checkpoint as Checkpoint
    from fastsnn_deploy.quantisation.given import load as load
    from fastsnn_deploy.quantisation.given import save as save
    from fastsnn_deploy.quantisation.others.take import from_quantised as from_quantised
    from fastsnn_deploy.quantisation.post_training.quantize import quantize as quantize
    from fastsnn_deploy.reporting.run import report as report
    from fastsnn_deploy.tasks.network import task_of as task_of
    from fastsnn_deploy.training.event_files import read_events as read_events
    from fastsnn_deploy.training.load_model import load_model as load_model
    from fastsnn_deploy.training.published import preprocessing as preprocessing
    from fastsnn_deploy.tuning.run import tune as tune

_HOMES = {
    "api": (
        "calibrate", "convert", "export", "fit", "load_data", "prepare", "profile", "read",
        "simulate", "verify",
    ),
    "analysis.check": ("Check", "check"),
    "analysis.choosing.run": ("compare_targets",),
    "analysis.comparison.run": ("compare",),
    "analysis.evaluation": ("Evaluation",),
    "analysis.events": ("evaluate_events",),
    "analysis.mapping.result": ("Mapping",),
    "analysis.mapping.run": ("map_cores",),
    "analysis.result": ("Profile",),
    "analysis.sanafe.run": ("export_sanafe",),
    "analysis.verify": ("Verification",),
    "conversion.by_hand": ("Graph",),
    "errors": ("DeployError", "InputError"),
    "graph": ("Encoded", "Events", "SpikingGraph", "spike_trains"),
    "graph.run": ("Run",),
    "quantisation": ("Checkpoint",),
    "quantisation.others.take": ("from_quantised",),
    "quantisation.given": ("load", "save"),
    "quantisation.post_training.quantize": ("quantize",),
    "reporting.run": ("report",),
    "tasks.network": ("task_of",),
    "api.evaluate": ("evaluate",),
    "graph.preprocessing": ("Preprocessing",),
    "training.event_files": ("read_events",),
    "training.load_model": ("load_model",),
    "training.published": ("preprocessing",),
    "tuning.run": ("tune",),
}  # fmt: skip
"""Where each name of the door lives; a module is imported when one of its names is first used."""

_MODULES = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_MODULES)]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'fastsnn_deploy' has no attribute '{name}'")
    return getattr(import_module(f"fastsnn_deploy.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
