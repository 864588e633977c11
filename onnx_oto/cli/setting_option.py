"""Settings as parameters of click: every flag, its help and what it takes come from the field's declaration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from onnx_oto.errors import UsageError
from onnx_oto.settings import Setting

if TYPE_CHECKING:
    ParamType = click.ParamType[Any]
else:
    ParamType = click.ParamType  # generic from 8.4 on


class SettingType(ParamType):
    """Reads what a setting may be. Values of a file come as they are: they were judged where the file was read."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.name = setting.key

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value of a text; one item of it where the setting is repeated."""
        if not isinstance(value, str):
            return value
        try:
            made = self.setting.of_text(value)
        except UsageError as error:
            raise click.UsageError(str(error), ctx) from None
        return made[0] if self.setting.kind.repeats else made

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """Return what stands for the value in help."""
        return self.setting.metavar

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the names that begin so, or let the shell list files."""
        if self.setting.kind.is_path:
            return [CompletionItem(incomplete, type="file")]
        return [CompletionItem(name) for name in self.setting.choices if name.startswith(incomplete)]


class SettingOption(click.Option):
    """A setting on the command line. Its help is put together when somebody reads it: choices may take long to load."""

    def __init__(self, setting: Setting, *, short: str = "") -> None:
        self.setting = setting
        flag = f"--{setting.key}"
        self.shown = ", ".join([short, flag] if short else [flag])
        flags = [each for each in (short, flag, *setting.about.aliases) if each]
        if setting.kind.is_switch:
            super().__init__(
                [setting.name, f"{flag}/--no-{setting.key}", *setting.about.aliases], default=None
            )
        else:
            super().__init__(
                [setting.name, *flags],
                type=SettingType(setting),
                multiple=setting.kind.repeats,
                required=setting.required,
            )

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:
        """Return the flags, and the help with the default. The --no- form of a switch is not shown."""
        setting = self.setting
        takes = "" if setting.kind.is_switch else f" {setting.metavar}"
        extra = (
            "required" if setting.required else setting.shown_default and f"default: {setting.shown_default}"
        )
        return self.shown + takes, setting.help + (f"  [{extra}]" if extra else "")


class StandsFor(click.Option):
    """A hidden flag that gives a setting one value."""

    def __init__(self, setting: Setting, flag: str, value: Any) -> None:
        self.setting, self.flag, self.value = setting, flag, value
        name = f"stands_for_{flag.strip('-').replace('-', '_')}"
        super().__init__([name, flag], is_flag=True, default=None, hidden=True)


def options_of(setting: Setting) -> Iterator[click.Option]:
    """Yield the option of a setting, and the hidden flags that stand for one of its values."""
    yield SettingOption(setting)
    for flag, value in setting.about.stands_for.items():
        yield StandsFor(setting, flag, value)
