"""Reports: every file says what was found, the page needs nothing else and escapes all, the folder is whole or not."""

from __future__ import annotations

import csv
import dataclasses
import errno
import io
import json
import os
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import fastsnn_deploy as fd
from fastsnn_deploy.analysis.differences import Differences
from fastsnn_deploy.analysis.fixtures import fixtures
from fastsnn_deploy.analysis.verify import Verification
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.folders import planned_folder, write_folder
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.graph.images import ImageReader
from fastsnn_deploy.reporting import run as run_module
from fastsnn_deploy.reporting.latex import SPECIAL, escaped
from fastsnn_deploy.reporting.measured import read_measured
from fastsnn_deploy.reporting.page import significant
from fastsnn_deploy.reporting.result import CONTENTS, FOLDER, Report
from fastsnn_deploy.reporting.schema import ReportFile, schema_text
from tests.commands import runner
from tests.pages import ROOT
from tests.random_graphs import random_graph, random_images

NET = "netx_exports/digits-2bit-unary.net"
SCHEMA = ROOT / "docs" / "schemas" / "report.json"

STRANGE = ("=cmd|'/C calc'!A0", "<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "a_b&c%d$e#f{g}h~i^j\\k")
"""Names that a file of a stranger may give its layers."""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    return runner(monkeypatch, capsys)


def images(network: SpikingGraph, number: int = 4) -> np.ndarray:
    return np.random.default_rng(0).random((number, *network.input.shape))


@pytest.fixture(scope="module")
def made() -> Report:
    network = fd.read(NET)
    labels = np.arange(4)
    return fd.report(NET, images(network), labels, proof_images=2, engine="reference", data="noise", command="a <b>")


@pytest.fixture(scope="module")
def strange() -> Report:
    """A network with names of a stranger."""
    network = fd.read(NET)
    names = dict(zip([node.name for node in network.nodes if node.layer], STRANGE, strict=False))
    nodes = [
        dataclasses.replace(
            node, name=names.get(node.name, node.name), inputs=tuple(names.get(each, each) for each in node.inputs)
        )
        for node in network.nodes
    ]  # fmt: skip
    renamed = dataclasses.replace(network, nodes=tuple(nodes))
    return fd.report(renamed, images(network, 1), proof_images=1, engine="reference", hardware="loihi1-sanafe")


class Page(HTMLParser):
    """Tags in order, all that refers to something, and text; fails where a tag is closed that is not open."""

    EMPTY = frozenset({"meta", "link", "br", "img"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.refers: list[str] = []
        self.ids: list[str] = []
        self.handlers: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open += [tag] if tag not in self.EMPTY else []
        for name, value in attrs:
            if name in ("href", "src", "srcset", "action", "data", "poster", "xlink:href"):
                self.refers.append(value or "")
            if name == "id":
                self.ids.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"{tag} closes another"

    def handle_data(self, data: str) -> None:
        self.text += f"{data} "


def reread(text: str) -> list[dict[str, str]]:
    """Rows of a CSV; the apostrophe before what a spreadsheet would run is taken away."""
    rows = csv.DictReader(io.StringIO(text))
    return [{key: value[1:] if value.startswith("'") else value for key, value in row.items()} for row in rows]


# --- what the files say


def test_the_published_schema_is_current_and_holds(made: Report, strange: Report):
    assert SCHEMA.read_text(encoding="utf-8") == schema_text()
    schema = json.loads(schema_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    for report in (made, strange):
        data = report.contents()["report.json"]
        jsonschema.validate(json.loads(data), schema)
        assert ReportFile.model_validate_json(data).layers == report.file.layers
        assert report.to_dict() == json.loads(data)


def test_the_values_are_those_of_the_results(made: Report):
    network, file = fd.read(NET), made.file
    mapping, noise = fd.map_cores(network, "loihi2"), images(network)
    evaluation = fd.evaluate(network, noise, np.arange(4), engine="reference")
    assert (file.fit.fits, file.fit.cores, file.fit.chips) == (True, mapping.cores, mapping.chips)
    assert file.accuracy.top == {str(k): evaluation.accuracy(k) for k in (1, 5)}
    assert file.accuracy.integer == evaluation.accuracy(1)
    assert sum(row.synaptic_operations for row in file.layers) == evaluation.synaptic_operations / 4
    assert sum(row.synaptic_operations for row in file.cores) == evaluation.synaptic_operations / 4
    assert [row.spikes for row in file.steps] == evaluation.spikes_per_step.tolist()
    assert file.proof.compared == fd.verify(network, noise[:2]).total.compared
    assert file.network.depth == network.depth
    found = made.found.profile.energy
    assert [each.energy_pj.value for each in file.energy.boundaries] == [each.energy.value for each in found.boundaries]
    assert [each.key for each in file.energy.tornado] == [each.key for each in found.tornado]
    assert {row.key for row in file.constants if row.used} >= set(found.used)
    ours = [each for each in fixtures() if each.hardware == "loihi2"]
    assert [(row.name, row.measured, row.ratio) for row in file.fixtures] == [
        (each.name, each.measured, each.ratio) for each in ours
    ]
    for each in file.histograms:
        layer = next(row for row in file.layers if row.layer == each.layer)
        assert each.never + sum(each.neurons) == layer.neurons
        assert each.never / layer.neurons == layer.never_fire


def test_csv_rereads_as_the_values(made: Report, strange: Report):
    for report in (made, strange):
        file, contents = report.file, report.contents()
        rows = reread(contents["layers.csv"])
        assert [row["layer"] for row in rows] == [row.layer for row in file.layers]
        assert [float(row["synaptic_operations"]) for row in rows] == [row.synaptic_operations for row in file.layers]
        cores = reread(contents["cores.csv"])
        assert [(int(row["core"]), row["layer"], float(row["share"])) for row in cores] == [
            (row.core, row.layer, row.share) for row in file.cores
        ]
        assert [int(row["spikes"]) for row in reread(contents["steps.csv"])] == [row.spikes for row in file.steps]
        constants = [(row["key"], float(row["value"])) for row in reread(contents["constants.csv"])]
        assert constants == [(row.key, row.value) for row in file.constants]
    assert [row["layer"] for row in reread(strange.contents()["layers.csv"])][:4] == list(STRANGE)


def test_no_cell_of_a_csv_is_a_formula(strange: Report):
    for name, text in strange.contents().items():
        if name.endswith(".csv"):
            for row in csv.reader(io.StringIO(text)):
                assert not [
                    cell for cell in row if cell.startswith(("=", "@", "\t", "\r")) or re.match(r"[+-]\D", cell)
                ]
    assert "'=cmd" in strange.contents()["layers.csv"]


def test_mapping_json_is_a_mapping(made: Report, tmp_path: Path):
    made.save(tmp_path / "out")
    assert fd.map_cores(NET, "loihi2", mapping=tmp_path / "out" / "mapping.json").cores == made.file.fit.cores


def test_hashes_are_those_of_the_files(made: Report, tmp_path: Path):
    import hashlib

    made.save(tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert {each.name for each in made.file.made.files} == set(CONTENTS) - {"report.html", "report.json"}
    for each in made.file.made.files:
        assert hashlib.sha256((tmp_path / "out" / each.name).read_bytes()).hexdigest() == each.sha256
        assert each.sha256 in page
    assert hashlib.sha256((tmp_path / "out" / "report.json").read_bytes()).hexdigest() in page
    net = next(each for each in made.file.made.sources if each.what == "network")
    assert net.sha256 == hashlib.sha256(Path(NET).read_bytes()).hexdigest()


# --- the page


def test_the_page_refers_to_nothing_outside(made: Report, strange: Report):
    for report in (made, strange):
        text = report.contents()["report.html"]
        page = Page(text)
        assert all(each.startswith(("#", "data:")) for each in page.refers)
        assert {each[1:] for each in page.refers if each.startswith("#")} <= set(page.ids)
        assert len(page.ids) == len(set(page.ids))
        assert not re.search(r"url\(|@import|https?://[^<]*\.(js|css|woff)", text)
        assert page.tags.count("script") == 1
        assert page.handlers == []
        assert not {"img", "iframe", "object", "embed", "form"} & set(page.tags)
        assert page.tags.count("h1") == 1


def test_every_name_is_text_on_the_page(strange: Report):
    page = Page(strange.contents()["report.html"])
    for name in STRANGE:
        assert name in page.text
    assert "<script>alert" not in strange.contents()["report.html"]


def test_the_command_is_on_the_page(made: Report):
    assert "a <b>" in Page(made.contents()["report.html"]).text


def test_the_first_screen_says_it_all(made: Report):
    file = made.file
    text = " ".join(Page(made.contents()["report.html"]).text.partition("Layers")[0].split())
    assert f"Fits. {file.fit.cores} cores on 1 chip (Oheo Gulch)." in text
    assert f"Exact. {file.proof.compared:,} integers compared, 0 differ (2 images)." in text
    for name in ("chips", "cores", "fullest core", "busiest core", "steps", "latency", "accuracy"):
        assert f" {name}" in text
    for each in file.energy.boundaries:
        assert f"energy: {each.name}" in text


def test_a_network_that_does_not_fit_says_everything_that_is_wrong(strange: Report):
    file, page = strange.file, Page(strange.contents()["report.html"])
    assert not file.fit.fits
    assert f"Does not fit. {len(file.fit.violations)} violations" in " ".join(page.text.split())
    for each in file.fit.violations:
        assert each.what in page.text
        assert all(fix in page.text for fix in each.fixes)
    assert "--hardware loihi2: the network fits there, on 7 cores" in page.text


def test_a_difference_is_not_hidden(monkeypatch: pytest.MonkeyPatch):
    wrong = Verification(1, Differences(10, 1), outputs=np.zeros((1, 10)), settle_steps=np.ones(1))
    monkeypatch.setattr(run_module, "verify_network", lambda *arguments, **options: wrong)
    made = fd.report(NET, images(fd.read(NET), 1), engine="reference")
    assert "Not exact. 10 integers compared, 1 differ" in " ".join(Page(made.contents()["report.html"]).text.split())
    assert "NOT EXACT" in repr(made)


def test_without_images_it_says_what_is_not_known(tmp_path: Path):
    made = fd.report(NET)
    assert (made.file.accuracy, made.file.energy, made.file.time, made.file.proof) == (None, None, None, None)
    text = Page(made.contents()["report.html"]).text
    assert "no image was run" in text
    assert text.count("not known") >= 4
    made.save(tmp_path / "out")


@pytest.mark.parametrize(
    ("hardware", "says"),
    [("speck2f", "none is published for 'speck2f'"), ("spinnaker2", "'spinnaker2' has no limits of a chip")],
)
def test_what_a_profile_does_not_say_is_a_sentence(hardware: str, says: str):
    made = fd.report(NET, images(fd.read(NET), 1), hardware=hardware, proof_images=0, engine="reference")
    assert says in Page(made.contents()["report.html"]).text
    assert any("nothing was proved" in note for note in made.file.notes)


@pytest.mark.parametrize("seed", range(5))
def test_networks_of_every_kind_of_layer_have_a_page(seed: int):
    graph = random_graph(seed, transposed=seed % 2 == 0)
    levels = np.random.default_rng(seed).integers(graph.input.low, graph.input.high + 1, (2, *graph.input.shape))
    hardware = ("loihi2", "loihi1-sanafe", "speck2f", "spinnaker2", "truenorth")[seed]
    made = fd.report(graph, levels, hardware=hardware, engine="reference", proof_images=1)
    page = Page(made.contents()["report.html"])
    assert all(row.layer in page.text for row in made.file.layers)
    assert made.file.proof.exact


def test_images_that_lie_elsewhere_are_asked_for_in_slices():
    """NumPy would ask one by one, and get a map of three channels for each."""
    graph = random_graph(1)
    levels = random_images(graph, 1)

    class Elsewhere(ImageReader):
        shape = levels.shape

        def __getitem__(self, index: slice) -> np.ndarray:
            assert isinstance(index, slice)
            return levels[index]

        def part(self, chosen: slice) -> ImageReader:
            raise AssertionError

    proof = fd.report(graph, Elsewhere(), proof_images=1).file.proof
    assert proof is not None
    assert proof.exact


def test_stock_networks_are_proved_against_their_model(tmp_path: Path):
    graph = fd.read(NET)
    fd.export(graph, tmp_path / "stock.net", target="stock-lif")
    noise = images(graph, 1)
    alone = fd.report(tmp_path / "stock.net", noise)
    assert alone.file.proof is None
    assert any("proved against the quantised model" in note for note in alone.file.notes)
    made = fd.report(tmp_path / "stock.net", noise, model=graph)
    assert made.file.proof.exact
    assert made.file.proof.compared > 0
    assert made.file.time.streams


# --- LaTeX and BibTeX


def test_latex_is_escaped_and_balanced(made: Report, strange: Report):
    for report in (made, strange):
        text = report.contents()["report.tex"]
        rows = [line for line in text.splitlines() if line.endswith("\\\\")]
        assert len(rows) == len(report.file.layers) + 1
        bare = re.sub(r"\\[\\{}$&#%_]", "", re.sub(r"(?m)^%.*$", "", text))
        assert bare.count("{") == bare.count("}")
        assert not set("$#^") & set(bare)
        assert {line.count("&") for line in (re.sub(r"\\&", "", row) for row in rows)} == {6}
        keys = re.search(r"\\cite\{(.*?)\}", text)[1].split(",")
        entries = re.findall(r"@\w+\{(\w+),", report.contents()["sources.bib"])
        assert keys == entries
        assert len(entries) == len(set(entries))


def test_every_source_is_in_the_bibliography(made: Report):
    text = made.contents()["sources.bib"]
    for row in made.file.constants:
        assert re.search(rf"^%.*{re.escape(row.key)}", text, re.MULTILINE)
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")


@pytest.mark.parametrize("letter", list(SPECIAL))
def test_every_special_letter_is_escaped(letter: str):
    assert escaped(f"a{letter}b") == f"a{SPECIAL[letter]}b"


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (None, 3, ""),
        (0.0, 3, "0"),
        (1234.5, 3, "1,234"),
        (0.01234, 3, "0.0123"),
        (45080.2, 6, "45,080"),
        (999.96, 4, "1,000"),
    ],
)
def test_numbers_as_people_read_them(value: float | None, digits: int, text: str):
    assert significant(value, digits) == text


# --- measured


def test_measured_columns_stand_beside_the_estimates(made: Report, tmp_path: Path):
    path = tmp_path / "run.json"
    measured = {
        "steps": 1000, "avg_time_per_step": 20.0, "static_total_power": 0.3, "total_power": None, "syn_ops": 5e6,
        "dendrite_updates": 3e6, "total_energy": 0.02, "dynamic_energy": 0.002,
        "cores": {"activity": {}, "memory": {"core_idx": [0, 1], "total_mpds": [0.1, 0.3]}},
    }  # fmt: skip
    path.write_text(json.dumps({"net": "x.net", "measured": measured}))
    report = Report(dataclasses.replace(made.found, measured=read_measured(path)))
    rows = {row.name: row for row in report.file.measured}
    timing = made.found.timing
    assert rows["avg_time_per_step"].measured == 20.0
    assert rows["avg_time_per_step"].ratio == pytest.approx(timing.step.value / 1000 / 20)
    operations = sum(row.synaptic_operations for row in report.file.cores) / timing.steps
    assert rows["syn_ops"].measured == 5000
    assert rows["syn_ops"].ratio == pytest.approx(operations / 5000)
    assert rows["dynamic_energy"].estimate.value == pytest.approx(
        report.file.energy.boundaries[0].energy_pj.value * 1e-12 / timing.steps
    )
    assert rows["total_mpds"].measured == pytest.approx(0.2)
    assert (rows["total_power"].measured, rows["total_power"].ratio) == (None, None)
    assert rows["vdd_power"].estimate is None
    text = Page(report.contents()["report.html"]).text
    assert "not measured" in text
    assert "avg_time_per_step" in text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is not JSON"), ("[]", "is not a valid measured run"), ("{}", "steps: Field required"),
        ('{"steps": 0}', "steps"), ('{"steps": 5, "total_power": "much"}', "total_power"),
        ('{"steps": 5, "total_power": NaN}', "NaN is no number"),
    ],
)  # fmt: skip
def test_what_is_no_measured_run_is_refused(tmp_path: Path, text: str, says: str):
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(InputError, match=re.escape(says)):
        read_measured(path)


# --- the folder


def test_a_report_replaces_a_report_and_nothing_else(made: Report, tmp_path: Path):
    made.save(tmp_path / "new" / "out")
    assert sorted(path.name for path in (tmp_path / "new" / "out").iterdir()) == sorted(CONTENTS)
    made.save(tmp_path / "new" / "out")
    (tmp_path / "empty").mkdir()
    made.save(tmp_path / "empty")
    (tmp_path / "empty" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds notes\.txt, which is no part of a report|is no part of a report"):
        made.save(tmp_path / "empty")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "report.json").write_text("{}")
    with pytest.raises(InputError, match="and is no report"):
        made.save(tmp_path / "other")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="is not a folder"):
        made.save(tmp_path / "file")
    assert (tmp_path / "empty" / "notes.txt").read_text() == "mine"
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.parametrize("there", [False, True])
def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool):
    target = tmp_path / "out"
    if there:
        write_folder(target, {"report.json": FOLDER.sign[1] + b" old"}, FOLDER)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left on device"):
        write_folder(target, {"report.json": FOLDER.sign[1]}, FOLDER)
    assert [path.name for path in tmp_path.rglob("*")] == (["out", "report.json"] if there else [])
    assert not there or (target / "report.json").read_bytes().endswith(b"old")


