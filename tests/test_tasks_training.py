"""Detectors and segmentation networks from the shell: trained, exported, verified, measured, drawn."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.formats import read_network
from fastsnn_deploy.quantisation import Checkpoint, load, save
from fastsnn_deploy.tasks import Detection, TaskTrainer, load_scenes, task_in
from fastsnn_deploy.training.recipe import Recipe, load_recipe, recipe_folder
from fastsnn_deploy.training.trainer import Trainer
from tests.commands import Result, runner
from tests.small_scenes import write_animals, write_data_sets

CELLS: dict[str, Any] = {
    "name": "cells", "task": "detection", "data": "bccd", "size": [32, 40], "model": "tiny-yolo",
    "model_options": {"width": 4, "widest": 8, "halvings": 3}, "task_options": {"anchors": 1},
    "stages": [{"epochs": 30, "learning_rate": 0.02}, {"epochs": 2, "learning_rate": 0.002, "bits": 3}],
    "batch_size": 4, "optimiser": "adamw", "step_rate": 0.1, "test_every": 100, "keep_float": True,
}  # fmt: skip
STREETS: dict[str, Any] = {
    **CELLS, "name": "streets", "task": "segmentation", "data": "camvid", "size": None, "model": "vgg9-segmentation",
    "model_options": {"width": 4, "stride": 4, "dilation": 2, "context": 8}, "task_options": {},
    "stages": [{"epochs": 60, "learning_rate": 0.01}, {"epochs": 10, "learning_rate": 0.005, "bits": 3}],
}  # fmt: skip

Shell = Callable[..., Result]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other cost a hundred times the work of these tiny networks on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both data sets, and a network of each that has learned its training images, which are its test images, too."""
    folder = tmp_path_factory.mktemp("trained")
    write_data_sets(folder)
    (folder / "bccd" / "test.txt").write_text((folder / "bccd" / "trainval.txt").read_text())
    with np.load(folder / "camvid.npz") as held:
        x, y, classes = held["x_train"], held["y_train"], held["classes"]
    np.savez(folder / "camvid.npz", x_train=x, y_train=y, x_test=x, y_test=y, classes=classes)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for recipe in (CELLS, STREETS):
        TaskTrainer(Recipe.model_validate(recipe), folder / f"{recipe['name']}.pt", data_root=folder).run()
    torch.set_num_threads(threads)
    return folder


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Shell:
    monkeypatch.chdir(tmp_path)
    return runner(monkeypatch, capsys)


def done(result: Result) -> Any:
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize(("name", "metric", "counted"), [("cells", "AP50 WBC", "boxes"), ("streets", "mIoU", "pixels")])
def test_from_a_checkpoint_to_pictures(name: str, metric: str, counted: str, trained: Path, shell: Shell) -> None:
    checkpoint = load(trained / f"{name}.pt")
    figures = checkpoint.metadata["figures"]
    assert figures["float"][metric] > 0.5
    assert figures["quantised"][metric] > 0.5
    assert shell("export", trained / f"{name}.pt", "-o", "model.net").returncode == 0
    network = read_network("model.net")
    assert task_in(network.metadata) == task_in(checkpoint.metadata)
    root = ("--data-root", trained)
    proof = done(shell("verify", trained / f"{name}.pt", "model.net", *root, "--samples", 2, "--json"))
    assert proof["exact"]
    assert proof[f"{counted}_differing_from_quantised"] <= proof[f"{counted}_compared"] / 10
    assert metric == "AP50 WBC" or proof["integer_mIoU"] > 0.5
    found = done(shell("evaluate", "model.net", *root, "--json"))
    assert found["measured_when_trained"] == ["float", "quantised"]
    forms = found["figures"]
    assert forms["float"] == figures["float"]
    assert forms["SNN, settled"] == forms["integer network"]
    assert found["outputs_different"] == 0
    beside = ("--checkpoint", trained / f"{name}.pt", "--float", trained / f"{name}-float.pt")
    again = done(shell("evaluate", "model.net", *root, *beside, "--at", "3", "--json"))
    assert again["measured_when_trained"] == []
    assert list(again["figures"]) == ["float", "quantised", "integer network", "SNN after 3 steps", "SNN, settled"]
    for form in ("float", "quantised"):
        assert again["figures"][form] == pytest.approx(figures[form], nan_ok=True)
    text = shell("evaluate", "model.net", *root, "--samples", 2).stdout
    assert "of each class" in text
    assert "as measured when trained" not in text  # of all test images
    drawn = done(shell("run", "model.net", *root, "--samples", 2, "--draw", "pictures", "--json"))
    assert sorted(Path("pictures").iterdir()) == [Path(f"pictures/image-000{i}.png") for i in range(2)]
    assert len(drawn["answers"]) == 2
    assert done(shell("profile", "model.net", *root, "--samples", 1, "--json"))["images"] == 1


