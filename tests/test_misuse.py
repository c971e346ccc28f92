"""The public functions with any value for any argument: a result, or one error of this package. Never a traceback."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import fastsnn_deploy as fd
from fastsnn_deploy.graph import SpikeTrains
from tests.test_mistakes import LABELS, PIXELS, SHAPE, calibrated, network

NUMBERS: tuple[Any, ...] = (
    None, 0, -1, 1, 3, 10**9, 10**30, 1.5, float("nan"), float("inf"), True, 1j, np.float32(2), np.int8(3),
    torch.tensor(2.0), np.array(None), np.array("x"),
)  # fmt: skip
WORDS: tuple[Any, ...] = (
    "", "x", "x" * 300, b"m.pt", "cpu", "reference", "settle", "window", "graded", "burst4", "netx", "nir", "stock-lif",
    "signed-if", "sigma-delta", "loihi2", "digits", "random", "test", "model.pt", "model.net", "text", "empty", "ghost",
)  # fmt: skip
SHAPES: tuple[Any, ...] = (
    [], {}, SHAPE, (3, 8, 8), (0, 8, 8), (-1, 2, 2), (1, 8), ("a",), range(3), iter([1]), {1: 2}, {"a": object()},
)  # fmt: skip
ARRAYS: tuple[Any, ...] = (
    PIXELS, PIXELS[0], PIXELS[0, 0], PIXELS[:0], PIXELS / 255, PIXELS / 1.0, PIXELS.astype(np.int64), LABELS,
    LABELS[:5], LABELS / 3, np.zeros((6, 3, 8, 8), np.uint8), np.zeros((6, 1, 9, 7), np.uint8),
    torch.from_numpy(PIXELS), torch.zeros(6, *SHAPE, dtype=torch.complex64), torch.zeros(6, *SHAPE).to_sparse(),
    torch.empty(6, *SHAPE, device="meta"), torch.zeros(6, *SHAPE, requires_grad=True),
)  # fmt: skip
THINGS: tuple[Any, ...] = (
    fd.Events([0], [0], [0], [1]),
    SpikeTrains(SHAPE, 1, *np.zeros((3, 1), dtype=np.int64)),
    network(),
    nn.Identity(),
    nn.Conv2d(1, 2, 3),
    network().state_dict(),
    object(),
    int,
    len,
)
NAMES = (
    "prepare", "calibrate", "convert", "simulate", "evaluate", "verify", "profile", "save", "load", "export", "read",
    "load_data", "load_model", "check", "compare", "tune", "compare_targets", "export_sanafe",
    "evaluate_events", "spike_trains", "read_events",
)  # fmt: skip


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any]]:
    """(quantised model, spiking graph), with files of them in the working folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("misuse"))
        model = calibrated(network())
        graph = fd.convert(model)
        fd.save(model, "model.pt")
        fd.export(graph, "model.net")
        Path("text").write_text("hello")
        Path("empty").touch()
        yield model, graph


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(NAMES), data=st.data())
def test_any_value_for_any_argument(name: str, data: st.DataObject, ours: tuple[Any, Any]) -> None:
    model, graph = ours
    usual: dict[str, dict[str, Any]] = {
        "prepare": {"model": network(), "bits": 2, "weight_bits": 4}, "calibrate": {"model": model, "images": PIXELS},
        "convert": {"model": model}, "simulate": {"network": graph, "images": PIXELS},
        "evaluate": {"network": graph, "images": PIXELS, "labels": LABELS},
        "verify": {"model": model, "images": PIXELS[:2]}, "profile": {"network": graph, "images": PIXELS},
        "save": {"model": model, "path": "out.pt"}, "load": {"path": "model.pt"},
        "export": {"network": graph, "path": "out.net"}, "read": {"path": "model.net"}, "load_data": {"name": "digits"},
        "load_model": {"path": "model.pt"}, "check": {"model": network(), "images": PIXELS},
        "compare": {"model": model, "images": PIXELS, "labels": LABELS},
        "export_sanafe": {"network": graph, "images": PIXELS, "path": "sanafe"},
        "tune": {
            "models": model, "budget": "cores<=1", "train": (PIXELS, LABELS), "codes": ["graded"], "bits": [2],
            "samples": 2, "profile_samples": 1, "images": 2, "trials": 1, "engine": "reference",
        },
        "evaluate_events": {"network": graph, "events": [fd.Events([0], [0], [0], [1])]},
        "spike_trains": {"recordings": [fd.Events([0], [0], [0], [1])], "source": graph.input},
        "read_events": {"path": "text"},
        "compare_targets": {"model": graph, "images": PIXELS, "targets": ["window"], "spiking_images": 2},
    }  # fmt: skip
    kinds = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    parameters = [p for p, what in inspect.signature(getattr(fd, name)).parameters.items() if what.kind in kinds]
    changed = data.draw(st.lists(st.sampled_from(parameters), min_size=1, max_size=2, unique=True))
    value = st.sampled_from((*NUMBERS, *WORDS, *SHAPES, *ARRAYS, *THINGS, model, graph, graph.encode(PIXELS)))
    arguments = usual[name] | {parameter: data.draw(value) for parameter in changed}
    if callable(arguments.get("progress")):
        del arguments["progress"]  # whatever a function of the user's raises is the user's
    with suppress(fd.DeployError):
        getattr(fd, name)(**arguments)
