"""The page of results: made from complete records only, and the committed page is made from the committed records."""

from __future__ import annotations

import copy
import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fastsnn_deploy.conversion.convert import convert
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.passes.spike_bounds import with_neurons
from fastsnn_deploy.quantisation import load
from fastsnn_deploy.simulators.integer import integer_outputs
from fastsnn_deploy.training.data import load_images

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"

RUN = {
    "correct": 91,
    "answers_differing": 0,
    "images_with_another_output": 0,
    "window": 3,
    "depth": 20,
    "steps": {"mean": 26.5, "p99": 28, "max": 29},
    "steps_beyond_window": {"mean": 3.5, "p99": 5, "max": 6},
    "images_within_window": 1,
    "spikes": 157_000.4,
    "negative_spikes": 20_000.0,
    "synaptic_operations": 28_300_000.0,
    "energy_nj": {"loihi2": [1000.0, 2000.0, 3000.0], "horowitz45-int8": [10.0, 20.0, 30.0]},
}
STAGES = [
    {"epochs": 3, "bits": None, "weight_bits": 4, "learning_rate": 0.1},
    {"epochs": 5, "bits": 2, "weight_bits": 4, "learning_rate": 0.1},
]
SETTINGS = {"images": 1000, "held_out": 500, "epochs": 1, "learning_rate": 0.01, "neurons": "unary"}
VALUES: dict[str, dict[str, Any]] = {
    "float": {"correct": 93, "weights": "weights/float.th"},
    "quantised": {"correct": 92, "recipe": "some", "model": "resnet20", "teacher": "resnet32", "stages": STAGES},
    "integer": {
        "correct": 91, "answers_differing_from_quantised": 2, "macs": 40_000_000,
        "energy_nj": {"horowitz45-int8": [1.0, 2.0, 3.0]},
    },
    "settled": RUN,
    "graded": RUN,
    "window-unsigned": {**RUN, "correct": 60, "answers_differing": 38},
    "window-signed": {**RUN, "correct": 85, "answers_differing": 12},
    "window-tuned": {
        **RUN, "correct": 87, "answers_differing": 9, "quantised_correct": 90, "settings": SETTINGS,
        "held_out_before": 400,
        "held_out_after": 450, "layers": 18, "layers_kept": 7,
    },
}  # fmt: skip
STOPPED = {"correct": 70, "answers_differing": 1, "correct_after": {"3": 50, "4": 60, "5": 61, "8": 65, "16": 70}}
ABLATION = {
    "correct": 70, "quantised_correct": 71, "model": "vgg11-average", "width": 8, "epochs": [4, 2], "output_bits": 2,
    "signed": STOPPED, "unsigned": {**STOPPED, "correct": 55},
}  # fmt: skip


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    return script("results_page")


