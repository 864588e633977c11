"""What a setting may be: read from the annotation of its field.

A kind makes its value of text (the command line) and of what Python or TOML hold, and gives one value for what means
the same: a list becomes a tuple, a path a Path, a whole number a float where a float is wanted. Both raise ValueError
for anything else. Numbers in a list are one text with commas; texts, which may hold commas, are given one by one.
"""

from __future__ import annotations

import os
import re
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

_FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


@dataclass(frozen=True)
class Kind:
    """A sort of value. wanted: what to give, in words. metavar: what stands for it in help.

    repeats: whether it is a list whose items are given one by one. optional: whether it may be None.
    """

    wanted: str
    metavar: str
    of_text: Callable[[str], Any]
    of_value: Callable[[Any], Any]
    choices: tuple[str, ...] = ()
    repeats: bool = False
    optional: bool = False
    is_path: bool = False
    is_switch: bool = False


@cache
def kind_of(annotation: Any) -> Kind:
    """Return the kind that a resolved annotation stands for. Raises TypeError for one that has none."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        rest = [each for each in inner if each is not type(None)]
        if len(rest) == 1 or any(os.PathLike in (each, get_origin(each)) for each in rest):
            kind = kind_of(rest[0]) if len(rest) == 1 else _path_or(rest)
            return _optional(kind) if len(rest) < len(inner) else kind
        if len(rest) == 2:
            kind = _either(*map(kind_of, rest))
            return _optional(kind) if len(rest) < len(inner) else kind
    elif origin is Literal:
        return _choice(inner)
    elif origin is Sequence or (origin is tuple and inner[1:] == (...,)):
        return _list_of(kind_of(inner[0]))
    elif origin is Mapping:
        return _MAPPING
    elif annotation in _PLAIN:
        return _PLAIN[annotation]
    raise TypeError(f"{annotation} is no type of a setting: add it to onnx_oto/settings/kinds.py")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _path(value: Any) -> Path:
    if not isinstance(value, str | os.PathLike) or not str(value):
        raise ValueError
    return Path(value)


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ValueError
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError
    return float(value)


def _no_text(text: str) -> bool:
    raise ValueError


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError
    return dict(value)


def is_function(text: str | os.PathLike[str]) -> bool:
    """Say whether a text is the name of a function, `package.module:function`, and no file of that name is there.

    >>> is_function("package.module:function"), is_function("data.npz"), is_function("C:/data")
    (True, False, False)
    """
    return _FUNCTION.fullmatch(str(text)) is not None and not os.path.lexists(text)


def _source(value: Any) -> Path | str:
    """Return where data come from: the name of a function stays a text, which lies in no folder."""
    return str(value) if isinstance(value, str | os.PathLike) and is_function(value) else _path(value)


PATH = Kind("a path", "PATH", _path, _path, is_path=True)
SOURCE = Kind("a path, or package.module:function", "DATA", _source, _source, is_path=True)
"""Where data come from."""
_MAPPING = Kind("a mapping of names to values", "", _no_text, _mapping)
_PLAIN: Mapping[Any, Kind] = {
    str: Kind("a text", "TEXT", _text, _text),
    bool: Kind("true or false", "", _no_text, _switch, is_switch=True),
    int: Kind("a whole number", "INTEGER", int, _whole),
    float: Kind("a number", "FLOAT", float, _number),
    Path: PATH,
}


def _path_or(rest: Sequence[Any]) -> Kind:
    """Return the kind of a path, or of names that mean something else: a file of such a name is ./NAME."""
    names = tuple(name for each in rest if get_origin(each) is Literal for name in get_args(each))
    if not names:
        return PATH

    def of_value(value: Any) -> Any:
        return value if isinstance(value, str) and value in names else _path(value)

    return Kind(f"a path, {' or '.join(names)}", "PATH", of_value, of_value, is_path=True)


def _choice(names: tuple[str, ...]) -> Kind:
    def chosen(value: Any) -> str:
        if value not in names:
            raise ValueError
        return str(value)

    return Kind("a name", "", chosen, chosen, choices=names)


def _either(number: Kind, other: Kind) -> Kind:
    """Return the kind of a number or a text: what is no number is the text."""

    def of_text(text: str) -> Any:
        try:
            return number.of_text(text)
        except ValueError:
            return other.of_text(text)

    def of_value(value: Any) -> Any:
        return other.of_value(value) if isinstance(value, str) else number.of_value(value)

    words = " or ".join(other.choices) or other.wanted
    return Kind(f"{number.wanted} or {words}", number.metavar, of_text, of_value)


def _optional(kind: Kind) -> Kind:
    def of_value(value: Any) -> Any:
        return None if value is None else kind.of_value(value)

    return replace(kind, of_value=of_value, optional=True)


def _list_of(kind: Kind) -> Kind:
    """Return the kind of a list. One value alone is a list of one."""
    if kind.repeats or kind.is_switch or kind.optional:
        raise TypeError(f"a list of {kind.wanted} is no setting")

    def of_value(value: Any) -> tuple[Any, ...]:
        items = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        return tuple(map(kind.of_value, items))

    if kind.of_value in (_number, _whole):
        return Kind(
            f"{kind.wanted}, or several such as 1,2,3",
            f"{kind.metavar},...",
            lambda text: tuple(map(kind.of_text, text.split(","))),
            of_value,
        )
    return Kind(
        f"a list of which each is {kind.wanted}",
        kind.metavar,
        lambda text: (kind.of_text(text),),
        of_value,
        choices=kind.choices,
        repeats=True,
        is_path=kind.is_path,
    )
