"""Options that name an entry of a registry, with options of its own: smooth-l1:beta=0.5."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, TypeVar

import click


class Told(Protocol):
    """What an entry says of itself."""

    @property
    def text(self) -> str:
        """One line of help."""


T = TypeVar("T", str, tuple[str, ...])


def one_of(names: Iterable[str]) -> Callable[[click.Context, click.Parameter, T], T]:
    """Return a callback for click that takes these names, each of which may be followed by ":option=value,...".

    What the options mean is the entry's to say.
    """
    known = tuple(names)

    def check(_: click.Context, option: click.Parameter, value: T) -> T:
        for text in (value,) if isinstance(value, str) else value:
            if text.partition(":")[0] not in known:
                raise click.BadParameter(f"'{text}' is not one of {', '.join(known)}.")
        return value

    return check


def texts(entries: Mapping[str, Callable[..., Told]]) -> str:
    """Return what the entries of a registry say of themselves, in one sentence."""
    return "; ".join(f"{name}: {make().text}" for name, make in entries.items()) + "."