def script(name: str) -> ModuleType:
    """A module of the folder `scripts`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPTS)
        return importlib.import_module(name)


def record(measurement: str, values: dict[str, Any], network: str = "some-2bit") -> dict[str, Any]:
    made = {"date": "2026-01-01", "package": "0.1.0", "torch": "2.9", "command": "python it.py", "data": "cifar10"}
    rest = {"images": 100, "checkpoint_sha256": "ab" * 32, "seconds": 1.0, "values": copy.deepcopy(values)}
    return {"network": network, "measurement": measurement, **made, **rest}


@pytest.fixture
def records() -> list[dict[str, Any]]:
    return [record(name, values) for name, values in VALUES.items()]


def test_the_page_says_what_was_measured(pages: ModuleType, records: list[dict[str, Any]]):
    text = pages.page([*records, record("average-2", ABLATION, "qffs-ablation")])
    lines = text.splitlines()
    assert "## some-2bit" in lines
    assert "| float network | 93.00 % |  |  |  |" in lines
    assert "| integer ANN | 91.00 % | 2 differ from the quantised model |  |  |" in lines
    assert "| SNN, signed, until settled | 91.00 % | 0 | 26.5 / 28 / 29 | 3.5 / 5 / 6 |" in lines
    assert "| SNN, unsigned, T = 3 | 60.00 % | 38 | 26.5 / 28 / 29 | 3.5 / 5 / 6 |" in lines
    assert "| SNN, signed, fine-tuned, T = 3 | 87.00 % | 9 | 26.5 / 28 / 29 | 3.5 / 5 / 6 |" in lines
    work = "157,000 | 20,000 | 28,300,000 | 2.0 (1.0 to 3.0) | 0.0 (0.0 to 0.0) |"
    assert f"| SNN, signed, until settled | {work}" in lines
    assert "7 of 18 layers kept their change.\n500 other training images: 80.00 % before, 90.00 % after." in text
    assert "from the float weights `weights/float.th`:\n3 epochs float, 5 epochs at 2 bits, teacher resnet32" in text
    assert "2-bit activations, 4-bit weights" in text
    ablation = "| average | 2 bits | 70.00 % | 70.00 % (1) | 60.00 / 65.00 / 70.00 | 55.00 % (1) |"
    assert any(line.startswith(ablation) for line in lines)
    assert "| some-2bit | 2026-01-01 | 0.1.0 | 2.9 | `python it.py` |" in lines


def test_the_page_is_made_from_the_records(pages: ModuleType):
    records = pages.read_records(pages.RECORDS)
    assert pages.PAGE.read_text(encoding="utf-8") == pages.page(records)
    # commands name files by what they are: nobody else has the same folders
    assert not any(before + "/" in json.dumps(each) for each in records for before in ('"', " ", "="))


def test_without_what_is_optional(pages: ModuleType, records: list[dict[str, Any]]):
    text = pages.page([each for each in records if each["measurement"] not in ("float", "window-tuned")])
    assert "fine-tuning: not measured" in text
    assert "float network | 9" not in text
    assert "switched on and off" not in text


def test_incomplete_records_are_refused(pages: ModuleType, records: list[dict[str, Any]]):
    def refused(wrong: list[dict[str, Any]]) -> str:
        with pytest.raises(InputError) as error:
            pages.page(wrong)
        return str(error.value)

    for index, each in enumerate(records):
        for key in ("date", "torch", "images", "command"):
            lacking = {name: value for name, value in each.items() if name != key}
            assert f"some-2bit {each['measurement']}: lacks {key}" in refused([*records, lacking])
        values = {name: value for name, value in each["values"].items() if name != "correct"}
        assert "lacks values.correct" in refused([*records[:index], {**each, "values": values}, *records[index + 1 :]])
        if each["measurement"] not in ("float", "window-tuned"):
            rest = [other for other in records if other is not each]
            assert f"has no record of {each['measurement']}" in refused(rest)
    assert "is no measurement of this page" in refused([*records, record("guess", {"correct": 1})])
    assert "different checkpoints" in refused([*records[1:], {**records[0], "checkpoint_sha256": "cd"}])
    assert "different checkpoints" in refused([*records[1:], {**records[0], "images": 99}])
    wrong = record("settled", {**RUN, "images_with_another_output": 1})
    assert "which is a bug" in refused([each if each["measurement"] != "settled" else wrong for each in records])
    assert "hold no network" in refused([])


def test_records_are_replaced_one_by_one(pages: ModuleType, records: list[dict[str, Any]], tmp_path: Path):
    file = tmp_path / "records" / "results.json"
    pages.store(file, records[::-1])
    assert pages.read_records(file) == records
    changed = {**records[3], "date": "2026-02-02"}
    pages.store(file, [changed, record("quantised", VALUES["quantised"], "other-3bit")])
    found = pages.read_records(file)
    assert len(found) == len(records) + 1
    assert changed in found
    assert records[3] not in found
    for content in ("", "no JSON", "{}", "[1]"):
        file.write_text(content)
        with pytest.raises(InputError, match="records"):
            pages.read_records(file)


def test_the_parts_of_qffs(checkpoint_file: Path):
    ablation, images = script("qffs_ablation"), load_images("digits", "test")
    graph = convert(load(checkpoint_file))
    integers = integer_outputs(graph, images.for_input(graph.input))
    right = int((integers.argmax(1) == images.labels.numpy()).sum())
    signed = ablation.spiking(graph, images, integers, 1)
    assert (signed["correct"], signed["answers_differing"]) == (right, 0)
    assert signed["correct_after"]["16"] == right >= signed["correct_after"]["3"]
    unsigned = ablation.spiking(with_neurons(graph, "unsigned"), images, integers, 1)
    assert unsigned["answers_differing"] > 0
    assert unsigned["spikes"] < signed["spikes"]
    recipes = [ablation.recipe(name, (1, 1), 8, "cifar10") for name in ablation.VARIANTS]
    assert len({recipe.name for recipe in recipes}) == len(recipes) == 4
    assert {recipe.output_bits for recipe in recipes} == {2, 3, None}


def test_measuring_a_network(checkpoint_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    results, file = script("results"), tmp_path / "results.json"
    name = f"digits={checkpoint_file}"
    arguments = ["--images", "40", "--threads", "1", "--records", str(file)]
    assert results.main(["--checkpoint", name, *arguments]) == 0
    made = {each["measurement"]: each for each in json.loads(file.read_text())}
    assert list(made) == ["quantised", "integer", "settled", "graded", "window-unsigned", "window-signed"]
    assert {each["images"] for each in made.values()} == {40}
    assert str(checkpoint_file) not in file.read_text()
    for key in ("settled", "graded"):
        assert made[key]["values"]["correct"] == made["integer"]["values"]["correct"]
        assert made[key]["values"]["answers_differing"] == made[key]["values"]["images_with_another_output"] == 0
    steps = made["settled"]["values"]
    end = steps["window"] + steps["depth"]
    assert steps["steps_beyond_window"]["max"] == max(steps["steps"]["max"] - end, 0)
    assert made["window-signed"]["values"]["steps_beyond_window"]["max"] == 0
    assert made["quantised"]["values"]["stages"][-1]["bits"] == 2
    page = script("results_page").page(list(made.values()))
    assert "SNN, graded spikes, until settled" in page

    capsys.readouterr()
    assert load(checkpoint_file).metadata["data"] == "digits"
    for wrong, message in (
        (["--checkpoint", "digits"], "as NAME=FILE"),
        (["--checkpoint", name, "--checkpoint", name], "give each network once"),
        (["--checkpoint", name, "--tuned", "other=x.pt"], "name the network before tuning"),
        (["--checkpoint", name, "--tuned", name], "has not been fine-tuned"),
        (["--checkpoint", f"{name}.ghost"], "no such checkpoint"),
    ):
        assert results.main([*wrong, *arguments]) == 2
        assert message in capsys.readouterr().err
