"""Entries of a registry with options, as one text: "smooth-l1:beta=0.5", "cross-entropy:ignore=255,smoothing=0.1"."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from onnx_oto.errors import UsageError

T = TypeVar("T")


def named(kind: str, entries: Mapping[str, Callable[..., T]], text: str, **more: Any) -> T:
    """Return what the text names, made with its options and `more`.

    kind: "loss" or whatever the entries are, for messages. An entry's options are its keyword arguments, numbers all.
    Raises UsageError for a name, an option or a value that is unknown.
    """
    name, _, rest = text.partition(":")
    if name not in entries:
        raise UsageError(f"unknown {kind} {name!r}: choose one of {', '.join(entries)}")
    known = inspect.signature(entries[name]).parameters
    options: dict[str, Any] = {}
    for part in rest.split(",") if rest else []:
        option, _, value = part.partition("=")
        option = option.strip()
        if option in options:
            raise UsageError(f"{option} of {kind} {name!r} is given twice: leave one out")
        options[option] = value.strip()
    for option in {**options, **more}:
        if option not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise UsageError(f"{kind} {name!r} has no option {option!r}: {has}")
    twice = next((option for option in options if option in more), None)
    if twice is not None:
        raise UsageError(
            f"{twice} of {kind} {name!r} is given twice, as {options[twice]} and as {more[twice]}: leave one out"
        )
    read = {option: _number(kind, name, known[option], value) for option, value in options.items()}
    return entries[name](**{**read, **more})


def _number(kind: str, name: str, option: inspect.Parameter, text: str) -> float:
    whole = "int" in str(option.annotation)
    try:
        return int(text) if whole else float(text)
    except ValueError:
        wanted = "an integer" if whole else "a number"
        raise UsageError(f"{option.name} of {kind} {name!r} is {text!r}: give {wanted}") from None
