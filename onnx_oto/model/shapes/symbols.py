"""Symbols of open sizes: making new ones, and what they stand for where sizes are counted."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping

from onnx_oto.model.shapes.dims import Dim, value_at


class Estimated(dict[str, int]):
    """What symbols stand for, to count with: the given sizes, what `about` says, and 1 where nobody knows."""

    def __init__(self, sizes: Mapping[str, int], about: Mapping[str, Dim]) -> None:
        super().__init__(sizes)
        for symbol, size in about.items():  # made of symbols that come before
            self.setdefault(symbol, 1 if size is None else value_at(size, self))

    def __missing__(self, symbol: str) -> int:
        return 1


_PREFIX = "unk__"


class Symbols:
    """A source of symbols for sizes that are no expression of known symbols.

    Names are ``unk__<k>``, none of them in `taken`. about: sizes that some of them are nearly.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)
        self._made: dict[Hashable, str] = {}
        self.about: dict[str, Dim] = {}
        self._next = 0

    @property
    def drawn(self) -> int:
        """A mark: what is drawn from now on is `newer`."""
        return self._next

    def newer(self, symbol: str, mark: int) -> bool:
        """Return whether a symbol was drawn here after the mark was taken."""
        own = symbol.startswith(_PREFIX) and symbol not in self._taken
        return own and int(symbol.removeprefix(_PREFIX)) >= mark

    def fresh(self) -> str:
        """Return a symbol for a size of which nothing is known."""
        while (name := f"{_PREFIX}{self._next}") in self._taken:
            self._next += 1
        self._next += 1
        return name

    def of(self, *key: Hashable, about: Dim = None) -> str:
        """Return the symbol of the size that a computation described by `key` gives; equal keys, equal symbol.

        about: what it is nearly, to count with.
        """
        if key not in self._made:
            self._made[key] = self.fresh()
            self.about[self._made[key]] = about
        return self._made[key]