def test_boxes_in_files_of_ones_own(trained: Path, shell: Shell) -> None:
    shell("export", trained / "cells.pt", "-o", "cells.net")
    images, task = trained / "bccd" / "images", task_in(load(trained / "cells.pt").metadata)
    assert task is not None
    Path("unsure.yaml").write_text(yaml.safe_dump(task.description() | {"shown": 0.05}))
    one = ("run", "cells.net", images / "1.jpg", "--task", "unsure.yaml")
    text = shell(*one, "--draw", "one.jpg").stdout
    assert "1 of 1 images were resized to 40x32" in text
    assert "1.jpg: 1 boxes: 1 WBC" in text
    with Image.open("one.jpg") as picture:
        assert picture.width == 480
    (answer,) = done(shell(*one, "--json"))["answers"]
    (box,) = answer["answer"]
    truth = load_scenes("bccd", "test", trained, task="detection").truth[1].corners[0]
    assert np.allclose(box["box"], truth, atol=6)  # in pixels of the file, 80x64
    several = shell("run", "cells.net", images, "--draw", "one.jpg")
    assert several.returncode == 2
    assert "6 images need 6 pictures. Name a folder" in several.stderr
    Path("text.jpg").write_text("no picture")
    wrong = shell("run", "cells.net", "text.jpg", "nowhere.png")
    assert wrong.returncode == 2
    assert "2 of 2 images cannot be read" in wrong.stderr
    assert "not both" in shell("run", "cells.net", images, "--data", "bccd").stderr


def test_a_recipe_of_a_task_is_trained_from_the_shell_and_goes_on(trained: Path, shell: Shell) -> None:
    small = {**CELLS, "stages": [{"epochs": 2, "learning_rate": 0.01}, {"epochs": 2, "learning_rate": 0.01, "bits": 3}]}
    Path("cells.yaml").write_text(yaml.safe_dump(small))
    root = ("--data-root", trained)
    whole = shell("train", "--recipe", "cells.yaml", *root, "-o", "whole.pt", "--json")
    assert set(done(whole)["figures"]) == {"float", "quantised"}
    assert "4 boxes without area are left out" in whole.stderr

    def stop(line: str) -> None:
        if line.startswith("stage 2/2 epoch 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        TaskTrainer(Recipe.model_validate(small), "half.pt", data_root=trained, log=stop).run()
    assert "Go on with --resume" in shell("train", "--recipe", "cells.yaml", *root, "-o", "half.pt").stderr
    assert shell("train", "--recipe", "cells.yaml", *root, "-o", "half.pt", "--resume").returncode == 0
    first, second = (load(f"{name}.pt") for name in ("whole", "half"))
    assert first.metadata["figures"]["float"] == second.metadata["figures"]["float"]
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name


def test_a_task_alone_takes_the_recipe_of_its_name(tmp_path: Path, shell: Shell) -> None:
    folder = write_animals(tmp_path / "animals", "csv")
    model = "tiny-yolo(width=2, widest=4, halvings=1)"
    common = ("train", "--task", "detection", "--data", folder, "--model", model, "--epochs", "1,1,1")
    ended = shell(*common, "--size", "10x20", "-o", "own.pt", "--restart")
    assert ended.returncode == 2
    assert "5 anchors cannot be found in 4 boxes" in ended.stderr
    recipe = yaml.safe_load((recipe_folder() / "detection.yaml").read_text())
    Path("own.yaml").write_text(yaml.safe_dump({**recipe, "name": "own", "task_options": {"anchors": 2}}))
    found = done(shell("train", "--recipe", "own.yaml", *common[3:], "--size", "10x20", "-o", "own.pt", "--json"))
    assert "AP50 cat" in found["figures"]["quantised"]
    task = task_in(load("own.pt").metadata)
    assert isinstance(task, Detection)
    assert (task.classes, task.stride, len(task.anchors)) == (("cat", "dog"), 2, 2)


def test_fine_tuning_is_judged_by_the_figure_of_the_task(trained: Path, shell: Shell) -> None:
    options = ("--images", 2, "--held-out", 2, "--batch", 2, "--data-root", trained)
    report = done(shell("finetune", trained / "streets.pt", *options, "-o", "tuned.pt", "--json"))
    assert 0 <= report["held_out_mIoU_before"] <= report["held_out_mIoU_after"] <= 1
    assert set(load("tuned.pt").metadata["figures"]) == {"quantised"}


def test_a_float_network_is_quantised_from_images_for_its_task(trained: Path, shell: Shell) -> None:
    model = "tiny-yolo(width=4, widest=8, halvings=3, classes=2, anchors=1)"
    common = (
        trained / "cells-float.pt", "--model", model, "--data", "bccd", "--data-root", trained, "--task",
        trained / "cells.pt",
    )  # fmt: skip
    report = done(shell("quantize", *common, "--size", "32,40", "--bits", 6, "--iterations", 5, "-o", "q.pt", "--json"))
    forms = report["evaluation"]["figures"]
    assert forms["float"]["AP50 WBC"] > 0.5
    assert forms["SNN, settled"] == forms["integer network"]
    assert report["stages"][0]["accuracy"] > 0.2
    assert shell("quantize", *common, "--epochs", 1).returncode == 2
    done(shell("export", *common, "--bits", 8, "--input-shape", "3,32,40", "-o", "direct.net", "--json"))
    assert task_in(read_network("direct.net").metadata) == task_in(load(trained / "cells.pt").metadata)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher": {"share": 0.5}}, "teacher: not for detection"),
        ({"augment": {"cutout": 2}, "label_smoothing": 0.1}, "cutout and flip: alternate; label_smoothing: not for"),
        ({"task": "classification"}, "size and task_options: not for classification"),
        ({"optimiser": "adam"}, "optimiser"),
    ],
)
def test_recipes_that_do_not_suit_their_task(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump({**CELLS, **changes}))
    with pytest.raises(InputError, match=message):
        load_recipe(tmp_path / "wrong.yaml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": (30, 40)}, "30x40 do not divide into cells of 8 pixels"),
        ({"model": "vgg9-segmentation", "model_options": {"width": 2}, "task_options": {}}, "cannot be chosen|anchors"),
        ({"model": "lenet", "model_options": {}}, "lenet"),
    ],
)
def test_networks_that_cannot_answer(changes: dict[str, Any], message: str, trained: Path, tmp_path: Path) -> None:
    recipe = Recipe.model_validate({**CELLS, **changes})
    with pytest.raises(InputError, match=message):
        TaskTrainer(recipe, tmp_path / "model.pt", data_root=trained).run()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train",), "give --recipe, or --task (classification, detection, segmentation)"),
        (("train", "--task", "detektion"), "Did you mean 'detection'?"),
        (("train", "--task", "detection", "--epochs", "3"), "must be a number for each stage of the recipe, as 100,40"),
        (("train", "--task", "detection", "--size", "96"), "must be height and width, as 192x256"),
        (("train", "--recipe", "digits-2bit", "--size", "8x8"), "--size is for images with boxes or masks"),
        (("train", "--task", "detection", "--download"), "cannot be fetched"),
        (("train", "--task", "detection", "--data", "random"), "random images have no labels"),
    ],
)
def test_wrong_options_of_training_are_explained(arguments: tuple[str, ...], message: str, shell: Shell) -> None:
    result = shell(*arguments)
    assert result.returncode == 2
    assert message in result.stderr


