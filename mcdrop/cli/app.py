"""The application: its commands, its global options, and how errors leave it.

Commands import torch and the rest of mcdrop when they run, so that `mcdrop --help` stays quick.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, cast

import typer
from typer.core import TyperGroup

from mcdrop.cli.audit import audit
from mcdrop.cli.calibrate import calibrate
from mcdrop.cli.compare import compare
from mcdrop.cli.demo import demo
from mcdrop.cli.evaluate import evaluate
from mcdrop.cli.export import export
from mcdrop.cli.info import info
from mcdrop.cli.key import key
from mcdrop.cli.predict import predict
from mcdrop.cli.serve import serve
from mcdrop.errors import McdropError
from mcdrop.version import __version__

# typer exports it under no name of its own
UsageError = cast("type[Exception]", typer.BadParameter.__base__)


class Commands(TyperGroup):
    """The commands; an error leaves as one line on stderr: exit code 1, or 2 if it is of usage."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Read the options before the command."""
        with _one_line_usage():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:  # typer carries its own copy of click's types
        """Run the chosen command.

        Raises:
            Exit: with code 1, after an expected error, and 2 after a usage error.
        """
        try:
            with _one_line_usage():
                return super().invoke(ctx)
        except BrokenPipeError:
            raise  # the reader has gone (`| head`): typer ends quietly
        except (McdropError, OSError) as error:
            if ctx.params["debug"]:
                raise
            typer.echo(f"mcdrop: {_line(error)}", err=True)
            raise typer.Exit(1) from None


@contextmanager
def _one_line_usage() -> Iterator[None]:
    try:
        yield
    except UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            raise  # the page of `mcdrop --help`
        usage: Any = error
        command = usage.ctx.command_path if usage.ctx else "mcdrop"
        text = " ".join(usage.format_message().replace("Value error, ", "").split())
        text = text.removesuffix(".")
        typer.echo(f"mcdrop: {text} (see {command} --help)", err=True)
        raise typer.Exit(2) from None


def _line(error: Exception) -> str:
    """An error as a line: the file first where the system names one, as in `x.npy: No such ...`."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mcdrop {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", envvar="MCDROP_DEBUG", help="Show the traceback of an error, not one line."
        ),
    ] = False,
) -> None:
    r"""Monte Carlo dropout for any PyTorch model: predictions that know what they do not know.

    Try it on the demo models:
      mcdrop demo                                    train them (about 20 seconds)
      mcdrop info models/digits/1                    what is in an artifact
      mcdrop serve                                   serve them on 127.0.0.1:8000
      mcdrop demo --request digits | curl -s --json @- \
          localhost:8000/v1/models/digits/predict    ask

    Bring your own (nets.py: `def build(): return model, example_inputs`):
      mcdrop audit nets:build                        where is it random?
      mcdrop export nets:build models/mine/1 --task classification
      mcdrop calibrate models/mine/1 held_out.csv --target y --output models/mine/2
      mcdrop evaluate models/mine/2 test.csv --target y --report report
      mcdrop predict models/mine/2 rows.csv answers.csv
    """


app = typer.Typer(
    name="mcdrop",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.callback()(_options)
for _command in (audit, export, info, calibrate, evaluate, predict, serve, key, demo, compare):
    app.command()(_command)


def main() -> None:
    """Entry point of the console script `mcdrop`."""
    app(prog_name="mcdrop")
