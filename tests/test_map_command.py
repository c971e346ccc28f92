"""`map`, and what `list` and `info` say of profiles with limits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from fastsnn_deploy.analysis.hardware import available, load_hardware
from fastsnn_deploy.errors import InputError
from tests.commands import runner

NET = "netx_exports/digits-2bit-unary.net"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    return runner(monkeypatch, capsys)


def test_map_prints_a_table_and_writes_files(run, tmp_path: Path):
    result = run("map", NET, "-o", tmp_path / "mapping.json", "--csv", tmp_path / "layers.csv")
    assert result.returncode == 0, result.stderr
    assert "fits: 7 cores on 1 chip of 120 usable cores (Oheo Gulch)" in result.stdout
    assert "SynMem" in result.stdout
    lines = (tmp_path / "layers.csv").read_text().splitlines()
    assert lines[0].startswith("layer,module,type,shape,tile,cores,first,neurons,synapse_words")
    assert len(lines) == 8
    again = run("map", NET, "--mapping", tmp_path / "mapping.json", "--json")
    assert json.loads(again.stdout)["cores"] == 7


def test_a_network_that_does_not_fit_is_exit_code_2_with_everything_on_stdout(run):
    result = run("map", NET, "--hardware", "loihi1-sanafe", "--json")
    assert result.returncode == 2
    found = json.loads(result.stdout)
    assert not found["fits"]
    assert len(found["violations"]) == 16
    first = found["violations"][0]
    assert (first["layer"], first["module"], first["resource"]) == ("stem.0", "relu", "spikes.signed")
    assert "export --target stock-lif: the network then fits, on 30 cores" in found["fixes"]
    text = run("map", NET, "--hardware", "loihi1-sanafe").stdout
    assert "does not fit" in text
    assert "- stem.0 (relu): negative spikes: the chip has none" in text


def test_map_takes_objective_and_cores(run):
    result = run("map", NET, "--objective", "balance", "--cores", "20", "--json")
    found = json.loads(result.stdout)
    assert (found["fits"], found["objective"]) == (True, "balance")
    assert 7 < found["cores"] <= 20
    result = run("map", NET, "--cores", "3", "--json")
    assert result.returncode == 2
    assert json.loads(result.stdout)["violations"][0]["number"] == 7


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--hardware", "horowitz45-int8"), "has no limits of a chip. With limits: "),
        (("--hardware", "loihi3"), "Did you mean 'loihi2'"),
        (("--objective", "speed"), "speed"),
        (("--mapping", "nothing.json"), "no such mapping file"),
    ],
)
def test_mistakes_are_one_message(run, arguments: tuple[str, str], says: str):
    result = run("map", NET, *arguments)
    assert result.returncode == 2
    assert says in result.stderr
    assert "Traceback" not in result.stderr


def test_list_and_info_know_profiles_by_name(run, tmp_path: Path):
    assert "loihi2-2023" in run("list", "hardware").stdout
    text = run("info", "loihi2-2023").stdout
    assert "12,000" in text
    assert "chip.core.synapse_words" in text
    found = json.loads(run("info", "loihi2", "--json").stdout)
    assert found["hardware"]["chip"]["core"]["neurons"]["value"] == 4095
    assert run("info", tmp_path / "loihi2").returncode == 2


# --- profiles


def write(folder: Path, data: dict) -> Path:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def limit(value: object = 5, unit: str = "words") -> dict:
    return {"value": value, "unit": unit, "status": "assumed", "source": "me"}


def test_a_profile_over_another_changes_what_it_states(run, tmp_path: Path):
    path = write(tmp_path, {"name": "mine", "based_on": "loihi2", "chip": {"core": {"neurons": limit(100, "neurons")}}})
    mine, base = load_hardware(path), load_hardware("loihi2")
    assert mine.limits.core.neurons.value == 100
    assert mine.limits.core.synapse_words == base.limits.core.synapse_words
    assert mine.energies == base.energies
    result = run("map", NET, "--hardware", path, "--json")
    assert json.loads(result.stdout)["cores"] > 7


@pytest.mark.parametrize(
    ("chip", "says"),
    [
        ({"core": {"neurons": limit(100)}}, "neurons is in words, must be in neurons"),
        ({"core": {"synapse_words": limit(0)}}, "synapse_words is 0, must be at least 1"),
        ({"core": {"synapse_words": limit(-1)}}, "greater than or equal to 0"),
        ({"core": {"synapse_words": limit("12")}}, "integer"),
        ({"core": {"colour": limit()}}, "chip.core.colour"),
        ({"ranges": {"weight_bits": limit(8)}}, "weight_bits is in words, must be in bits"),
        ({"cutting": "diagonal"}, "chip.cutting"),
        ({"usable_cores": limit(500, "cores")}, "usable_cores is 500, more than the 128 cores"),
        ({"mesh": {"columns": 2}}, "the mesh has no room for 128 cores"),
        ({"boards": []}, "chip.boards"),
        ("loihi9", "hardware profile 'loihi9' is not known"),
    ],
)
def test_impossible_limits_are_refused(tmp_path: Path, chip: object, says: str):
    path = write(tmp_path, {"name": "mine", "based_on": "loihi2", "chip": chip})
    with pytest.raises(InputError) as error:
        load_hardware(path)
    assert says in str(error.value)
    assert str(path) in str(error.value)


def test_based_on_an_unknown_profile(tmp_path: Path):
    with pytest.raises(InputError, match=r"based_on: hardware profile 'loihi' is not known"):
        load_hardware(write(tmp_path, {"name": "mine", "based_on": "loihi"}))


def test_the_template_is_a_valid_profile(run):
    assert load_hardware("docs/hardware_template.yaml").limits.core.neurons.value == 2048
    assert run("map", NET, "--hardware", "docs/hardware_template.yaml").returncode == 0


def test_every_limit_has_a_source():
    for name in available():
        chip = load_hardware(name).chip
        for key, each in chip.limits() if chip else ():
            assert each.source, (name, key)
