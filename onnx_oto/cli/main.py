"""Entry point: commands, errors as one line, exit codes."""

from __future__ import annotations

import os
import sys
import traceback

import click

from onnx_oto import __version__
from onnx_oto.cli.models import compact_command, inspect_command, prune_command, verify_command
from onnx_oto.cli.training import demo_command, train_command
from onnx_oto.errors import OtoError, StorageError

EPILOG = (
    "Results go to stdout, progress to stderr. Exit codes: 0 ok, 1 defect, 2 usage, 3 invalid or unsafe model, "
    "4 unsupported, 5 data, 6 diverged, 7 environment, 8 files, 130/143 interrupted."
)


class _Commands(click.Group):
    """Commands whose output may be cut off: a reader of stdout that has seen enough is no error."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise click.exceptions.Exit(0) from None


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EPILOG,
)
@click.version_option(__version__, prog_name="onnx-oto")
def cli() -> None:
    """Train an ONNX model once and get a smaller ONNX model that computes the same function."""


for command in (demo_command, inspect_command, train_command, prune_command, compact_command, verify_command):
    cli.add_command(command)


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        code = 130
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except OtoError as error:
        click.echo(f"error: {error}", err=True)
        code = error.exit_code
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        code = 130
    except OSError as error:
        where = f" '{error.filename}'" if error.filename else ""
        click.echo(f"error: cannot read or write{where}: {error.strerror or error}", err=True)
        code = StorageError.exit_code
    except Exception as error:  # a defect of ours: one line, the rest on request
        if os.environ.get("ONNX_OTO_DEBUG"):
            traceback.print_exc()
        line = (str(error).strip().splitlines() or [""])[0]
        click.echo(
            f"error: {type(error).__name__}: {line} (a defect of onnx-oto; ONNX_OTO_DEBUG=1 shows where)",
            err=True,
        )
        code = 1
    sys.exit(code if isinstance(code, int) else 0)
