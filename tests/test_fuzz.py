"""A bounded run of the fuzzer, and the inputs that once failed."""

from __future__ import annotations

import random
import tempfile
import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hostile_readers import CORPUS, READERS
from tests.scripts import script

fuzz = script("fuzz")


def outcome(name: str, content: bytes, ending: str) -> tuple[str, str]:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / f"input{ending}"
        path.write_bytes(content)
        found: tuple[str, str] = fuzz.tried(name, path)
        return found


SLOW = ("checkpoint", "TorchScript", "torch.export", "ONNX", "QONNX", "stock NetX")
QUICK = [name for name in READERS if name not in SLOW]
"""Readers of which many inputs a second can be tried."""


@settings(max_examples=150, derandomize=True, deadline=None)
@given(name=st.sampled_from(QUICK), seed=st.integers(0, 2**32))
def test_every_reader_accepts_or_refuses_a_changed_file(name: str, seed: int):
    rng = random.Random(seed)
    file = CORPUS / rng.choice(READERS[name].files)
    found = outcome(name, READERS[name].change(file.read_bytes(), rng), file.suffix)
    assert found[0] in ("accepted", "refused"), found


@pytest.mark.parametrize("name", SLOW)
def test_slow_readers_accept_or_refuse_a_changed_file(name: str):
    for number in range(6):
        found = outcome(name, *fuzz.made(name, number))
        assert found[0] in ("accepted", "refused"), (number, found)


@pytest.mark.parametrize("file", sorted((CORPUS / "failed").iterdir()), ids=lambda file: file.name)
def test_what_fuzzing_found_stays_cured(file: Path):
    name = next(name for name in READERS if file.name.startswith(f"{name.replace(' ', '-')}-"))
    found = outcome(name, file.read_bytes(), file.suffix)
    assert found[0] in ("accepted", "refused"), found
