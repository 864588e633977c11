"""Making a command of a function: paths that it is given, and settings, which may come from a file."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from onnx_oto.cli.setting_option import SettingOption, SettingType, StandsFor, options_of
from onnx_oto.cli.streams import PROGRESS
from onnx_oto.cli.verbs import VERBS
from onnx_oto.errors import StorageError, UsageError
from onnx_oto.settings import Setting, Settings, settings_of
from onnx_oto.settings.base import flat, gathered
from onnx_oto.settings.declare import About
from onnx_oto.settings.files import read_settings
from onnx_oto.settings.kinds import PATH, Kind, kind_of
from onnx_oto.settings.topics import EVERYWHERE, TOPICS
from onnx_oto.signals import POSTPONED

HELP = ["-h", "--help"]
PATHS = kind_of(Sequence[Path])
MOST_NAMES = 10_000
"""Files of a folder among which one is looked for that was meant."""
CONFIG = Setting(
    "config",
    kind_of(Path | None),
    About(
        "Take what is not given here from this TOML file, such as the run.toml of a run: options without dashes, in a "
        "table with the name of the command. A switch that it turns on is turned off by --no-NAME.",
        topic=EVERYWHERE,
    ),
)


@dataclass(frozen=True)
class Place:
    """A path that a command reads or writes. Given by its position, or by an option where there is `help`.

    default: what it is when not given; required without, unless it is `optional`. kind: what is taken for one. many:
    whether there may be several, by position; they come as a tuple. metavar: what stands for it in help, where that is
    not its name.
    """

    name: str
    help: str = ""
    short: str = ""
    default: Path | None = None
    kind: Kind = PATH
    many: bool = False
    metavar: str = ""
    optional: bool = False

    @property
    def setting(self) -> Setting:
        """What a file may say of it."""
        kind = PATHS if self.many else self.kind
        is_required = self.default is None and not self.optional
        return Setting(self.name, kind, About(self.help), self.default, is_required)

    def parameter(self) -> click.Parameter:
        """Return it as a parameter of click."""
        if self.help:
            return SettingOption(self.setting, short=self.short)
        kind, shown = SettingType(self.setting), self.metavar or self.name.upper()
        count, word = (-1, f"{shown}...") if self.many else (1, shown)
        return click.Argument([self.name], type=kind, metavar=word, required=not self.optional, nargs=count)


ELSEWHERE = {
    "--amount": "--sparsity",
    "--batch-size": "--batch",
    "--dataset": "--data",
    "--epoch": "--epochs",
    "--flops": "--macs",
    "--learning-rate": "--lr",
    "--num-workers": "--loaders",
    "--optim": "--optimizer",
    "--out": "--output",
    "--output-dir": "--run",
    "--prune-ratio": "--sparsity",
    "--pruning-ratio": "--sparsity",
    "--ratio": "--sparsity",
    "--size": "--bytes",
    "--target-sparsity": "--sparsity",
    "--wd": "--weight-decay",
    "--workers": "--loaders",
}
"""What options are called elsewhere, and no similar name here would tell."""


class Verb(click.Command):
    """A command whose parameters are made when somebody asks: what they offer may take long to load."""

    def __init__(
        self,
        name: str,
        run: Callable[..., None],
        text: str,
        make: Callable[[], Iterable[click.Parameter]],
        examples: tuple[str, ...] = (),
    ) -> None:
        super().__init__(name, callback=run, help=text)
        self._make = make
        self.examples = examples

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the parameters, --help among them."""
        if not self.params:
            self.params.extend(self._make())
        return super().get_params(ctx)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read arguments; an option that is called otherwise elsewhere is told by its name here."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            own = ELSEWHERE.get(error.option_name, "")
            if any(own in each.opts for each in self.get_params(ctx)):
                said = f"No such option '{error.option_name}'. Did you mean '{own}'?"
                raise click.NoSuchOption(error.option_name, said, ctx=ctx) from None
            raise

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under the headings of their topics."""
        shown: dict[str, list[tuple[str, str]]] = {topic: [] for topic in TOPICS}
        options = [each for each in self.get_params(ctx) if isinstance(each, click.Option)]
        for each in sorted(options, key=_is_moved):
            if (record := each.get_help_record(ctx)) is not None:
                shown[_topic(each)].append(record)
        for topic, records in shown.items():
            if records:
                with formatter.section(topic):
                    formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write how it is used: lines to copy, which nothing breaks."""
        if self.examples:
            with formatter.section("Example" if len(self.examples) == 1 else "Examples"):
                formatter.write("".join(f"{'':{formatter.current_indent}}{each}\n" for each in self.examples))

    def get_help_option_names(self, ctx: click.Context) -> list[str]:
        """Return the flags that ask for help, whatever context it is asked in."""
        return HELP


