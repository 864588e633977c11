"""A case: a hostile command with its files, and its twin."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

Build = Callable[[Path], None]
"""Writes the files of a trial into an empty folder."""

OK = frozenset({0})
INVALID = frozenset({3, 4})
"""Refused: the model is invalid, or nothing can be done with it."""
ANY = frozenset({0, 3, 4})
"""Refused, or done where that is right too."""
DATA = frozenset({5})
FILES = frozenset({2, 8})

INSPECT = ("inspect", "m.onnx")
PRUNE = ("prune", "m.onnx", "-o", "out.onnx")
TRAIN = ("train", "m.onnx", "--data", "d.npz", "--run", "run", "--epochs", "1", "--batch", "16")


@dataclass(frozen=True, eq=False)
class Trial:
    """One command over files that `build` writes into the folder it runs in. Equal only to itself.

    codes: the exit codes allowed. writes: wildcards of names that it may create or replace; those that do not end in
    `/*` must be there after success. remains: names that it may have created when it fails. file_limit: no file may
    grow beyond so many bytes, as on a full disk.
    """

    build: Build
    words: tuple[str, ...]
    codes: frozenset[int] = OK
    writes: tuple[str, ...] = ()
    remains: tuple[str, ...] = ()
    file_limit: int | None = None


@dataclass(frozen=True)
class Case:
    """A hostile trial and its twin. unprivileged: an administrator does not meet the fault."""

    kind: str
    name: str
    hostile: Trial
    twin: Trial
    unprivileged: bool = False

    @property
    def title(self) -> str:
        """Return the name in full, which no other case has."""
        return f"{self.kind}/{self.name}"


def outputs(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return what a command may write by its words, as wildcards.

    >>> outputs(("prune", "m.onnx", "-o", "[x].onnx", "--kept", "k.json"))
    ('[[]x].onnx', 'k.json')
    """
    named = [
        glob.escape(words[i + 1]) for i, word in enumerate(words) if word in ("-o", "--save-zeroed", "--kept")
    ]
    folders = [words[i + 1] for i, word in enumerate(words) if word == "--run"]
    return (*named, *(name for folder in folders for name in (folder, f"{folder}/*")))


def pair(
    kind: str,
    name: str,
    hostile: Build,
    twin: Build | Trial,
    words: tuple[str, ...] = PRUNE,
    codes: Iterable[int] = INVALID,
) -> Case:
    """Return the case of one command over two sets of files."""
    writes = outputs(words)
    other = twin if isinstance(twin, Trial) else Trial(twin, words, OK, writes)
    return Case(kind, name, Trial(hostile, words, frozenset(codes), writes), other)