def test_a_folder_that_cannot_come_into_its_place_brings_the_old_one_back(tmp_path: Path, monkeypatch):
    target = tmp_path / "out"
    write_folder(target, {"report.json": FOLDER.sign[1] + b" old"}, FOLDER)
    rename = Path.rename

    def fails(self: Path, other: Path) -> Path:
        if self.suffix == ".tmp":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(self, other)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(InputError, match="Input/output error"):
        write_folder(target, {"report.json": FOLDER.sign[1]}, FOLDER)
    assert (target / "report.json").read_bytes().endswith(b"old")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("path", ["/dev/null", "a\0b", "x" * 300])
def test_impossible_folders_are_refused_before_the_work(path: str):
    with pytest.raises(InputError):
        planned_folder(path, FOLDER)


# --- the command


def test_the_command_writes_the_folder(run, tmp_path: Path):
    out = tmp_path / "report"
    arguments = ("report", NET, "--data", "random", "--samples", 2, "--proof-samples", 1, "--engine", "reference")
    result = run(*arguments, "-o", out)
    assert result.returncode == 0, result.stderr
    assert "fits: 7 cores on 1 chip" in result.stdout
    assert f"written: {out}/report.html and 8 files beside it" in result.stdout
    data = json.loads((out / "report.json").read_text())
    assert data["made"]["command"].startswith(f"fastsnn-deploy report {NET} --data random")
    again = run("report", NET, "--samples", 0, "-o", out, "--json")
    assert json.loads(again.stdout) == json.loads((out / "report.json").read_text())


