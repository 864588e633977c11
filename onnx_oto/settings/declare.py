"""Declaring a setting: a field of a dataclass that knows what there is to say of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Check = Callable[[Any], str | None]
"""Returns what to do about a value that is refused, None for one that is fine."""
Names = Callable[[], Iterable[str]]

_KEY = "onnx_oto.setting"


@dataclass(frozen=True)
class About:
    """What is known of a setting beside its name, type and default.

    help: a sentence. What may take long to load (registries) is asked for when somebody reads it: `more`, further
    sentences; `choices`, the names to choose from; `entries`, the settings that a mapping holds, each of them an
    option and a key of its own; `shown`, the default in words, where the value itself says nothing.

    has_options: a name may be followed by options of its own ("smooth-l1:beta=0.5"), which are not judged here. check:
    the limits of a value. read: makes a value of the text that a person writes, where that has a form of its own
    (8GB); raises ValueError with what to write.
    metavar: what stands for the value in help. aliases: further flags that do the same, not shown. stands_for: flags,
    not shown, that each mean one value (former switches). recorded: whether the setting belongs into the run.toml of
    a run: what says where to write does not. topic: its heading in help (see `topics`), where that is not the
    one of its class.
    """

    help: str
    more: Callable[[], str] | None = None
    choices: Names | None = None
    entries: Callable[[], Iterable[Any]] | None = None
    shown: Callable[[], str] | str = ""
    has_options: bool = False
    check: Check | None = None
    read: Callable[[str], Any] | None = None
    metavar: str = ""
    aliases: tuple[str, ...] = ()
    stands_for: Mapping[str, Any] = field(default_factory=dict)
    recorded: bool = True
    topic: str = ""


def setting(default: Any, help: str, **about: Any) -> Any:
    """Return a dataclass field that is a setting, see `About` for the keywords. Its type is that of the annotation."""
    metadata = {_KEY: About(help, **about)}
    if isinstance(default, dict):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


def about(metadata: Mapping[str, Any]) -> About:
    """Return what a field's metadata say. Raises KeyError for a field that was not made by `setting`."""
    found: About = metadata[_KEY]
    return found
