"""Small trainings of a detector and of a segmentation network, and the script that does both."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from fastsnn_deploy.conversion.convert import convert
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.quantisation import load, save
from fastsnn_deploy.tasks import (
    Augmentation,
    BoxScenes,
    Detection,
    MaskScenes,
    Segmentation,
    Settings,
    answers,
    compare,
    load_bccd,
    load_camvid,
    run_both,
    train,
)
from fastsnn_deploy.tasks.draw import SCALE
from tests.small_scenes import write_data_sets, write_voc_folder

SCRIPT = Path(__file__).parents[1] / "examples" / "detection_segmentation.py"
SMALL = ["--epochs", "1,1", "--bits", "2", "--option", "width=2"]
STILL = Augmentation(1.0, 0.0, False, False, 0.0)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other cost a hundred times the work of these tiny networks on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    return write_data_sets(tmp_path / "data")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("detection_segmentation", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_detector_learns_its_squares_and_reaches_spikes(data_root: Path, tmp_path: Path) -> None:
    cells = load_bccd(data_root, "train", (32, 40))
    assert isinstance(cells, BoxScenes)
    task = Detection(cells, cells, anchors=1, augmentation=STILL)
    options = {"width": 4, "widest": 8, "halvings": 3}
    settings = Settings("tiny-yolo", options, epochs=(30, 2), batch=4, rate=2e-2, quantised_rate=2e-3)
    stages = train(task, settings, (4, 3), log=lambda line: None)
    assert [stage.bits for stage in stages] == [None, 4, 3]
    assert stages[0].losses[-1] < stages[0].losses[0] / 2
    assert stages[0].figures["AP50 WBC"] > 0.5
    with pytest.raises(InputError, match="a float network has no spiking form"):
        stages[0].checkpoint(task, settings)
    save(stages[2].checkpoint(task, settings), tmp_path / "model.pt")
    checkpoint = load(tmp_path / "model.pt")
    assert checkpoint.metadata["anchors"] == [list(task.grid.anchors[0])]
    both = run_both(convert(checkpoint), task.test.levels, threads=1)
    quantised = answers(task, checkpoint.model, task.test.levels)
    assert task.score(quantised).keys() == task.score(both.spiking).keys()
    assert float((quantised - both.spiking).square().mean()) < 0.1 * float(quantised.square().mean())
    assert task.picture(both.spiking[:1], [0]).width > 2 * 40 * SCALE


def test_a_segmentation_network_learns_its_squares(data_root: Path) -> None:
    streets = load_camvid(data_root, "train")
    assert isinstance(streets, MaskScenes)
    task = Segmentation(streets, streets, augmentation=STILL)
    options = {"width": 4, "stride": 4, "dilation": 2, "context": 8}
    settings = Settings("vgg9-segmentation", options, epochs=(60, 10), batch=4, rate=1e-2, quantised_rate=5e-3)
    stages = train(task, settings, (3,), log=lambda line: None)
    assert stages[0].figures["mIoU"] > 0.8
    assert stages[1].figures["mIoU"] > 0.8
    output = answers(task, stages[1].model, streets.levels)
    assert task.picture(output[:2], [0, 1]).height > 2 * 16 * SCALE


def test_training_follows_from_its_seed(data_root: Path) -> None:
    streets = load_camvid(data_root, "train")
    task = Segmentation(streets, streets)
    settings = Settings("vgg9-segmentation", {"width": 2, "stride": 4}, epochs=(2, 2), batch=2)
    first, second = (train(task, settings, (3,), log=lambda line: None) for _ in range(2))
    assert [stage.losses for stage in first] == [stage.losses for stage in second]


def test_a_detector_wants_whole_cells(data_root: Path) -> None:
    cells = load_bccd(data_root, "train", (30, 40))
    with pytest.raises(InputError, match="30x40 do not divide into cells of 8"):
        Detection(cells, cells)


# the script


def test_the_script_writes_its_record(data_root: Path, tmp_path: Path, script: ModuleType) -> None:
    out = tmp_path / "out"
    script.main(["--task", "camvid", "--data-root", str(data_root), "--out", str(out), *SMALL])
    text = (out / "record.json").read_text()
    assert str(tmp_path) not in text
    record = json.loads(text)
    assert [stage["bits"] for stage in record["training"]] == [None, 2]
    (network,) = record["networks"]
    assert network["images"] == 2
    assert network["integer network"] == network["spiking network"]
    assert network["output integers"] == {"compared": 2 * 2 * 4 * 4, "different": 0}
    assert network["hidden counts"] == {"compared": 2 * network["neurons"], "different": 0}
    assert 0 <= network["negative spikes of an image"] < network["spikes of an image"]
    assert (out / "camvid-2bit.png").exists()
    (out / "training.json").unlink()
    script.main(["--task", "camvid", "--data-root", str(data_root), "--out", str(out), "--bits", "2",
                 "--evaluate-only"])  # fmt: skip
    again = json.loads((out / "record.json").read_text())
    assert again["training"] == []
    assert again["settings"] == record["settings"]  # those of the checkpoint, not the defaults
    assert again["networks"][0]["quantised"] == network["quantised"]


def test_the_script_takes_folders_of_ones_own(
    tmp_path: Path, script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = write_voc_folder(tmp_path / "animals"), tmp_path / "out"
    common = ["--data-root", str(folder), "--out", str(out), "--image", "16x24", *SMALL]
    script.main(["--task", "masks", *common, "--json"])
    record = json.loads(capsys.readouterr().out)
    assert record["description"] == {"task": "segmentation", "classes": ["cat", "dog"]}
    script.main(["--task", "boxes", *common, "--anchors", "1"])
    record = json.loads((out / "record.json").read_text())
    assert record["image"] == [3, 16, 24]
    assert len(record["description"]["anchors"]) == 1
    assert record["networks"][0]["quantised"]["AP50 cat"] is None  # no cat has an area
    shutil.copy(out / "masks-2bit.pt", out / "boxes-2bit.pt")
    with pytest.raises(SystemExit, match="2"):
        script.main(["--task", "boxes", *common, "--anchors", "1", "--evaluate-only"])
    assert (
        "boxes-2bit.pt: was trained for task segmentation, but data and options ask for detection"
        in capsys.readouterr().err
    )


def test_the_script_ends_with_code_1_if_an_integer_differs(
    data_root: Path, tmp_path: Path, script: ModuleType, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    original = compare.integer_values

    def wrong(graph: SpikingGraph, emitted: np.ndarray) -> dict[str, np.ndarray]:
        values = dict(original(graph, emitted))
        return {**values, graph.outputs[0]: values[graph.outputs[0]] + 1}

    monkeypatch.setattr(compare, "integer_values", wrong)
    with pytest.raises(SystemExit, match="1"):
        script.main(["--task", "camvid", "--data-root", str(data_root), "--out", str(tmp_path / "out"), *SMALL])
    assert "64 integers of the settled spiking networks differ" in capsys.readouterr().err
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    assert record["networks"][0]["output integers"]["different"] == 64


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "bccd"], "data set 'bccd' cannot be read from"),
        (["--task", "boxes"], "classes.txt: is missing. It must hold the names of the classes, one a line"),
        (["--task", "camvid", "--image", "8x8"], "Leave it out"),
        (["--task", "masks", "--model", "tiny-yolo"], "Choose vgg9-segmentation or resnet34-aspp"),
        (["--task", "masks", "--bits", "9"], "different numbers of bits from 1 to 8"),
        (["--task", "masks", "--epochs", "3"], "must be two numbers"),
        (["--task", "masks", "--image", "96"], "must be height and width"),
        (["--task", "masks", "--option", "width"], "'' is not a whole number from 1"),
        (["--task", "masks", "--rate", "-1"], "'-1' is not a number above 0"),
    ],
)
def test_the_script_explains_what_is_wrong(
    arguments: list[str], message: str, tmp_path: Path, script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        script.main([*arguments, "--data-root", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")])
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_script_wants_a_checkpoint_and_a_folder(
    data_root: Path, tmp_path: Path, script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--task", "camvid", "--data-root", str(data_root), "--bits", "2"]
    with pytest.raises(SystemExit, match="2"):
        script.main([*common, "--out", str(tmp_path / "out"), "--evaluate-only"])
    assert "camvid-2bit.pt" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match="2"):
        script.main([*common, "--out", str(tmp_path / "file")])
    assert "Choose another --out" in capsys.readouterr().err
