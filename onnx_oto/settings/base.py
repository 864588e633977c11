"""`Settings`, which check themselves, and what is known of their fields."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import PurePath
from typing import Any, ClassVar, get_type_hints

from onnx_oto.errors import UsageError
from onnx_oto.settings.declare import About, about
from onnx_oto.settings.kinds import Kind, kind_of
from onnx_oto.settings.topics import GENERAL
from onnx_oto.signals import POSTPONED


@dataclass(frozen=True)
class Setting:
    """One field of a Settings class. name: of the field, and the keyword in Python. default: its value when not given.

    A setting that is `required` has none (only what a command reads and writes, see `onnx_oto.cli.verb`). section: of
    its class, what it stands under in help unless it has a topic of its own.
    """

    name: str
    kind: Kind
    about: About
    default: Any = None
    required: bool = False
    section: str = GENERAL

    @property
    def topic(self) -> str:
        """The heading that it stands under in help."""
        return self.about.topic or self.section

    @property
    def key(self) -> str:
        """Its name in a file, and behind -- on the command line. Words that Python keeps for itself end in _ there."""
        return self.name.rstrip("_").replace("_", "-")

    @property
    def help(self) -> str:
        """All that is said of it."""
        return f"{self.about.help} {self.about.more()}" if self.about.more else self.about.help

    @property
    def choices(self) -> tuple[str, ...]:
        """The names to choose from, () when it is no choice."""
        if self.kind.choices or not self.about.choices:
            return self.kind.choices
        with POSTPONED:  # registries load onnx, see `cli.verb`
            return tuple(self.about.choices())

    @property
    def metavar(self) -> str:
        """What stands for the value in help."""
        choices = self.choices
        return self.about.metavar or (f"[{'|'.join(choices)}]" if choices else self.kind.metavar)

    @property
    def shown_default(self) -> str:
        """The default as help tells it, "" for one that goes without saying."""
        if words := self.about.shown:
            return words if isinstance(words, str) else words()
        if (
            self.default in (None, (), "")
            or self.about.entries is not None
            or self.kind.is_switch
            or self.required
        ):
            return ""
        return f"{self.default:g}" if isinstance(self.default, float) else str(self.default)

    def of_text(self, text: str) -> Any:
        """Return the value that a text on the command line means. Raises UsageError."""
        return self._made(self.about.read or self.kind.of_text, text)

    def accept(self, value: Any) -> Any:
        """Return a value of Python or TOML in its one form. Raises UsageError."""
        if self.about.read is not None and isinstance(value, str):
            return self.of_text(value)
        return self._made(self.kind.of_value, value)

    def _made(self, make: Any, value: Any) -> Any:
        try:
            result = make(value)
        except (ValueError, OverflowError) as error:
            own = str(error) if make is self.about.read else ""
            raise self._refused(value, (own or self._wanted()) + _of_percent(value)) from None
        if result is None:
            return None
        for item in result if isinstance(result, tuple) else (result,):
            name = item.partition(":")[0] if self.about.has_options else item
            if self.about.choices is not None and name not in self.choices:
                raise self._refused(item, self._wanted())
        if self.about.entries is not None:
            return self._entered(result)
        remedy = self.about.check(result) if self.about.check is not None else None
        if remedy:
            raise self._refused(result, remedy)
        return result

    def _entered(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a mapping holds, each value checked; what is None is not given."""
        entries = {each.name: each for each in self.entries}
        given = {name: value for name, value in values.items() if value is not None}
        return {name: entries[name].accept(value) for name, value in named(given, entries.values()).items()}

    @property
    def entries(self) -> tuple[Setting, ...]:
        """The settings that it holds, () when it is no mapping."""
        return tuple(self.about.entries()) if self.about.entries is not None else ()

    def _wanted(self) -> str:
        choices = self.choices
        return f"choose one of {', '.join(choices)}" if choices else f"give {self.kind.wanted}"

    def _refused(self, value: Any, remedy: str) -> UsageError:
        items = value if isinstance(value, tuple) else (value,)
        told = ", ".join(str(each) if isinstance(each, int | float) else repr(each) for each in items)
        return UsageError(f"{self.key} is {told}: {remedy}")