def test_a_network_that_does_not_fit_is_exit_code_2_and_a_report(run, tmp_path: Path):
    out = tmp_path / "report"
    result = run("report", NET, "--cores", 3, "--samples", 0, "-o", out)
    assert result.returncode == 2
    assert "Does not fit" in (out / "report.html").read_text()
    assert "3 are allowed" in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("missing.net",), "no such"),
        ((NET, "--hardware", "loihi3"), "Did you mean 'loihi2'"),
        ((NET, "--measured", "missing.json"), "no such measured run"),
        ((NET, "--data", "nowhere"), "nowhere"),
        ((NET, "--mapping", "missing.json"), "no such mapping file"),
        ((NET, "--hardware", "spinnaker2", "--cores", "3"), "has no limits of a chip"),
    ],
)
def test_mistakes_leave_nothing(run, tmp_path: Path, arguments: tuple[str, ...], says: str):
    out = tmp_path / "report"
    result = run("report", *arguments, "--samples", 1, "-o", out)
    assert result.returncode == 2
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_folder_is_refused_before_the_work(run, tmp_path: Path):
    (tmp_path / "mine").write_text("mine")
    result = run("report", NET, "-o", tmp_path)
    assert result.returncode == 2
    assert "and is no report" in result.stderr
    # what is read is not written
    run("report", NET, "--samples", 0, "-o", tmp_path / "a")
    result = run("report", NET, "--samples", 0, "--mapping", tmp_path / "a" / "mapping.json", "-o", tmp_path / "a")
    assert "would be overwritten, and this command reads it" in result.stderr
    assert result.returncode == 2
