"""Training under torchrun: one set of weights, the same ones again, and the same ones after a kill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.processes import Processes
from fastsnn_deploy.quantisation import load
from fastsnn_deploy.training.distributed import Group
from fastsnn_deploy.training.trainer import Trainer
from tests.test_train import same, small

ROOT = Path(__file__).parents[1]

TRAIN = """
import os, signal, sys, torch
from fastsnn_deploy.processes import Processes
from fastsnn_deploy.training.trainer import Trainer
from tests.test_train import small

processes = Processes.from_environment()

def kill(done, total):
    if sys.argv[2] == "kill" and done == 46 and processes.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)

trainer = Trainer(small(), sys.argv[1] + "/model.pt", progress=kill, processes=processes)
quantised = trainer.run(resume=sys.argv[2] == "resume").model
torch.save(quantised.state_dict(), f"{sys.argv[1]}/{processes.rank}.weights")
"""

GRADIENTS = """
import sys, torch
from torch import nn
from fastsnn_deploy.processes import Processes, connected
from fastsnn_deploy.training.distributed import Group

processes = Processes.from_environment()
group = Group(processes, torch.device("cpu"))
with connected(processes):
    torch.manual_seed(processes.rank)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2), nn.Linear(2, 2))
    group.agree(model)
    inputs = torch.arange(21.0).view(7, 3) / 10 - 1
    loss = model[:3](inputs[group.share(7)]).square().sum()
    loss.backward()
    group.sum_gradients(model.parameters())
    total = float(group.sum(loss.detach()))
    unused = all(parameter.grad is None for parameter in model[3].parameters())
torch.save(([p.grad for p in model[:3].parameters()], total, unused, model.state_dict()),
           f"{sys.argv[1]}/{processes.rank}.gradients")
"""


def torchrun(program: str, *arguments: str, processes: int = 2) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command += ["--no-python", sys.executable, "-c", program, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("together")
    done = torchrun(TRAIN, str(folder), "whole")
    assert done.returncode == 0, done.stderr
    return folder


def weights(folder: Path, rank: int) -> dict[str, torch.Tensor]:
    return torch.load(folder / f"{rank}.weights")


def test_all_processes_end_with_the_weights_of_the_checkpoint(together: Path) -> None:
    saved = load(together / "model.pt").model.state_dict()
    assert same(weights(together, 0), saved)
    assert same(weights(together, 1), saved)
    assert sorted(path.name for path in together.glob("*.pt*")) == ["model-4bit.pt", "model.pt"]


def test_killed_and_resumed_gives_the_same_weights(together: Path, tmp_path: Path) -> None:
    killed = torchrun(TRAIN, str(tmp_path), "kill")
    assert killed.returncode != 0
    assert (tmp_path / "model.pt.resume").exists()
    assert not (tmp_path / "model.pt").exists()
    done = torchrun(TRAIN, str(tmp_path), "resume")
    assert done.returncode == 0, done.stderr
    assert same(weights(tmp_path, 1), weights(together, 0))


def test_gradients_are_those_of_the_whole_batch(tmp_path: Path) -> None:
    for processes in (1, 2):
        (tmp_path / str(processes)).mkdir()
        done = torchrun(GRADIENTS, str(tmp_path / str(processes)), processes=processes)
        assert done.returncode == 0, done.stderr
    alone = torch.load(tmp_path / "1" / "0.gradients")
    for rank in (0, 1):
        found = torch.load(tmp_path / "2" / f"{rank}.gradients")
        assert same(found[3], alone[3])  # whatever each process was seeded with
        for mine, whole in zip(found[0], alone[0], strict=True):
            assert torch.allclose(mine, whole, rtol=1e-5)
        assert found[1] == pytest.approx(alone[1])
        assert found[2]
        assert alone[2]


def test_the_command(tmp_path: Path) -> None:
    recipe = small().model_dump(mode="json") | {"data": "digits"}
    recipe["stages"] = recipe["stages"][1:2]
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(recipe))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "fastsnn_deploy", "train", "--recipe", "small.yaml", "-o", "model.pt", "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)  # one object, from the first process
    assert report["quantised_accuracy"] > 0.3
    assert load(tmp_path / "model.pt").metadata["quantised_accuracy"] == report["quantised_accuracy"]
    assert done.stderr.count("epoch 2/2") == 1


def test_a_batch_left_over_that_is_too_small_for_all(tmp_path: Path) -> None:
    group = Group(Processes(0, 4, 4), torch.device("cpu"))
    assert [group.smallest(count) for count in (3, 7, 8)] == [0, 1, 2]
    assert Group(Processes(), torch.device("cpu")).smallest(2) == 2


def test_batches_too_small_for_all_are_refused(tmp_path: Path) -> None:
    message = r"batches of 20 \(batch_size 20, \d+ training images\) are fewer than two images for each of 11 processes"
    with pytest.raises(InputError, match=message):
        Trainer(small(), tmp_path / "model.pt", processes=Processes(0, 11, 11))
    Trainer(small(), tmp_path / "model.pt", processes=Processes(0, 10, 10))
