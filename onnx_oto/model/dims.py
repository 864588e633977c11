"""Arithmetic on sizes that may be symbolic.

A size is an int (known), a str (a symbol, or a product such as ``"12*N"``), or None (unknown). Symbols stand
for sizes of axes, so they are integers >= 0. Equal strings mean equal sizes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable
from typing import TypeAlias

Dim: TypeAlias = int | str | None
Shape: TypeAlias = tuple[Dim, ...]

_FACTOR = re.compile(r"[^\W\d][\w.]*|\d+")


def multiply(a: Dim, b: Dim) -> Dim:
    """Return a*b as a size, None when either is unknown.

    >>> multiply(12, "N"), multiply("2*N", "M"), multiply(0, None)
    ('12*N', '2*M*N', 0)
    """
    if a == 0 or b == 0:
        return 0
    if a is None or b is None:
        return None
    coefficient_a, atoms_a = _monomial(a)
    coefficient_b, atoms_b = _monomial(b)
    return _format(coefficient_a * coefficient_b, atoms_a + atoms_b)


def divide(a: Dim, b: Dim) -> Dim:
    """Return a/b when b divides a for every value of the symbols, else None.

    >>> divide("12*N", 4), divide("H*W", "W"), divide("N", 2), divide(12, 5)
    ('3*N', 'H', None, None)
    """
    if a is None or b is None or b == 0:
        return None
    coefficient_a, atoms_a = _monomial(a)
    coefficient_b, atoms_b = _monomial(b)
    if coefficient_a % coefficient_b or atoms_b - atoms_a:
        return None
    return _format(coefficient_a // coefficient_b, atoms_a - atoms_b)


def product(sizes: Iterable[Dim]) -> Dim:
    """Return the product of all sizes; 1 for none, None when one of them is unknown."""
    total: Dim = 1
    for size in sizes:
        total = multiply(total, size)
    return total


def known_size(shape: Shape | None) -> int | None:
    """Return the number of elements of a fully known shape, else None."""
    total = 1
    for size in (None,) if shape is None else shape:
        if not isinstance(size, int):
            return None
        total *= size
    return total


def _monomial(size: int | str) -> tuple[int, Counter[str]]:
    """Split into an integer coefficient and a multiset of atoms; what is no plain product is one atom."""
    if isinstance(size, int):
        return size, Counter()
    factors = size.split("*")
    if len(factors) == 1 or not all(_FACTOR.fullmatch(f) for f in factors):
        return 1, Counter([size])
    coefficient = 1
    atoms: Counter[str] = Counter()
    for factor in factors:
        if factor.isdigit():
            coefficient *= int(factor)
        else:
            atoms[factor] += 1
    return coefficient, atoms


def _format(coefficient: int, atoms: Counter[str]) -> int | str | None:
    names = sorted(atoms.elements())
    if not names:
        return coefficient
    if len(names) > 8 or (
        (len(names) > 1 or coefficient != 1) and not all(_FACTOR.fullmatch(n) for n in names)
    ):
        return None
    return "*".join(names if coefficient == 1 else [str(coefficient), *names])


def symbols(size: Dim) -> frozenset[str]:
    """Return the atoms that a symbolic size is made of; none for an int or None."""
    return frozenset() if size is None else frozenset(_monomial(size)[1])


class Symbols:
    """A source of symbols for sizes that are no product of known symbols.

    Names are ``unk__<k>``, none of them in `taken`.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)
        self._made: dict[Hashable, str] = {}
        self._sums: dict[str, tuple[int, Counter[str]]] = {}
        self._next = 0

    def fresh(self) -> str:
        """Return a symbol for a size of which nothing is known."""
        while (name := f"unk__{self._next}") in self._taken:
            self._next += 1
        self._next += 1
        return name

    def of(self, *key: Hashable) -> str:
        """Return the symbol of the size that a computation described by `key` gives; equal keys, equal symbol."""
        if key not in self._made:
            self._made[key] = self.fresh()
        return self._made[key]

    def sum(self, sizes: Iterable[Dim]) -> Dim:
        """Return the sum of sizes (ints may be negative), None when one of them is unknown.

        >>> symbols = Symbols()
        >>> symbols.sum(["N", "N", 0]), symbols.sum([symbols.sum(["T", 1]), -1])
        ('2*N', 'T')
        """
        constant, terms = 0, Counter[str]()
        for size in sizes:
            if size is None:
                return None
            more, atoms = self._expand(size)
            constant += more
            terms.update(atoms)
        if not terms:
            return constant
        if constant == 0 and len(terms) == 1:
            [(name, count)] = terms.items()
            return multiply(count, name)
        symbol = self.of("sum", constant, frozenset(terms.items()))
        self._sums[symbol] = (constant, terms)
        return symbol

    def least(self, size: Dim) -> int:
        """Return a lower bound of a size."""
        return 0 if size is None else self._expand(size)[0]

    def _expand(self, size: int | str) -> tuple[int, Counter[str]]:
        """Return constant and summands with their counts."""
        if isinstance(size, str) and size in self._sums:
            return self._sums[size]
        count, atoms = _monomial(size)
        name = _format(1, atoms)
        if isinstance(size, int) or not isinstance(name, str):
            return (size, Counter()) if isinstance(size, int) else (0, Counter([size]))
        return 0, Counter({name: count})
