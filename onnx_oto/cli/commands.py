"""The commands together, and what becomes of their errors."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

import click
from click.shell_completion import shell_complete

from onnx_oto import __version__
from onnx_oto.cli.ending import Trouble
from onnx_oto.cli.streams import PROGRESS, RESULTS, ReaderGone
from onnx_oto.cli.verbs import VERBS
from onnx_oto.errors import LimitError, OtoError, StorageError, UsageError
from onnx_oto.settings.base import nearest

NAME = "onnx-oto"
COMPLETE = "_ONNX_OTO_COMPLETE"
"""The variable by which a shell asks for completions (see click)."""
EPILOG = (
    "Results go to stdout, progress to stderr. Exit codes: 0 ok, 1 defect, 2 usage, 3 invalid or unsafe model, "
    "4 unsupported, 5 data, 6 diverged, 7 environment, 8 files, 129/130/143 interrupted. Completion by Tab, in bash: "
    f'eval "$({COMPLETE}=bash_source onnx-oto)" (zsh_source and fish_source for others).'
)
EXAMPLES = (
    "onnx-oto demo",
    "onnx-oto inspect model.onnx",
    "onnx-oto train model.onnx --data data.npz --run runs/first --sparsity 0.5",
)


_ALL = 1000
"""Characters of a sentence in the list of commands: more than any has."""


class Verbs(click.Group):
    """The commands, each loaded when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, None for a name that none has."""
        return VERBS[cmd_name].load() if cmd_name in VERBS else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what each command does, in a sentence of which nothing is cut off."""
        commands = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        with formatter.section("Commands"):
            formatter.write_dl([(name, each.get_short_help_str(_ALL)) for name, each in commands if each])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write how to begin, and what holds for all commands."""
        with formatter.section("Examples"):
            formatter.write("".join(f"{'':{formatter.current_indent}}{each}\n" for each in EXAMPLES))
        super().format_epilog(ctx, formatter)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read arguments; options stand behind the command that they are for."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if not set(args) & VERBS.keys():
                raise
            said = f"'{error.option_name}' stands in front of the command: write it behind"
            raise click.UsageError(said, ctx) from None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return what the arguments name; say the nearest name to one that is unknown."""
        unknown = bool(args) and args[0] not in VERBS and not args[0].startswith("-")
        if unknown and not ctx.resilient_parsing:
            near = nearest(args[0], VERBS) or f": there are {', '.join(sorted(VERBS))}"
            ctx.fail(f"there is no command '{args[0]}'{near}")
        return super().resolve_command(ctx, args)


@click.group(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EPILOG,
)
@click.version_option(__version__, prog_name=NAME)
def cli() -> None:
    """Train an ONNX model once and get a smaller ONNX model that computes the same function."""


def run(arguments: Sequence[str]) -> Trouble | int:
    """Run the command line and return what went wrong, or an exit code. Raises Interrupted."""
    RESULTS.used = PROGRESS.muted = False
    try:
        if wish := os.environ.get(COMPLETE):
            return shell_complete(cli, {}, NAME, COMPLETE, wish)
        with cli.make_context(NAME, list(arguments)) as context:
            cli.invoke(context)
    except click.exceptions.Exit as error:
        return error.exit_code
    except ReaderGone:
        return 0
    except Exception as error:
        return 0 if _reader_left(error) else trouble_of(error)
    return 0


def _reader_left(error: Exception) -> bool:
    """Return whether stdout broke where click prints to it (help): all other pipes are seen to where they are used."""
    if not isinstance(error, BrokenPipeError):
        return False
    with contextlib.suppress(ReaderGone):
        RESULTS.flush()  # what is left of it goes nowhere
    return True


def trouble_of(error: Exception) -> Trouble:
    """Return what is said of an error, and its exit code."""
    if isinstance(error, OtoError):
        return Trouble(error.exit_code, type(error).__name__, str(error))
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return Trouble(UsageError.exit_code, UsageError.__name__, "no command given", error.format_message())
    if isinstance(error, click.ClickException):
        return Trouble(UsageError.exit_code, UsageError.__name__, error.format_message() + _usage(error))
    if isinstance(error, OSError):
        where = f" '{error.filename}'" if error.filename else ""
        message = f"cannot read or write{where}: {error.strerror or error}"
        return Trouble(StorageError.exit_code, StorageError.__name__, message)
    if isinstance(error, ImportError):
        return Trouble.of_import(error)
    if isinstance(error, MemoryError):
        return Trouble(LimitError.exit_code, LimitError.__name__, "there is not enough memory for this")
    if os.environ.get("ONNX_OTO_DEBUG"):
        import traceback

        traceback.print_exception(error)
    line = (str(error).strip().splitlines() or [""])[0]
    message = f"{type(error).__name__}: {line} (a defect of onnx-oto; ONNX_OTO_DEBUG=1 shows where)"
    return Trouble(OtoError.exit_code, "Defect", message)


def _usage(error: click.ClickException) -> str:
    """Return how the command is used, where the error knows which one it is."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is None:
        return ""
    dot = "" if error.format_message().endswith((".", "?")) else "."
    return f"{dot} {' '.join(context.get_usage().split())} ({context.command_path} --help says more)"
