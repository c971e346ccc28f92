"""What a command line gave, run inside the process of the tests."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from fastsnn_deploy.cli.main import main


@dataclass(frozen=True)
class Result:
    """What a command printed and returned."""

    returncode: int
    stdout: str
    stderr: str


def runner(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """run(*arguments): a command line inside this process; starting a new one for each takes seconds."""

    def run_command(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["fastsnn-deploy", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_call:
            main()
        printed = capsys.readouterr()
        return Result(exit_call.value.code or 0, printed.out, printed.err)

    return run_command
