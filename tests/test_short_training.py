"""What makes a training short: averaged weights, growing images, alternating flips, held-out images, own teachers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.processes import Processes
from fastsnn_deploy.quantisation import load
from fastsnn_deploy.quantisation.sources.weights import load_weights
from fastsnn_deploy.training.averaging import Averaged
from fastsnn_deploy.training.batches import Batches, alternating, scaled
from fastsnn_deploy.training.data import load_images
from fastsnn_deploy.training.distributed import Group
from fastsnn_deploy.training.images import apart
from fastsnn_deploy.training.models import build
from fastsnn_deploy.training.recipe import Augment, Recipe, load_recipe
from fastsnn_deploy.training.trainer import Trainer
from tests.test_train import Stop, run, same, small

STAGES = [
    {
        "epochs": 2,
        "learning_rate": 0.1,
        "warmup": 1.5,
        "average": 0.9,
        "sizes": {"0": 6, "1": 8},
        "label_smoothing": 0.1,
    },
    {"epochs": 2, "learning_rate": 0.03, "bits": 2, "average": 0.9, "weight_decay": 0.0},
]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def short(**options: Any) -> Recipe:
    """A recipe of a second that uses everything."""
    values = {"stages": STAGES, "teacher": {}, "hold_out": 61, "augment": {"shift": 1, "flip": "alternate"}}
    return small(**{**values, **options})


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    torch.set_num_threads(1)
    return run(short(), tmp_path_factory.mktemp("uninterrupted"))


@pytest.mark.parametrize("batch", [12, 23, 37])
def test_interrupted_anywhere_resumes_to_the_same_weights(
    batch: int, uninterrupted: dict[str, Tensor], tmp_path: Path
) -> None:
    def stop(done: int, total: int) -> None:
        assert total == 40
        if done == batch:
            raise Stop

    with pytest.raises(Stop):
        run(short(), tmp_path, progress=stop)
    trainer = Trainer(short(), tmp_path / "model.pt")
    assert same(trainer.run(resume=True).model.state_dict(), uninterrupted)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model-float.pt", "model.pt"]


def test_states_are_written_as_often_as_asked(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 15:
            assert not (tmp_path / "model.pt.resume").exists()
            raise Stop

    with pytest.raises(Stop):
        run(short(resume_every=2), tmp_path, progress=stop)


def test_the_float_network_teaches_and_stays(tmp_path: Path) -> None:
    seen: list[float] = []
    trainer = Trainer(
        short(), tmp_path / "model.pt", progress=lambda *_: seen.append(float(trainer.teacher is not None))
    )
    trainer.run()
    assert seen == [0.0] * 20 + [1.0] * 20
    network = build("digits-net", channels=1, classes=10, width=4)
    load_weights(network, tmp_path / "model-float.pt")
    assert trainer.teacher is not None
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), trainer.teacher.parameters(), strict=True))
    alone = run(short(teacher=None), tmp_path / "alone")
    assert not same(load(tmp_path / "model.pt").model.state_dict(), alone)
    assert not (tmp_path / "alone" / "model-float.pt").exists()


def test_held_out_images_are_measured_and_never_trained_on(tmp_path: Path) -> None:
    lines: list[str] = []
    trainer = Trainer(short(), tmp_path / "model.pt", log=lines.append)
    everything = load_images("few-digits", "train")
    assert (len(trainer.train_images.labels), len(trainer.measured.labels)) == (200, 61)
    both = torch.cat([trainer.train_images.levels, trainer.measured.levels])
    assert sorted(map(bytes, both.flatten(1).numpy())) == sorted(map(bytes, everything.levels.flatten(1).numpy()))
    checkpoint = trainer.run()
    assert all("held-out accuracy" in line for line in lines)
    expected = trainer.accuracy(checkpoint.model, load_images("few-digits", "test"))
    assert checkpoint.metadata["quantised_accuracy"] == expected
    again, _ = apart(everything, 61, 0)
    assert torch.equal(again.levels, trainer.train_images.levels)
    assert not torch.equal(apart(everything, 61, 1)[0].levels, again.levels)
    with pytest.raises(InputError, match="261 training images cannot be held out: it has 261"):
        apart(everything, 261, 0)


def test_averages_equal_a_slow_loop() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    averaged = Averaged(model, 0.75)
    expected = {name: value.double().clone() for name, value in model.state_dict().items()}
    for _ in range(3):
        with torch.no_grad():
            for value in model.state_dict().values():
                value.add_(torch.ones_like(value))
        averaged.update()
        for name, value in model.state_dict().items():
            expected[name] += 0.25 * (value.double() - expected[name])
    for name, value in averaged.values.items():
        assert torch.allclose(value.double(), expected[name], atol=1e-6)
    assert "1.num_batches_tracked" not in averaged.values
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with averaged.applied():
        assert torch.equal(model[0].weight, averaged.values["0.weight"])
    assert same(before, model.state_dict())
    averaged.adopt()
    assert torch.equal(model[1].running_mean, averaged.values["1.running_mean"])
    assert int(model[1].num_batches_tracked) == 3


def test_every_image_is_mirrored_in_every_other_epoch() -> None:
    first, second, third = (alternating(1000, 5, epoch) for epoch in range(3))
    assert torch.equal(first, ~second)
    assert torch.equal(first, third)
    assert 400 < int(first.sum()) < 600
    assert not torch.equal(first, alternating(1000, 6, 0))
    data = load_images("few-digits", "test")
    batches = Batches(data, 20, Group(Processes(), torch.device("cpu")), torch.device("cpu"))
    generator = torch.Generator().manual_seed(3)
    mirrored = alternating(100, 5, 0)
    images = torch.cat([batch[0] for batch, _, _ in batches.epoch(Augment(), generator, mirrored)])
    order = torch.randperm(100, generator=torch.Generator().manual_seed(3))
    for image, number in zip(images, order.tolist(), strict=True):
        plain = data.raw(slice(number, number + 1))[0]
        assert torch.equal(image, plain.flip(2) if mirrored[number] else plain)


def test_images_grow_as_the_stage_says() -> None:
    stage = short(
        stages=[{"epochs": 9, "learning_rate": 1, "bits": 2, "sizes": {"1": 6, "4": 7}}], teacher=None
    ).stages[0]
    assert [stage.size(epoch) for epoch in (0, 1, 3, 4, 8)] == [None, 6, 6, 7, 7]
    images = torch.rand(3, 2, 8, 8)
    assert torch.allclose(scaled(images, 4), scaled(images.flip(3), 4).flip(3), atol=1e-6)
    assert scaled(images, 4).shape == (3, 2, 4, 4)
    assert not torch.allclose(scaled(images, 4), F.interpolate(images, size=(4, 4)))


def test_the_learning_rate_rises_over_any_number_of_epochs() -> None:
    stage = short().stages[0].model_copy(update={"epochs": 10, "warmup": 4.0, "learning_rate": 1.0})
    rates = [stage.rate(stage.learning_rate, epoch / 4) for epoch in range(41)]
    peak = rates.index(max(rates))
    assert rates[0] < 0.01
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"teacher": {"model": "resnet20"}}, "model and weights, or neither"),
        ({"stages": STAGES[1:]}, "need a float stage"),
        ({"stages": STAGES[1:], "teacher": None, "keep_float": True}, "need a float stage"),
        ({"augment": {"flip": "sometimes"}}, "flip"),
        ({"stages": [{**STAGES[0], "average": 1.0}, STAGES[1]]}, "average"),
        ({"stages": [{**STAGES[0], "sizes": {"-1": 8}}, STAGES[1]]}, "sizes"),
        ({"hold_out": -1}, "hold_out"),
    ],
)
def test_recipes_that_make_no_sense(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        short(**wrong)


@pytest.mark.parametrize("name", ["short-resnet18-2bit", "short-vgg16-2bit", "short-qcfs-vgg16-L4"])
def test_whole_batches_and_few_sizes(name: str) -> None:
    """Every new shape is compiled anew: minutes, where the training takes few."""
    recipe = load_recipe(name)
    assert 50_000 % recipe.batch_size == 0
    assert sum(len(stage.sizes) for stage in recipe.stages) <= 2
