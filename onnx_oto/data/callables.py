"""Data that a function makes: `package.module:function`, imported from the current directory too.

It is called without arguments and returns arrays by the keys of an npz file (x_train, y_train, ...), or an object with
the protocol `Opening`. What it raises, then and later, becomes one line that names it.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from onnx_oto.data.augment import Augment
from onnx_oto.data.fit import Pixels, Rows
from onnx_oto.data.npz import tables_of
from onnx_oto.data.portions import portion_of
from onnx_oto.data.reading import Reading
from onnx_oto.data.source import Batch, Dataset, Header, Input, Opening, Source, Wanted
from onnx_oto.errors import DataError, OtoError, UsageError, one_line
from onnx_oto.settings.kinds import is_function

TEXT = "package.module:function that returns arrays, or an object with train, test and fit"


def takes(path: Path) -> bool:
    """Say whether a text is the name of a function, and no file."""
    return is_function(path)


def open_callable(path: Path, reading: Reading) -> Opening:
    """Return the data that a function makes. Raises DataError for whatever goes wrong in it."""
    name = str(path)
    with _told(name), _from_here():
        made = _function(name)()
    if isinstance(made, Mapping):
        with _told(name):
            return _Opened(name, tables_of({str(key): _array(value) for key, value in made.items()}, reading))
    if any(getattr(made, each, None) is None for each in ("train", "test", "fit")):
        raise DataError(
            f"'{name}' returned {type(made).__name__}: return a dict of arrays (x_train, y_train, ...), or an object "
            "with train, test and fit"
        )
    if reading.test_share is not None:
        raise UsageError(
            f"test-share is {reading.test_share:g}, and '{name}' has test samples of its own: leave it out"
        )
    return _Opened(name, made)


def _function(name: str) -> Callable[[], Any]:
    module, _, attribute = name.partition(":")
    function = getattr(importlib.import_module(module), attribute, None)
    if not callable(function):
        raise DataError(f"module '{module}' has no function '{attribute}'")
    made: Callable[[], Any] = function
    return made


@contextmanager
def _from_here() -> Iterator[None]:
    """Let modules of the current directory be imported."""
    here = os.getcwd()
    sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(here)


def _array(value: Any) -> Any:
    """Return samples as they are where they can be asked for by rows, or else as an array."""
    if all(hasattr(type(value), each) for each in ("__len__", "__getitem__", "shape", "dtype")):
        return value
    return np.asarray(value)


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Turn what somebody else's code raises into an error of ours with its name, a DataError where it is none yet."""
    try:
        yield
    except OtoError as error:
        raise type(error)(f"'{name}': {error}") from None
    except (Exception, SystemExit) as error:
        kind = type(error).__name__
        raise DataError(f"'{name}' failed with {kind}: {one_line(error)}") from None


@dataclass(frozen=True, eq=False)
class _Opened:
    """An opening of somebody else's, whose errors are told with its name."""

    name: str
    inner: Opening

    @property
    def train(self) -> Header:
        with _told(self.name):
            return self.inner.train

    @property
    def val(self) -> Header | None:
        with _told(self.name):
            return getattr(self.inner, "val", None)

    @property
    def test(self) -> Header:
        with _told(self.name):
            return self.inner.test

    def fit(
        self,
        inputs: Mapping[str, Input],
        targets: Mapping[str, Wanted],
        *,
        pixels: Pixels | None = None,
        augment: Augment | None = None,
        needless: Collection[str] = (),
    ) -> Dataset:
        """Return the data as a model and a loss read them (see `Opening.fit`)."""
        with _told(self.name):
            made = self.inner.fit(inputs, targets, pixels=pixels, augment=augment, needless=needless)
            val = None if made.val is None else _Source(self.name, made.val)
            return replace(
                made, train=_Source(self.name, made.train), test=_Source(self.name, made.test), val=val
            )


@dataclass(frozen=True, eq=False)
class _Source:
    name: str
    inner: Source

    def __len__(self) -> int:
        return len(self.inner)

    def batch(self, indices: Rows, rng: np.random.Generator | None) -> Batch:
        """Return the samples at `indices` (see `Source.batch`)."""
        with _told(self.name):
            return self.inner.batch(indices, rng)

    def portion(self, indices: Rows, rng: np.random.Generator | None, keep: Rows) -> Batch:
        """See `Divisible.portion`."""
        with _told(self.name):
            return portion_of(self.inner, indices, rng, keep)