def _topic(option: click.Option) -> str:
    return option.setting.topic if isinstance(option, SettingOption) else EVERYWHERE


def _is_moved(option: click.Option) -> bool:
    """Return whether an option stands under another topic than its class: behind what is at home there."""
    return isinstance(option, SettingOption) and option.setting.topic != option.setting.section


def verb(
    name: str,
    settings: type[Settings],
    *places: Place,
    example: str | tuple[str, ...] = (),
    bare: bool = False,
) -> Callable[[Callable[..., None]], Verb]:
    """Return what makes a command of a function: it is called with the settings, `as_json`, and the paths by name.

    Its first sentence of documentation is the short help. Values on the command line come before those of --config.
    example: command lines that are shown in help. bare: it does without onnx, which may be missing.
    """
    fields = settings_of(settings)

    def configured(context: click.Context, _: click.Parameter, path: Path | None) -> Path | None:
        if path is not None:
            known = (*(place.setting for place in places), *flat(fields))
            context.default_map = read_settings(path, name, known, VERBS)
        return path

    def parameters() -> Iterator[click.Parameter]:
        yield from (place.parameter() for place in places)
        for each in flat(fields):
            yield from options_of(each)
        config = SettingOption(CONFIG)
        config.is_eager, config.callback = True, configured
        yield config
        yield click.Option(
            ["--json", "as_json"], is_flag=True, help="Print one JSON object and nothing else."
        )
        yield click.Option(["-q", "--quiet", "quiet"], is_flag=True, help="Say nothing on stderr but errors.")

    def made(function: Callable[..., None]) -> Verb:
        def run(*, as_json: bool, quiet: bool, config: Path | None, **values: Any) -> None:
            PROGRESS.muted = quiet
            given = _given(click.get_current_context(), values)
            _require_apart(config, given.values())
            paths = {place.name: given.pop(place.name, place.default) for place in places}
            if not bare:
                with POSTPONED:  # what a signal raises while its native part begins crashes it
                    importlib.import_module("onnx")
            made = settings(**gathered(fields, given))
            try:
                function(made, as_json=as_json, **paths)
            except StorageError as error:
                raise StorageError(f"{error}{_meant(str(error), paths.values())}") from None

        examples = (example,) if isinstance(example, str) else example
        return Verb(name, run, inspect.cleandoc(function.__doc__ or ""), parameters, examples)

    return made


def _meant(said: str, paths: Iterable[Any]) -> str:
    """Return the name of a file beside one that is not there, in words, where one may have been meant."""
    import difflib

    places = (item for path in paths for item in (path if isinstance(path, tuple) else (path,)))
    for place in places:
        if not said.startswith(f"cannot read '{place}': ") or os.path.lexists(place):
            continue
        with contextlib.suppress(OSError):
            parent = Path(place).parent
            with os.scandir(parent) as found:
                names = [each.name for each in itertools.islice(found, MOST_NAMES)]
            if near := difflib.get_close_matches(Path(place).name, names, 1):
                return f": did you mean '{parent / near[0]}'?"
    return ""


def _given(context: click.Context, values: dict[str, Any]) -> dict[str, Any]:
    """Return the values that the command line or a file gives, flags that stand for a value as that value."""
    sources = {name: context.get_parameter_source(name) for name in values}
    given = {name: value for name, value in values.items() if sources[name] is not ParameterSource.DEFAULT}
    for each in context.command.params:
        if not isinstance(each, StandsFor) or not given.pop(str(each.name), None):
            continue
        name, key = each.setting.name, each.setting.key
        if sources[name] is ParameterSource.COMMANDLINE and given[name] != each.value:
            raise click.UsageError(
                f"{each.flag} is --{key} {each.value}, and --{key} {given[name]} was given", context
            )
        given[name] = each.value
    return given


def _require_apart(config: Path | None, values: Iterable[Any]) -> None:
    """Raise UsageError when the file of settings is something else too: an output would replace it."""
    each_one = (item for value in values for item in (value if isinstance(value, tuple) else (value,)))
    for value in each_one:
        if config is None or not isinstance(value, Path) or not value.exists():
            continue
        if os.path.samefile(value, config):
            raise UsageError(f"'{value}' is the file of settings: give another name")
