"""Values that are made when they are looked at, and not kept."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy.typing as npt


class OnDemand(Mapping[str, "npt.NDArray[Any]"]):
    """Values of parameters by name; whoever derives from it says which names there are, and makes a value."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = names

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    @abstractmethod
    def __getitem__(self, name: str) -> npt.NDArray[Any]: ...
