"""Settings of the test suite."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from fastsnn_deploy.conversion.convert import convert
from fastsnn_deploy.formats import netx
from fastsnn_deploy.quantize import load
from fastsnn_deploy.training.recipe import Recipe, Stage
from fastsnn_deploy.training.trainer import Trainer

# Examples build networks: the first one of a process is slow, and file fixtures are fine to share.
settings.register_profile(
    "default",
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    derandomize=bool(os.environ.get("CI")),
)
settings.load_profile("default")
torch.set_num_threads(2)


@pytest.fixture(scope="session")
def checkpoint_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small residual network with max pooling, trained for a moment on the digits."""
    stages = [Stage(epochs=2, learning_rate=0.1), Stage(epochs=1, learning_rate=0.03, bits=2)]
    recipe = Recipe(
        name="test", data="digits", model="digits-net", model_options={"width": 4}, stages=tuple(stages), batch_size=64
    )
    path = tmp_path_factory.mktemp("checkpoint") / "model.pt"
    Trainer(recipe, path).run()
    return path


@pytest.fixture(scope="session")
def net_file(checkpoint_file: Path) -> Path:
    """The export of `checkpoint_file`."""
    path = checkpoint_file.with_name("model.net")
    netx.write(convert(load(checkpoint_file)), path)
    return path
