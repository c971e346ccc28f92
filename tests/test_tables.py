"""How results are shown: tables at every width, repr, summary, HTML, plain values and plots."""

from __future__ import annotations

import csv
import html.parser
import io
import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest

from fastsnn_deploy.analysis.evaluate import evaluate
from fastsnn_deploy.analysis.evaluation import Evaluation
from fastsnn_deploy.analysis.profile import profile
from fastsnn_deploy.analysis.result import Profile
from fastsnn_deploy.analysis.verify import verify
from fastsnn_deploy.errors import InputError, unknown
from fastsnn_deploy.files import existing_file, kind_of_file
from fastsnn_deploy.formats.export import export
from fastsnn_deploy.graph import Population, SpikingGraph, save
from fastsnn_deploy.graph.integer_network import integer_values, logits
from fastsnn_deploy.graph.run import Run
from fastsnn_deploy.simulators.reference import simulate
from fastsnn_deploy.tables import Column, Result, Table, span, words
from tests.random_graphs import random_graph, random_images

mpl.use("Agg")

LONG = Table(
    "Layers <b>",
    (words("layer"), words("type", drop=2), Column("synaptic operations"), Column("neuron updates", drop=1)),
    (("a layer of many words and more", "Population", 1_234_567, 5.25), ("total", "", 1_234_567, None)),
    totals=1,
    notes=("a note & more",),
)


@lru_cache
def graph() -> SpikingGraph:
    """The first random graph that classifies."""
    drawn = (g for g in map(random_graph, range(99)) if len(g.populations) > 2)
    return next(g for g in drawn if len(g.outputs) == 1 and len(g[g.outputs[0]].shape) == 1)


def levels(images: int) -> np.ndarray:
    return random_images(graph(), 0, images)


@lru_cache
def run() -> Run:
    return simulate(graph(), graph().input.encode(levels(3)))


@lru_cache
def evaluation() -> Evaluation:
    labels = np.zeros(8, dtype=np.int64)
    return evaluate(graph(), levels(8), labels, engine="reference", topk=(1, 2))


@lru_cache
def profiled() -> Profile:
    return profile(graph(), graph().input.encode(levels(3)), "loihi2")


def results(folder: Path) -> list[Result]:
    verified = replace(verify(graph(), levels(2)), data="random")
    files = [export(graph(), folder / "a.net"), export(graph(), folder / "a.nir", "signed-if", "nir")]
    return [graph(), run(), evaluation(), profiled(), profiled().counts, verified, *files]


# tables


@pytest.mark.parametrize("width", [None, 120, 80, 60, 40, 10, 1])
def test_a_table_never_breaks_a_number_or_a_word_of_a_heading(width: int | None):
    text = LONG.text(width)
    for whole in ("1,234,567", "synaptic", "operations", "layer", "total"):
        assert whole in text
    shown = [column.heading for column in LONG.columns if column.heading.split()[0] in text.splitlines()[1]]
    for column in LONG.columns:
        if column.heading not in shown:
            assert column.heading in " ".join(text.split()).split("not shown in")[1]  # left out, but not silently
    assert "…" not in text
    assert all(line == line.rstrip() for line in text.splitlines())


def test_columns_go_in_their_order_and_lines_fit():
    assert "not shown" not in LONG.text(80)
    assert max(map(len, LONG.text(80).splitlines())) <= 80
    assert "not shown in 45 columns: type;" in " ".join(LONG.text(45).split())
    assert "not shown in 30 columns: type, neuron updates;" in " ".join(LONG.text(30).split())
    assert max(map(len, LONG.text(45).splitlines())) <= 45
    assert "5.2" not in LONG.text(30)
    assert "\x1b[" in LONG.text(color=True)
    assert "\x1b[" not in LONG.text()


def test_csv_holds_every_column_in_full():
    rows = list(csv.reader(io.StringIO(LONG.csv())))
    assert rows[0] == ["layer", "type", "synaptic operations", "neuron updates"]
    assert rows[1][2:] == ["1234567", "5.25"]


