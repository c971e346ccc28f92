"""Entry point of the command line: commands, and what happens to errors."""

from __future__ import annotations

import re
import sys
import traceback
from typing import Annotated, Any

import typer

from fastsnn_deploy import __version__
from fastsnn_deploy.cli.common import messages, print_json, write
from fastsnn_deploy.cli.demo import demo
from fastsnn_deploy.cli.doctor import doctor
from fastsnn_deploy.cli.evaluate import evaluate
from fastsnn_deploy.cli.export import export
from fastsnn_deploy.cli.finetune import finetune
from fastsnn_deploy.cli.info import info
from fastsnn_deploy.cli.listing import listing
from fastsnn_deploy.cli.profile import profile
from fastsnn_deploy.cli.run import run
from fastsnn_deploy.cli.train import train
from fastsnn_deploy.cli.verify import verify
from fastsnn_deploy.errors import DeployError, InputError, unknown

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

UsageError: Any = typer.BadParameter.__bases__[0]
"""What the parser raises; its module moved between versions of typer."""

CHOICE = re.compile(
    r"Invalid value for '(?P<option>[^']+)'[^:]*: (?:Value error, )?'(?P<value>.*)' is not one of (?P<names>'.*')"
)

for command in (demo, train, finetune, export, verify, run, profile, evaluate, info, doctor):
    app.command()(command)
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
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without µ should show the rest
    try:
        code = app(standalone_mode=False)
    except UsageError as error:
        code = _wrong_usage(error)
    except DeployError as error:
        _report(error)
        code = error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except Exception:
        traceback.print_exc()
        messages().print("this is a bug of fastsnn-deploy. Please report it with the lines above", style="red")
        code = BUG
    if code == INTERRUPTED:  # typer makes Ctrl-C this
        messages().print("interrupted")
    sys.exit(code if isinstance(code, int) else 0)


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
    messages().print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
    if "--json" in sys.argv:
        problems = [{"where": p.where, "what": p.what, "fix": p.fix} for p in error.problems]
        print_json({"error": error.message, "problems": problems})
