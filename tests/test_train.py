"""Training: repeatable to the bit, resumable from any interruption, and clear about mistakes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor, nn

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.quantisation import QuantActivation, calibrate, load, prepare
from fastsnn_deploy.quantisation.bit_plan import set_bits
from fastsnn_deploy.training.data import DATASETS, Images, Split, dataset, load_images
from fastsnn_deploy.training.models import MODELS, build
from fastsnn_deploy.training.recipe import Recipe, Stage, load_recipe, recipe_names
from fastsnn_deploy.training.resume import read_state
from fastsnn_deploy.training.trainer import Trainer

STAGES = [
    {"epochs": 2, "learning_rate": 0.1},
    {"epochs": 2, "learning_rate": 0.03, "bits": 4, "weight_bits": 8},
    {"epochs": 2, "learning_rate": 0.02, "bits": 2, "weight_bits": 3, "warmup": True},
]


@dataset("few-digits")
def _few_digits(root: Path, split: Split, download: bool) -> Images:
    """The first 261 digits to train, the first 100 to test."""
    images = load_images("digits", split)
    count = 261 if split == "train" else 100
    return replace(images, levels=images.levels[:count], labels=images.labels[:count])


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def small(**options: Any) -> Recipe:
    """A recipe of a second: a narrow net, 13 batches an epoch and one image left over."""
    values: dict[str, Any] = {
        "name": "small", "data": "few-digits", "model": "digits-net", "model_options": {"width": 4}, "stages": STAGES,
        "batch_size": 20, "augment": {"shift": 1, "flip": True},
    }  # fmt: skip
    return Recipe.model_validate({**values, **options})


def run(recipe: Recipe, folder: Path, **options: Any) -> dict[str, Tensor]:
    return Trainer(recipe, folder / "model.pt", **options).run().model.state_dict()


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    torch.set_num_threads(1)
    return run(small(), tmp_path_factory.mktemp("uninterrupted"))


# --- repeatable and resumable ------------------------------------------------------------------------------------


def test_same_seed_same_weights_whatever_the_global_generator(uninterrupted: dict[str, Tensor], tmp_path: Path) -> None:
    torch.manual_seed(999)
    assert same(run(small(), tmp_path, progress=lambda done, total: torch.rand(done)), uninterrupted)
    assert not (tmp_path / "model.pt.resume").exists()


def test_another_seed_gives_other_weights(uninterrupted: dict[str, Tensor], tmp_path: Path) -> None:
    assert not same(run(small(seed=1), tmp_path), uninterrupted)


class Stop(Exception):  # noqa: N818
    pass


@pytest.mark.parametrize("batch", [14, 26, 33, 60, 78])
def test_interrupted_anywhere_resumes_to_the_same_weights(
    batch: int, uninterrupted: dict[str, Tensor], tmp_path: Path
) -> None:
    def stop(done: int, total: int) -> None:
        assert total == 78
        if done == batch:
            raise Stop

    with pytest.raises(Stop):
        run(small(), tmp_path, progress=stop)
    assert {path.name for path in tmp_path.iterdir()} - {"model-4bit.pt"} == {"model.pt.resume"}
    trainer = Trainer(small(), tmp_path / "model.pt")
    assert same(trainer.run(resume=True).model.state_dict(), uninterrupted)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model-4bit.pt", "model.pt"]


def test_killed_in_the_middle_of_an_epoch_resumes_to_the_same_weights(
    uninterrupted: dict[str, Tensor], tmp_path: Path
) -> None:
    program = textwrap.dedent("""
        import os, signal, sys
        from fastsnn_deploy.training.trainer import Trainer
        from tests.test_train import small

        def kill(done, total):
            if done == 46:
                os.kill(os.getpid(), signal.SIGKILL)

        Trainer(small(), sys.argv[1], progress=kill).run()
    """)
    root = Path(__file__).parents[1]
    command = [sys.executable, "-c", program, str(tmp_path / "model.pt")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, cwd=root, env=environment, timeout=120, check=False, capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    assert not (tmp_path / "model.pt").exists()
    assert same(Trainer(small(), tmp_path / "model.pt").run(resume=True).model.state_dict(), uninterrupted)


def test_resuming_twice_and_after_the_last_epoch(
    uninterrupted: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr("fastsnn_deploy.training.trainer.save", fail)
        with pytest.raises(Stop):
            run(small(), tmp_path)
    assert same(Trainer(small(), tmp_path / "model.pt").run(resume=True).model.state_dict(), uninterrupted)


def resume_state(folder: Path) -> dict[str, Any]:
    """The state after the first epoch."""

    def stop(done: int, total: int) -> None:
        if done == 14:
            raise Stop

    with pytest.raises(Stop):
        run(small(), folder, progress=stop)
    state: dict[str, Any] = torch.load(folder / "model.pt.resume", weights_only=True)
    return state


def test_resume_files_that_do_not_belong_are_refused(tmp_path: Path) -> None:
    state = resume_state(tmp_path)
    file = tmp_path / "model.pt.resume"
    with pytest.raises(InputError, match="belongs to another recipe"):
        Trainer(small(batch_size=100), tmp_path / "model.pt").run(resume=True)
    damages: list[dict[str, Any]] = [
        {"stage": 99}, {"stage": -1}, {"stage": "1"}, {"stage": None}, {"epoch": 0}, {"epoch": 3}, {"epoch": [1]},
        {"model": {}}, {"model": 3}, {"optimiser": {}}, {"optimiser": [1]}, {"format": "other"},
    ]  # fmt: skip
    for damage in damages:
        torch.save({**state, **damage}, file)
        with pytest.raises(InputError, match=r"model\.pt\.resume"):
            Trainer(small(), tmp_path / "model.pt").run(resume=True)
    for content in (b"", b"nonsense", file.read_bytes()[:500]):
        file.write_bytes(content)
        with pytest.raises(InputError, match=r"model\.pt\.resume"):
            Trainer(small(), tmp_path / "model.pt").run(resume=True)
    file.unlink()
    with pytest.raises(InputError, match="no such training state"):
        Trainer(small(), tmp_path / "model.pt").run(resume=True)
    assert not list(tmp_path.iterdir())


# --- what comes out ----------------------------------------------------------------------------------------------


def test_finished_checkpoint(tmp_path: Path) -> None:
    lines: list[str] = []
    stages = [{"epochs": 4, "learning_rate": 0.1}, {"epochs": 3, "learning_rate": 0.05, "bits": 3}]
    recipe = small(data="digits", batch_size=64, stages=stages, augment={})
    made = Trainer(recipe, tmp_path / "model.pt", log=lines.append).run()
    assert not any(module.training for module in made.model.modules())
    assert len(lines) == 7
    assert lines[0].startswith("stage 1/2 epoch 1/4: loss ")
    read = load(tmp_path / "model.pt")
    assert same(read.model.state_dict(), made.model.state_dict())
    assert read.input_shape == (1, 8, 8)
    assert Recipe.model_validate(read.metadata["recipe"]) == recipe
    test = load_images("digits", "test")
    predicted = read.model.eval()(test.raw(slice(None))).argmax(1)
    accuracy = float((predicted == test.labels).float().mean())
    assert read.metadata["quantised_accuracy"] == pytest.approx(accuracy, abs=1e-6)
    assert accuracy > 0.75


def test_stages_change_bits_of_hidden_layers_only(uninterrupted: dict[str, Tensor], tmp_path: Path) -> None:
    recipe = small(first_bits=6, last_bits=5, stages=[dict(stage, epochs=1) for stage in STAGES])
    quantised = Trainer(recipe, tmp_path / "model.pt").run().model
    bits = {name: module.weight_bits for name, module in quantised.named_modules() if hasattr(module, "weight_bits")}
    assert (bits.pop("stem.0"), bits.pop("classifier")) == (6, 5)
    assert set(bits.values()) == {3}
    assert {(m.bits, m.low, m.high) for m in quantised.modules() if isinstance(m, QuantActivation)} == {(2, 0, 3)}


def test_set_bits_keeps_ranges_signs_ties_and_learned_steps() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(1, 4, 3), nn.Conv2d(1, 4, 3), nn.Conv2d(8, 4, 1)
            self.d, self.relu = nn.Conv2d(4, 2, 1), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            joined = torch.cat([self.relu(self.a(x)), self.relu(self.b(x))], 1)
            return self.d(self.c(joined))  # type: ignore[no-any-return]

    quantised = prepare(Net().eval(), 4, 4, first_bits=4, last_bits=4)
    calibrate(quantised, torch.rand(8, 1, 8, 8))
    modules = [module for module in quantised.modules() if isinstance(module, QuantActivation)]
    ranges = [float(module.step.detach() * module.high) for module in modules]
    learned = {name: p.clone() for name, p in quantised.named_parameters() if "weight_step" in name}
    set_bits(quantised, 2, 4)
    assert [(module.bits, module.signed) for module in modules] == [(2, False), (2, False), (2, True)]
    assert [float(module.step.detach() * module.high) for module in modules] == pytest.approx(ranges)
    assert modules[0].step is modules[1].step
    assert all(torch.equal(quantised.get_parameter(name), step) for name, step in learned.items())
    set_bits(quantised, 1, 2)
    assert [(module.bits, module.low, module.high) for module in modules] == [(1, 0, 1), (1, 0, 1), (2, -2, 1)]
    layers = {name: quantised.get_submodule(name).weight_bits for name in "abcd"}
    assert layers == {"a": 4, "b": 4, "c": 2, "d": 4}


def test_a_stage_can_leave_the_statistics_of_batch_norm_as_they_are(tmp_path: Path) -> None:
    frozen = {"epochs": 1, "learning_rate": 0.02, "bits": 4, "weight_bits": 8, "freeze_batch_norm": True}
    after = run(small(stages=[*STAGES[:2], frozen]), tmp_path)
    before = load(tmp_path / "model-4bit.pt").model.state_dict()
    statistics = {name for name in after if "running" in name}
    assert statistics
    assert all(torch.equal(after[name], before[name]) for name in statistics)
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert any(name.endswith("weight") for name in changed)


def test_bfloat16_on_the_cpu(tmp_path: Path) -> None:
    state = run(small(precision="bfloat16", stages=[{"epochs": 1, "learning_rate": 0.1, "bits": 4}]), tmp_path)
    assert {tensor.dtype for tensor in state.values() if tensor.is_floating_point()} == {torch.float32}


def test_a_last_batch_of_one_image(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    recipe = small(batch_size=260, stages=[{"epochs": 2, "learning_rate": 0.1, "bits": 4}])
    assert len(load_images("few-digits", "train").labels) == 261
    run(recipe, tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]


@pytest.mark.parametrize("rate", [1e30, 1e38])
def test_divergence_is_said_and_nothing_is_saved(rate: float, tmp_path: Path) -> None:
    recipe = small(stages=[{"epochs": 2, "learning_rate": rate, "bits": 2}])
    with pytest.raises(InputError, match=r"training diverged in epoch 1 of stage 1.*Lower the learning rate"):
        run(recipe, tmp_path)
    assert not list(tmp_path.iterdir())


# --- recipes and models ------------------------------------------------------------------------------------------


def test_shipped_recipes_are_valid() -> None:
    assert "digits-2bit" in recipe_names()
    for name in recipe_names():
        assert load_recipe(name).name == name
        assert load_recipe(name).data.partition("(")[0] in {*DATASETS, "moving-mnist", "bccd", "camvid"}
        assert load_recipe(name).model in MODELS


@pytest.mark.parametrize("name", recipe_names())
def test_networks_of_shipped_recipes_can_be_built_and_quantised(name: str) -> None:
    recipe = load_recipe(name)
    channels = 1 if recipe.data in ("digits", "mnist") else 3
    with torch.device("meta"):
        model = build(recipe.model, channels=channels, classes=10, **recipe.model_options)
        assert sum(parameter.numel() for parameter in model.parameters()) > 1000
    for stage in recipe.stages:
        if stage.bits is not None:
            assert recipe.plan(stage).make_activation("").quantiser == recipe.activation
    method, _, rest = name.partition("-")
    if method in ("fastsnn", "qffs", "qcfs"):
        last = recipe.stages[-1]
        assert rest.endswith(f"-{last.bits}bit" if last.levels is None else f"-L{last.levels}")
        expected = {"fastsnn": "clip", "qffs": "lsq", "qcfs": "qcfs"}[method]
        assert recipe.activation == expected or name.startswith("fastsnn-resnet20-")
        assert recipe.output_bits == (3 if method == "qffs" else None)


def test_all_mistakes_in_a_recipe_are_listed(tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(
        "name: x\ndata: digits\nepochs: 3\nbatch_size: 1\nseed: -1\nmodel_options: {channels: 3}\n"
        "stages:\n  - {epochs: 0, learning_rate: .inf, bits: 9, speed: 1}\n"
    )
    with pytest.raises(InputError, match=r"wrong\.yaml: is not a valid recipe") as caught:
        load_recipe(file)
    assert {problem.where for problem in caught.value.problems} == {
        "model", "epochs", "batch_size", "seed", "model_options", "stages.0.epochs", "stages.0.learning_rate",
        "stages.0.bits", "stages.0.speed",
    }  # fmt: skip


@pytest.mark.parametrize(
    "text", ["", "[1, 2]", "stages: [", "\x00", "a: !!python/object/apply:os.getcwd []", "[" * 5000]
)
def test_files_that_are_no_recipe(text: str, tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=r"wrong\.yaml"):
        load_recipe(file)


def test_unknown_recipes_models_data_and_devices(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"recipe 'digits-3bit' is not known. Did you mean 'digits-2bit'\? Known: .*digits-2bit"
    ):
        load_recipe("digits-3bit")
    with pytest.raises(InputError, match=r"model 'resnet' is not known.*Known: .*digits-net"):
        build("resnet")
    with pytest.raises(InputError, match=r"model 'lenet': .*depth"):
        build("lenet", depth=3)
    with pytest.raises(InputError, match="model 'lenet'"):
        build("lenet", width=-3)
    with pytest.raises(InputError, match="Known: cifar10"):
        load_images("everything", "test")
    with pytest.raises(InputError, match=r"device 'tpu' cannot be used.*Use --device cpu"):
        Trainer(small(), tmp_path / "model.pt", device="tpu")


def test_stages_in_the_wrong_order(tmp_path: Path) -> None:
    file = tmp_path / "late.yaml"
    for stages in (
        "[{epochs: 1, learning_rate: 1}]",
        "[{epochs: 1, learning_rate: 1, bits: 2}, {epochs: 1, learning_rate: 1}]",
    ):
        file.write_text(f"name: x\ndata: digits\nmodel: lenet\nstages: {stages}\n")
        with pytest.raises(InputError, match="only the first stage may be in floating point"):
            load_recipe(file)


def test_a_model_that_does_not_fit_the_images(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model 'lenet' cannot take the images of 'digits', shape \(1, 8, 8\)"):
        run(small(model="lenet"), tmp_path)
    assert not list(tmp_path.iterdir())


# --- data --------------------------------------------------------------------------------------------------------


def test_digits() -> None:
    train, test = load_images("digits", "train"), load_images("digits", "test")
    assert (len(train.labels), len(test.labels), train.shape) == (1437, 360, (1, 8, 8))
    assert int(train.levels.max()) == train.highest
    raw = train.raw(slice(None))
    assert raw.max() == 1.0
    assert raw.mean().item() == pytest.approx(train.mean[0], abs=0.001)
    assert raw.std().item() == pytest.approx(train.std[0], abs=0.001)


@pytest.mark.parametrize("name", ["mnist", "cifar10", "cifar100"])
def test_missing_data_says_what_to_do(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"'{name}'.*cannot be read from.*--data-root, or pass --download"):
        load_images(name, "train", tmp_path)


def write_folder(root: Path, mode: str, sizes: list[tuple[int, int]]) -> None:
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            (root / split / label).mkdir(parents=True)
            for i, size in enumerate(sizes):
                Image.new(mode, size, 40 if mode == "L" else (10, 20, 30)).save(root / split / label / f"{i}.png")


@pytest.mark.parametrize(("mode", "pixel"), [("L", [40, 40, 40]), ("RGB", [10, 20, 30])])
def test_folders_of_images(mode: str, pixel: list[int], tmp_path: Path) -> None:
    write_folder(tmp_path, mode, [(6, 5)] * 3)
    images = load_images("folder", "train", tmp_path)
    assert (images.shape, images.classes, images.labels.tolist()) == ((3, 5, 6), 2, [0, 0, 0, 1, 1, 1])
    assert images.levels[:1][0, :, 0, 0].tolist() == pixel


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'folder'.*cannot be read from.*and put the images there"):
        load_images("folder", "train", tmp_path)
    write_folder(tmp_path, "RGB", [(6, 5), (6, 6)])
    with pytest.raises(InputError, match=r"differ in size.*Resize them"):
        load_images("folder", "train", tmp_path).held()
    shutil.rmtree(tmp_path / "test" / "cat")
    with pytest.raises(InputError, match="hold different classes"):
        load_images("folder", "test", tmp_path)
    (tmp_path / "train" / "cat" / "0.png").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="cannot be read"):
        load_images("folder", "train", tmp_path)


@pytest.mark.parametrize(
    ("levels", "labels"),
    [
        (np.zeros((3, 28, 28), np.uint8), np.zeros(2, int)),
        (np.zeros((3, 28, 28), np.float32), np.zeros(3, int)),
        (np.zeros((3, 28, 28), np.uint8), np.array([0, 1, 10])),
        (np.zeros((3, 28, 27), np.uint8), np.zeros(3, int)),
        (np.zeros((0, 28, 28), np.uint8), np.zeros(0, int)),
    ],
)
def test_arrays_that_are_no_images(levels: np.ndarray, labels: np.ndarray, tmp_path: Path) -> None:
    np.savez(tmp_path / "mnist.npz", x_train=levels, y_train=labels)
    with pytest.raises(InputError, match="data set 'mnist' \\(train\\) cannot be read"):
        load_images("mnist", "train", tmp_path)
    np.savez(tmp_path / "mnist.npz", x_train=levels, y_train=labels + 0.5)
    with pytest.raises(InputError, match=r"'y_train' is float64 .*Give whole numbers, one entry an image"):
        load_images("mnist", "train", tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"nonsense"])
def test_broken_npz(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "mnist.npz").write_bytes(content)
    with pytest.raises(
        InputError,
        match=r"mnist.npz: (is not an .npz file or is damaged|the archive is damaged|the data file is empty)",
    ):
        load_images("mnist", "test", tmp_path)


def test_raw_values_are_levels_times_step() -> None:
    levels = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)
    images = Images("x", levels, torch.zeros(2, dtype=torch.int64), 1, (0.0,), (1.0,))
    assert images.raw(torch.tensor([1, 0])).flatten().tolist() == [1.0, 0.0]


# --- quantisers in recipes ---------------------------------------------------------------------------------------


def test_recipes_choose_quantisers_bits_by_layer_and_a_spiking_output(tmp_path: Path) -> None:
    stages = [{"epochs": 1, "learning_rate": 0.05, "bits": bits, "weight_bits": 3} for bits in (3, 2)]
    recipe = small(
        stages=stages, activation="clip", weight_quantiser="apot", bits_by_layer={"block1.*": 4},
        weight_bits_by_layer={"block2.second.*": 5}, output_bits=3,
    )  # fmt: skip
    trainer = Trainer(recipe, tmp_path / "model.pt")
    quantised = trainer.run().model
    paths = {str(node.target): node.meta["module"] for node in quantised.graph.nodes}
    found = {name: module for name, module in quantised.named_modules() if isinstance(module, QuantActivation)}
    assert {module.quantiser for module in found.values()} == {"clip"}
    assert found.pop("spiking_output").bits == 3
    assert {module.bits for name, module in found.items() if paths[name].startswith("block1.")} == {4}
    assert {module.bits for name, module in found.items() if not paths[name].startswith("block1.")} == {2}
    weights = {n: (m.quantiser, m.weight_bits) for n, m in quantised.named_modules() if hasattr(m, "weight_bits")}
    assert (weights.pop("stem.0"), weights.pop("classifier")) == (("absmax", 8), ("absmax", 8))
    assert weights.pop("block2.second.0") == ("apot", 5)
    assert set(weights.values()) == {("apot", 3)}
    assert all(torch.isfinite(parameter).all() for parameter in quantised.parameters())


def test_levels_give_the_bits_and_train(tmp_path: Path) -> None:
    recipe = small(activation="qcfs", stages=[{"epochs": 1, "learning_rate": 0.05, "levels": 4, "weight_bits": 8}])
    assert recipe.stages[0].bits == 3
    quantised = Trainer(recipe, tmp_path / "model.pt").run().model
    assert {m.levels for m in quantised.modules() if isinstance(m, QuantActivation)} == {4}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"activation": "pact"}, "must be one of clip, "),
        ({"weight_quantiser": "dorefa"}, "must be one of absmax, apot, "),
        ({"weight_quantiser": "apot", "stages": [{"epochs": 1, "learning_rate": 1, "bits": 2, "weight_bits": 7}]},
         "stage 1: weight_bits=7: must be a whole number from 2 to 6"),
        ({"stages": [{"epochs": 1, "learning_rate": 1, "bits": 2, "levels": 4}]}, "4 levels are 3 bits"),
        ({"bits_by_layer": {"conv1": 9}}, "less than or equal to 8"),
    ],
)  # fmt: skip
def test_wrong_quantisers_in_recipes_are_named(wrong: dict[str, Any], message: str, tmp_path: Path) -> None:
    values = {"name": "x", "data": "digits", "model": "lenet", "stages": STAGES, **wrong}
    file = tmp_path / "wrong.yaml"
    file.write_text(yaml.safe_dump(values))
    with pytest.raises(InputError, match=message):
        load_recipe(file)


def test_milestones_replace_the_cosine() -> None:
    stage = Stage(epochs=10, learning_rate=1.0, bits=2, milestones=(4, 8))
    assert [stage.rate(stage.learning_rate, epoch) for epoch in (0, 3.9, 4, 8.5)] == pytest.approx([1, 1, 0.1, 0.01])


def test_states_of_recipes_with_fewer_fields_can_be_resumed(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 20:
            raise Stop

    with pytest.raises(Stop):
        run(small(), tmp_path, progress=stop)
    file = tmp_path / "model.pt.resume"
    state = torch.load(file, weights_only=True)
    recipe = json.loads(state["recipe"])
    for key in ("activation", "weight_quantiser", "bits_by_layer", "weight_bits_by_layer", "output_bits"):
        del recipe[key]
    torch.save({**state, "recipe": json.dumps(recipe)}, file)
    trainer = Trainer(small(), tmp_path / "model.pt")
    assert read_state(trainer.resume_file, small(), "cpu", 1, print)["epoch"] == 1