def _of_percent(value: Any) -> str:
    """Return which share a text such as 50% is, in words, "" for anything else."""
    number = value.strip().removesuffix("%").strip() if isinstance(value, str) and "%" in value else ""
    return f" ({number}% is {float(number) / 100:g})" if number.isdecimal() else ""


_KNOWN: dict[type[Settings], tuple[Setting, ...]] = {}


@dataclass(frozen=True)
class Settings:
    """Base of all settings. Made of values that Python or TOML hold; each is checked and brought to its one form.

    Raises UsageError that names the setting, shows the value and says what to give: the same words for the command
    line, a file and a keyword. `class Some(Settings, topic=...)`: the heading in help of the fields that this class
    declares.
    """

    topic_: ClassVar[str] = GENERAL

    def __init_subclass__(cls, topic: str = GENERAL) -> None:
        super().__init_subclass__()
        cls.topic_ = topic

    def __post_init__(self) -> None:
        for each in settings_of(type(self)):
            object.__setattr__(self, each.name, each.accept(getattr(self, each.name)))

    def as_json(self) -> dict[str, Any]:
        """Return the settings as JSON values, by field."""
        return {each.name: plain(getattr(self, each.name)) for each in settings_of(type(self))}


def settings_of(kind: type[Settings]) -> tuple[Setting, ...]:
    """Return the fields of a class, its own before those of its bases."""
    if kind not in _KNOWN:
        _KNOWN[kind] = _read(kind)
    return _KNOWN[kind]


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _read(kind: type[Settings]) -> tuple[Setting, ...]:
    types = get_type_hints(kind)
    bases = [base for base in kind.__mro__ if issubclass(base, Settings)]
    depth = {name: i for i, base in enumerate(bases) for name in inspect.get_annotations(base)}
    found = []
    for each in fields(kind):
        known = about(each.metadata)
        section = bases[depth[each.name]].topic_
        found.append(Setting(each.name, kind_of(types[each.name]), known, _default(each), section=section))
    return tuple(sorted(found, key=lambda each: depth[each.name]))


def flat(known: Iterable[Setting]) -> tuple[Setting, ...]:
    """Return settings with what mappings hold in their place: those of the command line and of files."""
    return tuple(
        part for each in known for part in (each.entries if each.about.entries is not None else (each,))
    )


def gathered(
    known: Iterable[Setting], values: Mapping[str, Any], held: Settings | None = None
) -> dict[str, Any]:
    """Return values by the names of fields, of values by the names of what `flat` gives (or of fields).

    held: settings whose mappings hold what is not given.
    """
    result = dict(values)
    for each in known:
        inside = {entry.name for entry in each.entries} & result.keys()
        if inside:
            before = getattr(held, each.name) if held is not None else {}
            result[each.name] = {
                **before,
                **result.get(each.name, {}),
                **{name: result.pop(name) for name in inside},
            }
    return result


def plain(value: Any) -> Any:
    """Return a value as JSON and TOML hold it."""
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, PurePath) else value


def named(values: Mapping[str, Any], known: Iterable[Setting], what: str = "setting") -> dict[str, Any]:
    """Return values by the names of fields, given under names or keys (weight_decay, weight-decay); not checked.

    Raises UsageError for a name that is not known, with the nearest one, and for one given twice.
    """
    names = {each.name: each.name for each in known} | {each.key: each.name for each in known}
    found: dict[str, Any] = {}
    for key, value in values.items():
        if key not in names:
            raise UsageError(f"there is no {what} '{key}'{nearest(key, names)}")
        if names[key] in found:
            raise UsageError(f"'{key}' is given twice, with - and with _")
        found[names[key]] = value
    return found


def nearest(name: str, known: Iterable[str]) -> str:
    """Return words that name what `name` may have been meant for, "" where nothing is near."""
    import difflib

    found = difflib.get_close_matches(name.lower(), [*known], 1)
    return f": did you mean '{found[0]}'?" if found else ""
