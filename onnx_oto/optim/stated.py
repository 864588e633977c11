"""Options that a direction or an optimizer states itself: fields of a frozen dataclass, with their help texts.

The command line, the API and configuration files list what is registered (`listed`) and build it from names
and values (`configured`), so that a new direction or optimizer is one class and one entry.
"""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from typing import Any, TypeVar, cast, get_args, get_type_hints

from onnx_oto.errors import UsageError

T = TypeVar("T")


def option(default: Any, text: str, *, choices: tuple[str, ...] = ()) -> Any:
    """Return a dataclass field that is an option: its default, its help text, and the words it may be."""
    return field(default=default, metadata={"help": text, "choices": choices})


@dataclass(frozen=True)
class Option:
    """An option of one or more registered classes.

    kind: float, int, bool or str. defaults: by the name of the class in its registry, in order.
    """

    name: str
    kind: type
    text: str
    choices: tuple[str, ...]
    defaults: Mapping[str, Any]

    @property
    def flag(self) -> str:
        """The option as the command line spells it.

        >>> Option("half_space_eps", float, "", (), {}).flag
        '--half-space-eps'
        """
        return "--" + self.name.replace("_", "-")


def listed(*registries: Mapping[str, type[Any]]) -> dict[str, Option]:
    """Return every option of the registered classes by name, those of one name as one."""
    found: dict[str, Option] = {}
    for registry in registries:
        for owner, kind in registry.items():
            hints = _hints(cast(Hashable, kind))
            for each in fields(kind):
                known = found.get(each.name)
                defaults = {**(known.defaults if known else {}), owner: each.default}
                text, choices = each.metadata["help"], each.metadata["choices"]
                found[each.name] = Option(each.name, _plain(hints[each.name]), text, choices, defaults)
    return found


@cache
def _hints(kind: Hashable) -> dict[str, Any]:
    """Return the types of the fields of a class, read from their text once: every option of a command asks for them."""
    return get_type_hints(kind)


def chosen(what: str, registry: Mapping[str, type[T]], name: str) -> type[T]:
    """Return the class registered as `name`; UsageError lists the choices."""
    if name not in registry:
        raise UsageError(f"{what} '{name}': choose one of {', '.join(registry)}")
    return registry[name]


def configured(kind: type[T], given: Mapping[str, Any]) -> T:
    """Return an instance from those of the given options that it has; UsageError for values out of range."""
    own = {each.name for each in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in given.items() if name in own})


def require_known(given: Mapping[str, Any], options: Mapping[str, Option], *owners: str) -> None:
    """Raise UsageError for an option that none of the chosen classes has."""
    for name in given:
        known = options.get(name)
        if known is None:
            near = difflib.get_close_matches(name, options, 1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise UsageError(f"there is no option '{name}' of {' or '.join(owners)}{hint}")
        if not set(owners) & set(known.defaults):
            raise UsageError(
                f"{known.flag} is an option of {', '.join(known.defaults)}, not of {' or '.join(owners)}: leave it out"
            )


def values(*configured: Any) -> dict[str, Any]:
    """Return the options of instances by name, defaults included."""
    return {name: value for each in configured for name, value in asdict(each).items()}


def _plain(hint: Any) -> type:
    """Return float for `float` and for `float | None`."""
    inner = [each for each in get_args(hint) if each is not type(None)]
    kind: type = inner[0] if inner else hint
    return kind
