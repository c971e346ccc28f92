"""Entry point of the command line: commands, and what happens to errors."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from fastsnn_deploy import __version__
from fastsnn_deploy.cli.common import messages, print_json
from fastsnn_deploy.cli.demo import demo
from fastsnn_deploy.cli.doctor import doctor
from fastsnn_deploy.cli.evaluate import evaluate
from fastsnn_deploy.cli.export import export
from fastsnn_deploy.cli.finetune import finetune
from fastsnn_deploy.cli.profile import profile
from fastsnn_deploy.cli.run import run
from fastsnn_deploy.cli.train import train
from fastsnn_deploy.cli.verify import verify
from fastsnn_deploy.errors import DeployError

app = typer.Typer(
    name="fastsnn-deploy",
    help="From a PyTorch network to a neuromorphic chip, with proof that nothing was lost on the way.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
INTERRUPTED = 130
"""Exit code after Ctrl-C."""

for command in (demo, train, finetune, export, verify, run, profile, evaluate, doctor):
    app.command()(command)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fastsnn-deploy {__version__}")
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
    try:
        app()
    except DeployError as error:
        _report(error)
        sys.exit(error.exit_code)
    except SystemExit as end:
        if end.code == INTERRUPTED:  # typer makes Ctrl-C this
            messages().print("interrupted")
        raise


def _report(error: DeployError) -> None:
    """The error on stderr; with --json also as an object on stdout."""
    messages().print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
    if "--json" in sys.argv:
        problems = [{"where": p.where, "what": p.what, "fix": p.fix} for p in error.problems]
        print_json({"error": error.message, "problems": problems})
