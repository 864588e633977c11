"""Labels that are words: the classes are the words, sorted, and a label is the place of its word among them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_oto.errors import DataError

MOST_SHOWN = 4


@dataclass(frozen=True)
class Classes:
    """The names of classes, in the order of their numbers."""

    names: tuple[str, ...]

    @staticmethod
    def of(words: Iterable[str]) -> Classes:
        """Return the classes that there are words for."""
        return Classes(tuple(sorted(set(words))))

    def numbers(self, words: Collection[str], where: str) -> npt.NDArray[np.int64]:
        """Return the classes of words, int64 [n]. Raises DataError for one of no class; `where` says whose they are.

        >>> Classes.of(["cat", "dog", "ant"]).numbers(["dog", "ant"], "'a.csv'").tolist()
        [2, 0]
        """
        known: Mapping[Any, int] = {name: number for number, name in enumerate(self.names)}
        try:
            return np.fromiter((known[word] for word in words), np.int64, len(words))
        except KeyError as error:
            raise DataError(
                f"{where} has the label {error.args[0]!r}, which no training sample has: they have {self}"
            ) from None

    def __str__(self) -> str:
        """Return the first names, and how many more there are."""
        more = f" and {len(self.names) - MOST_SHOWN} more" if len(self.names) > MOST_SHOWN else ""
        return ", ".join(self.names[:MOST_SHOWN]) + more