class Cells(html.parser.HTMLParser):
    """Cells and balance of an HTML fragment."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_html_is_escaped_and_balanced():
    parser = Cells()
    parser.feed(LONG.html())
    assert parser.open == []
    assert "Layers <b>" in parser.text
    assert {"1,234,567", "a note & more", "neuron updates"} <= set(parser.text)


def test_values_in_words():
    assert [span(ends) for ends in ((0, 3), (4, 4), None)] == ["0 to 3", "4", ""]
    assert Table("Empty", (words("layer"),), ()).text(80).splitlines() == ["Empty", "layer", "-----"]


# results


def test_every_result_has_the_same_four_forms(tmp_path: Path):
    for result in results(tmp_path):
        line = repr(result)
        assert line.startswith(type(result).__name__ + "(")
        assert len(line) <= 120
        assert "\n" not in line
        assert json.loads(json.dumps(result.to_dict(), allow_nan=False))
        assert max(map(len, result.summary(80).splitlines())) <= 80, line
        parser = Cells()
        parser.feed(result._repr_html_())
        assert parser.open == []


def test_the_graph_says_its_size_and_its_layers():
    assert f"{len(graph().populations)} populations" in repr(graph())
    rows = graph().to_dict()["layers"]
    for row in rows:
        node = graph()[row["layer"]]
        assert row["layer"] in graph().summary(80)
        if isinstance(node, Population):
            series = run().spikes[node.name]
            low, high = row["spikes"]
            assert low <= series.min()
            assert series.max() <= high
            assert row["threshold"] == [node.threshold.min(), node.threshold.max()]
    assert graph().to_dict()["total"]["parameters"] == sum(s.parameters for s in graph().synapses)


@pytest.mark.parametrize("seed", range(6))
def test_a_run_knows_its_answer(seed: int):
    drawn = random_graph(seed)
    emitted = drawn.input.encode(random_images(drawn, seed, 2))
    found = simulate(drawn, emitted)
    expected = logits(drawn, integer_values(drawn, emitted))
    assert found.logits.dtype == np.float64
    assert np.array_equal(found.logits, expected)
    assert np.array_equal(found.predictions, expected.argmax(1))
    assert found.to_dict()["predictions"] == expected.argmax(1).tolist()
    with pytest.raises(InputError, match="did not record the output"):
        replace(found, counts={}, potentials={}).logits  # noqa: B018


def test_plots_show_what_was_counted():
    layer = next(iter(run().spikes))
    points = sum(len(drawn.get_offsets()) for drawn in run().plot_raster(layer, 1).collections)
    assert points == np.count_nonzero(run().spikes[layer][:, 1])
    output = graph().outputs[0]
    lines = run().plot_potential(output, neurons=[0, 1]).get_lines() if output in run().potentials else []
    for neuron, line in enumerate(lines):
        assert np.array_equal(line.get_ydata(), run().potentials[output][:, 0, neuron])
    curves = evaluation().plot_accuracy().get_lines()
    assert curves[0].get_ydata()[-1] == pytest.approx(100 * evaluation().accuracy(1))
    assert curves[-1].get_ydata()[0] == pytest.approx(100 * evaluation().accuracy(1))  # the integer network's
    fixed = evaluate(graph(), levels(8), np.zeros(8, dtype=np.int64), engine="reference", topk=(1,), steps=2)
    assert len(fixed.plot_accuracy().get_lines()) == 1
    assert len(fixed.plot_accuracy(integer=0.5).get_lines()) == 2
    bars = evaluation().plot_settling().patches
    assert sum(bar.get_height() for bar in bars) == pytest.approx(100)
    widths = [bar.get_width() for bar in profiled().plot_layers().patches]
    layers = profiled().counts.layers
    assert widths[: len(layers)] == [entry.spikes / 3 for entry in layers]
    mpl.pyplot.close("all")


def test_wrong_names_in_plots():
    with pytest.raises(InputError, match="layer 'nowhere' is not known"):
        run().plot_raster("nowhere")
    with pytest.raises(InputError, match="image 3: the run has images 0 to 2"):
        run().plot_raster(next(iter(run().spikes)), image=3)


# names and files


def test_a_guess_at_what_was_meant():
    assert (
        str(unknown("engine", "cup", ["gpu", "cpu"]))
        == "engine 'cup' is not known. Did you mean 'cpu'? Known: cpu, gpu"
    )
    assert (
        str(unknown("data set", "zzz", ["a"], "give a path")) == "data set 'zzz' is not known. Known: a; or give a path"
    )


def test_files_are_known_by_their_content(tmp_path: Path):
    export(graph(), tmp_path / "a.net")
    export(graph(), tmp_path / "a.nir", "signed-if", "nir")
    save(graph(), tmp_path / "a.safetensors")
    kinds = {"a.net": "exported network", "a.nir": "NIR file", "a.safetensors": "spiking graph file"}
    for name, kind in kinds.items():
        (tmp_path / "renamed").write_bytes((tmp_path / name).read_bytes())
        assert kind_of_file(tmp_path / "renamed") == kind
    with pytest.raises(InputError, match="is a NIR file, and an exported network is needed here"):
        existing_file(tmp_path / "a.nir", "NetX file")
    for content in (b"x", b"PK\x03\x04 not an archive", b"\x89HDF\r\n\x1a\n", b"12345678{"):
        (tmp_path / "other").write_bytes(content)
        assert kind_of_file(tmp_path / "other") == ""