def test_a_map_without_a_task_says_so(trained: Path, shell: Shell) -> None:
    checkpoint = load(trained / "streets.pt")
    save(Checkpoint(checkpoint.model, checkpoint.input_shape, {}), "bare.pt")
    shell("export", "bare.pt", "-o", "bare.net")
    text = shell("run", "bare.net", "--data", "random", "--samples", 2).stdout
    assert "does not say what it means. Name it with --task" in text
    assert "predictions" not in text
    assert shell("run", "bare.net", "--data", "random", "--draw", "x.png").returncode == 2
    assert "predictions" not in shell("verify", "bare.pt", "bare.net", "--data", "random", "--samples", 1).stdout
    data = ("--data", "camvid", "--data-root", trained, "--samples", 2)
    assert "mIoU" in shell("evaluate", "bare.net", *data, "--task", trained / "streets.pt").stdout
    Path("task.yaml").write_text("{name: segmentation, classes: [sky, road]}")
    assert "mIoU" in shell("run", "bare.net", *data, "--task", "task.yaml").stdout
    assert shell("export", "bare.pt", "--task", "task.yaml").returncode == 0
    assert task_in(read_network("bare.net").metadata) is not None
    assert shell("evaluate", "bare.net", *data, "--task", "nothing.yaml").returncode == 2


def test_a_classifier_is_measured_in_every_form(tmp_path: Path, shell: Shell) -> None:
    stages = [{"epochs": 1, "learning_rate": 0.1}, {"epochs": 1, "learning_rate": 0.03, "bits": 3}]
    recipe = Recipe.model_validate(
        {"name": "small", "data": "digits", "model": "digits-net", "model_options": {"width": 4}, "stages": stages,
         "keep_float": True}
    )  # fmt: skip
    Trainer(recipe, "small.pt").run()
    shell("export", "small.pt", "-o", "small.net")
    beside = ("--checkpoint", "small.pt", "--float", "small-float.pt", "--samples", 50)
    found = done(shell("evaluate", "small.net", *beside, "--json"))
    forms = found["figures"]
    assert list(forms)[:3] == ["float", "quantised", "integer network"]
    assert forms["SNN, settled"] == forms["integer network"]
    plain = done(shell("evaluate", "small.net", "--samples", 50, "--json"))
    assert forms["SNN, settled"]["accuracy"] == plain["accuracy"]["top1"]
    assert "--checkpoint" in shell("evaluate", "small.net", "--float", "small-float.pt").stderr
    assert "Leave out" in shell("evaluate", "small.net", *beside, "--curve", "c.csv").stderr
