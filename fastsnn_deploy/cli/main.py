"""Entry point of the command line: commands, and what happens to errors."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from fastsnn_deploy import __version__
from fastsnn_deploy.cli.check import check
from fastsnn_deploy.cli.common import messages, print_json, silence, write
from fastsnn_deploy.cli.compare import compare
from fastsnn_deploy.cli.compare_targets import compare_targets
from fastsnn_deploy.cli.demo import demo
from fastsnn_deploy.cli.doctor import doctor
from fastsnn_deploy.cli.evaluate import evaluate
from fastsnn_deploy.cli.export import export
from fastsnn_deploy.cli.finetune import finetune
from fastsnn_deploy.cli.info import info
from fastsnn_deploy.cli.listing import listing
from fastsnn_deploy.cli.map import map_network
from fastsnn_deploy.cli.profile import profile
from fastsnn_deploy.cli.quantize import quantize
from fastsnn_deploy.cli.report import report
from fastsnn_deploy.cli.run import run
from fastsnn_deploy.cli.sanafe import sanafe
from fastsnn_deploy.cli.train import train
from fastsnn_deploy.cli.tune import tune
from fastsnn_deploy.cli.verify import verify
from fastsnn_deploy.errors import DeployError, InputError, legible, unknown
from fastsnn_deploy.files import one_command
from fastsnn_deploy.simulators.notices import HEARERS

app = typer.Typer(
    name="fastsnn-deploy",
    help="From a PyTorch network to a neuromorphic chip, with proof that nothing was lost on the way.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
INTERRUPTED = 130
"""Exit code after Ctrl-C."""

BUG = 70
"""Exit code of an error that is not the user's (BSD's EX_SOFTWARE); 1 only says that an integer differs."""

CLOSED_PIPE = 141
"""Exit code when nobody reads the messages any more: 128 and SIGPIPE, as shells say it."""

GRACE_SECONDS = 10.0
"""Signals that follow the first within this time do not disturb its cleaning up."""

UsageError: Any = typer.BadParameter.__bases__[0]
"""What the parser raises; its module moved between versions of typer."""

CHOICE = re.compile(
    r"Invalid value for '(?P<option>[^']+)'[^:]*: (?:Value error, )?'(?P<value>.*)' is not one of (?P<names>'.*')"
)

COMMANDS = (
    demo, check, train, quantize, finetune, tune, export, verify, compare, compare_targets, run, profile, report,
    sanafe, evaluate, info, doctor,
)  # fmt: skip
for command in COMMANDS:
    app.command()(command)
app.command("map")(map_network)
app.command("list")(listing)


def _version(wanted: bool) -> None:
    if wanted:
        write(f"fastsnn-deploy {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run a command; turn errors into one message on stderr and an exit code (see `errors`)."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # the caller has closed it
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        if hasattr(stream := getattr(sys, name), "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without µ should show the rest
    with _orderly_end(), one_command():
        code = _run()
    sys.exit(code)


@contextmanager
def _orderly_end() -> Iterator[None]:
    """SIGTERM and SIGHUP raise SystemExit: temporary files and Lava's sessions are cleaned up as after Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    last = -GRACE_SECONDS

    def end(number: int, frame: object) -> None:
        nonlocal last
        if time.monotonic() - last > GRACE_SECONDS:
            last = time.monotonic()
            raise SystemExit(128 + number)

    numbers = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) is signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _run() -> int:
    """Run the command that sys.argv names; its exit code."""
    warnings.formatwarning = _warning_line
    HEARERS.append(_say)
    try:
        code = app(standalone_mode=False)
    except UsageError as error:
        code = _wrong_usage(error)
    except DeployError as error:
        _report(error)
        code = error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except SystemExit as ended:
        code = _ended(ended)
    except Exception:
        _say(traceback.format_exc())
        _say("this is a bug of fastsnn-deploy. Please report it with the lines above", style="red")
        code = BUG
    finally:
        HEARERS.remove(_say)
    if code == INTERRUPTED:  # typer makes Ctrl-C this
        _say("interrupted")
    return code if isinstance(code, int) else 0


def _warning_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning as a line for people, without the place in our code."""
    return f"warning: {legible(str(message))}\n"


def _ended(ended: SystemExit) -> int:
    """The exit code of a signal, or of a library that ended the program: 1 only says that an integer differs."""
    if isinstance(ended.__context__, BrokenPipeError):  # typer and rich make 1 of it
        silence(2)
        return CLOSED_PIPE
    if ended.code is None or (isinstance(ended.code, int) and ended.code != 1):
        return ended.code or 0
    _say(f"the command was ended by sys.exit({ended.code!r}) in code that it called", style="red")
    return BUG


def _say(text: str, style: str | None = None) -> None:
    """A message on stderr, if anybody reads it."""
    try:
        messages().print(legible(text), style=style, markup=False, highlight=False, soft_wrap=True)
    except (OSError, SystemExit):  # rich makes the latter of a closed pipe
        silence(2)


def _wrong_usage(error: Any) -> int:
    """A wrong option or value, in the form of every other error; a command without arguments gives its help."""
    text = error.format_message()
    if not text or type(error).__name__ == "NoArgsIsHelpError":
        write(error.ctx.get_help())
        return 2
    choice = CHOICE.match(text)
    if choice:
        names = re.findall(r"'([^']*)'", choice["names"])
        _report(unknown(choice["option"], choice["value"], names))
    else:
        where = f" See `{error.ctx.command_path} --help`" if error.ctx is not None else ""
        _report(InputError(f"{text.rstrip('.')}.{where}"))
    return int(error.exit_code)


def _report(error: DeployError) -> None:
    """The error on stderr; with --json also as an object on stdout."""
    _say(f"error: {error}", style="red")
    if "--json" in sys.argv:
        problems = [{"where": p.where, "what": p.what, "fix": p.fix} for p in error.problems]
        print_json({"error": error.message, "problems": problems})
