"""Arithmetic on sizes that may be symbolic.

A size is an int (known), a str (symbolic), or None (unknown). A symbolic size is a polynomial with integer
coefficients in symbols that stand for open sizes of axes, so for integers >= 0. Where something is taken off such a
size, it is understood to be there (T-1 is no size of an empty axis). A polynomial is written in one way only, so
equal strings mean equal sizes: ``"12*N"``, ``"T+1"``, ``"2*N*(T-1)"``, ``"floor((H+1)/2)"``. What has no exact form
is a symbol of its own; a quotient rounded down is one that names what it is made of.
"""

from __future__ import annotations

import functools
import math
import operator
import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import TypeAlias

Dim: TypeAlias = int | str | None
Shape: TypeAlias = tuple[Dim, ...]
Atoms: TypeAlias = tuple[str, ...]
"""A product of symbols, sorted; () is 1."""
Terms: TypeAlias = Mapping[Atoms, int]
"""A sum: the coefficient of every product in it, none of them 0."""

_NAME = re.compile(r"[^\W\d][\w.]*")
_FUNCTIONS = {"floor", "truncated", "max", "min"}
MOST_SIZE = 2**63 - 1
"""The largest size that a model can declare."""
_MOST_ATOMS = 12
_MOST_TERMS = 16
_LONGEST_NAME = 64
_KNOWN = 1 << 14
"""Products and quotients of symbols that are remembered: blocks of a model ask for the same ones."""


def overflows(item: object) -> bool:
    """Say whether something is an integer that int64 does not hold."""
    return isinstance(item, int) and not -MOST_SIZE <= item <= MOST_SIZE


def multiply(a: Dim, b: Dim) -> Dim:
    """Return a*b as a size, None when either is unknown.

    >>> multiply(12, "N"), multiply("2*N", "M"), multiply(0, None), multiply("T+1", 2)
    ('12*N', '2*M*N', 0, '2*(T+1)')
    """
    if a == 0 or b == 0:
        return 0
    if a is None or b is None:
        return None
    if isinstance(a, int) and isinstance(b, int):
        return a * b
    return _multiplied(a, b)


@functools.lru_cache(_KNOWN)
def _multiplied(a: int | str, b: int | str) -> Dim:
    coefficient_a, atoms_a = _factored(a)
    coefficient_b, atoms_b = _factored(b)
    return _product_text(coefficient_a * coefficient_b, (*atoms_a, *atoms_b))


def divide(a: Dim, b: Dim) -> Dim:
    """Return a/b when b divides a for every value of the symbols, else None.

    >>> divide("12*N", 4), divide("H*W", "W"), divide("N", 2), divide(12, 5), divide("B*(T+1)", "T+1")
    ('3*N', 'H', None, None, 'B')
    """
    if a is None or b is None or b == 0:
        return None
    if a == b:
        return 1
    return _divided(a, b)


@functools.lru_cache(_KNOWN)
def _divided(a: int | str, b: int | str) -> Dim:
    coefficient_a, atoms_a = _factored(a)
    coefficient_b, atoms_b = _factored(b)
    left, right = Counter(atoms_a), Counter(atoms_b)
    if coefficient_a % coefficient_b or right - left:
        return None
    return _product_text(coefficient_a // coefficient_b, tuple((left - right).elements()))


def add(*sizes: Dim) -> Dim:
    """Return the sum of sizes (which may be negative), None when one of them is unknown.

    >>> add("N", "N", 0), add(add("T", 1), -1), add("2*T", 2), add("T", multiply(-1, "T"))
    ('2*N', 'T', '2*(T+1)', 0)
    """
    known = tuple([size for size in sizes if size is not None])
    return _added(known) if len(known) == len(sizes) else None


@functools.lru_cache(_KNOWN)
def _added(sizes: tuple[int | str, ...]) -> Dim:
    total: Counter[Atoms] = Counter()
    for size in sizes:
        for atoms, coefficient in _expand(size).items():
            total[atoms] += coefficient
    return _sum_text({atoms: c for atoms, c in total.items() if c})


def subtract(a: Dim, b: Dim) -> Dim:
    """Return a-b, None when either is unknown."""
    return add(a, multiply(-1, b))


def quotient(a: Dim, b: Dim) -> Dim:
    """Return a/b rounded down for a >= 0 and b > 0, None when either is unknown.

    >>> quotient("N", 2), quotient("4*N+3", 2), quotient(7, 2), quotient("H", "W"), quotient("6*N", 2)
    ('floor(N/2)', '2*N+1', 3, 'floor(H/W)', '3*N')
    """
    exact = divide(a, b)
    if exact is not None or a is None or b is None or b == 0:
        return exact
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    a, b = _cancelled(a, b)
    if not isinstance(b, int):
        return _function("floor", a, b)
    whole: dict[Atoms, int] = {}
    rest: dict[Atoms, int] = {}
    for atoms, coefficient in _expand(a).items():
        for part, value in zip((whole, rest), divmod(coefficient, b), strict=True):
            if value:
                part[atoms] = value
    if all(atoms == () for atoms in rest):
        return _sum_text(whole)
    remainder = _sum_text(rest)
    return None if remainder is None else add(_sum_text(whole), _function("floor", remainder, b))


def _cancelled(a: int | str, b: int | str) -> tuple[int | str, int | str]:
    """Return a quotient's two sizes without the factors that they have in common."""
    (coefficient_a, atoms_a), (coefficient_b, atoms_b) = _factored(a), _factored(b)
    number = math.gcd(coefficient_a, coefficient_b)
    common = Counter(atoms_a) & Counter(atoms_b)
    shorter = [
        _product_text(coefficient // number, (Counter(atoms) - common).elements())
        for coefficient, atoms in ((coefficient_a, atoms_a), (coefficient_b, atoms_b))
    ]
    return (a, b) if shorter[0] is None or shorter[1] is None else (shorter[0], shorter[1])


def truncated(a: Dim, b: Dim) -> Dim:
    """Return a/b rounded towards zero, as integer division does in ONNX; None when either is unknown.

    Where sizes are divided, that is rounding down.
    """
    if b == 0:
        return None
    if isinstance(a, int) and isinstance(b, int):
        return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    if grows(a) and grows(b):
        return quotient(a, b)
    exact = divide(a, b)
    return exact if exact is not None or a is None or b is None else _function("truncated", a, b)


def least(size: Dim, *, symbol: int = 0) -> float:
    """Return a lower bound of a size if every symbol is at least `symbol`; -inf when there is none."""
    if isinstance(size, int):
        return size
    if size is None:
        return -math.inf
    return sum(_least_term(atoms, c, symbol) for atoms, c in _expand(size).items())


def grows(size: Dim) -> bool:
    """Say whether a size is positive once its symbols are large: where arithmetic on sizes makes sense, it is one.

    >>> grows("T-1"), grows("N*T-2"), grows("N-T"), grows("-T"), grows(0)
    (True, True, False, False, True)
    """
    if isinstance(size, int):
        return size >= 0
    return size is not None and all(c > 0 for atoms, c in _expand(size).items() if atoms)


def largest(a: Dim, b: Dim) -> Dim:
    """Return the maximum of two sizes, None when one is unknown."""
    return _extreme("max", a, b)


def smallest(a: Dim, b: Dim) -> Dim:
    """Return the minimum of two sizes, None when one is unknown."""
    return _extreme("min", a, b)


def _extreme(name: str, a: Dim, b: Dim) -> Dim:
    if a is None or b is None:
        return None
    if isinstance(a, int) and isinstance(b, int):
        return max(a, b) if name == "max" else min(a, b)
    for more, less in ((a, b), (b, a)):
        if least(subtract(more, less)) >= 0:
            return more if name == "max" else less
    first, second = sorted((a, b), key=str)
    return _function(name, first, second, ",")


def product(sizes: Iterable[Dim]) -> Dim:
    """Return the product of all sizes; 1 for none, None when one of them is unknown."""
    total: Dim = 1
    for size in sizes:
        total = total * size if type(total) is type(size) is int else multiply(total, size)
    return total


def known_size(shape: Shape | None) -> int | None:
    """Return the number of elements of a fully known shape, else None."""
    total = 1
    for size in (None,) if shape is None else shape:
        if not isinstance(size, int):
            return None
        total *= size
    return total


def value_at(size: int | str, at: Mapping[str, int]) -> int:
    """Return a size where its symbols are the given numbers. Raises KeyError for a symbol that is not given.

    >>> value_at("2*N*(T-1)", {"N": 3, "T": 5}), value_at("floor((H-1)/2)+1", {"H": 6})
    (24, 3)
    """
    terms: Terms = {(): size} if isinstance(size, int) else _terms(size)
    return sum(c * math.prod(_atom_at(atom, at) for atom in atoms) for atoms, c in terms.items())


def _atom_at(atom: str, at: Mapping[str, int]) -> int:
    name, inside = _opened(atom)
    if not inside:
        return at[atom]
    a, *rest = (value_at(size, at) for size in inside)
    if not rest:
        return a
    b = rest[0]
    if name == "truncated":
        return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    return a // b if name == "floor" else max(a, b) if name == "max" else min(a, b)


def symbols(size: Dim) -> frozenset[str]:
    """Return the symbols that a size is made of, those inside of sums and quotients too."""
    return frozenset(_NAME.findall(size)) - _FUNCTIONS if isinstance(size, str) else frozenset()


def is_plain(size: Dim) -> bool:
    """Say whether a size is an int, or arithmetic on the model's own names for open sizes: nothing rounded or unknown.

    >>> is_plain("T+1"), is_plain("min(512,T)"), is_plain("unk__0")
    (True, False, False)
    """
    if not isinstance(size, str):
        return size is not None
    names = set(_NAME.findall(size))
    return not names & _FUNCTIONS and not any(name.startswith("unk__") for name in names)


def symbol_for(name: str, taken: Container[str] = ()) -> str:
    """Return a symbol for an open size that a model calls `name`: the name itself if it can be one, and is not long.

    >>> symbol_for("batch"), symbol_for("past + 1"), symbol_for("past + 1", {"size_past_1"})
    ('batch', 'size_past_1', 'size_past_1_2')
    """
    short = name[:_LONGEST_NAME]
    symbol = short if _NAME.fullmatch(name) else "size_" + re.sub(r"[^\w.]+", "_", short)
    if symbol not in taken:
        return symbol
    low, high = 1, 2
    while f"{symbol}_{high}" in taken:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if f"{symbol}_{middle}" in taken else (low, middle)
    return f"{symbol}_{high}"


# --- text -----------------------------------------------------------------------------------------------------
def _pieces(text: str, marks: str) -> Iterator[str]:
    """Yield the pieces of a text between `marks` outside of parentheses, each with the mark in front of it."""
    depth, start = 0, 0
    for i, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0 and character in marks and i > start:
            yield text[start:i]
            start = i
    yield text[start:]


@functools.lru_cache(maxsize=1 << 16)
def _terms(text: str) -> Terms:
    """Return the terms of a written size; a text that is none is one symbol."""
    terms: Counter[Atoms] = Counter()
    for piece in _pieces(text, "+-"):
        coefficient = -1 if piece.startswith("-") else 1
        atoms = []
        for factor in _pieces(piece.lstrip("+-"), "*"):
            factor = factor.lstrip("*")
            if factor.isdecimal():
                coefficient *= int(factor)
            elif _is_atom(factor):
                atoms.append(factor)
            else:
                return {(text,): 1}
        terms[tuple(sorted(atoms))] += coefficient
    return dict(terms)


def _is_atom(text: str) -> bool:
    """Return whether a text is a name, a sum in parentheses, or a function of sizes."""
    name = _NAME.match(text)
    rest = text[name.end() :] if name else text
    return (not rest and name is not None) or (rest.startswith("(") and _closes(rest) == len(rest) - 1)


def _closes(text: str) -> int:
    """Return where the parenthesis closes that a text begins with, -1 if nowhere."""
    depth = 0
    for i, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return i
    return -1


def _factored(size: int | str) -> tuple[int, Atoms]:
    """Return a size as a coefficient and a product; a sum is one atom, in parentheses."""
    if isinstance(size, int):
        return size, ()
    terms = _terms(size)
    if len(terms) == 1:
        [(atoms, coefficient)] = terms.items()
        return coefficient, atoms
    return 1, (f"({size})",)


def _expand(size: int | str) -> Terms:
    """Return a size as a sum; a product with one sum in it is written out."""
    coefficient, atoms = _factored(size)
    sums = [atom for atom in atoms if atom.startswith("(")]
    if len(sums) != 1:
        return {atoms: coefficient} if coefficient else {}
    others = list(atoms)
    others.remove(sums[0])
    inner = _terms(sums[0][1:-1])
    return {tuple(sorted((*others, *more))): coefficient * c for more, c in inner.items()}


def _sum_text(terms: Terms) -> Dim:
    """Return the text of a sum: what all terms have in common in front of it."""
    if not terms:
        return 0
    if len(terms) == 1:
        [(atoms, coefficient)] = terms.items()
        return _product_text(coefficient, atoms)
    if len(terms) > _MOST_TERMS:
        return None
    common = functools.reduce(operator.and_, map(Counter, terms))
    rests = {tuple(sorted((Counter(atoms) - common).elements())): c for atoms, c in terms.items()}
    ordered = sorted(rests, key=lambda atoms: (not atoms, atoms))
    factor = math.gcd(*rests.values()) * (1 if rests[ordered[0]] > 0 else -1)
    written = [_product_text(rests[atoms] // factor, atoms) for atoms in ordered]
    if None in written:
        return None
    text = "+".join(map(str, written)).replace("+-", "-")
    return text if factor == 1 and not common else _product_text(factor, (*common.elements(), f"({text})"))


def _product_text(coefficient: int, atoms: Iterable[str]) -> Dim:
    names = sorted(atoms)
    if not names or coefficient == 0:
        return coefficient
    if len(names) == 1 and coefficient == 1:
        return names[0][1:-1] if names[0].startswith("(") else names[0]
    if len(names) > _MOST_ATOMS or abs(coefficient) > MOST_SIZE or not all(map(_is_atom, names)):
        return None
    text = "*".join(names)
    return f"-{text}" if coefficient == -1 else text if coefficient == 1 else f"{coefficient}*{text}"


def _function(name: str, a: Dim, b: Dim, mark: str = "/") -> Dim:
    """Return a symbol that says what it is made of."""
    left, right = (f"({size})" if isinstance(size, str) and not _is_atom(size) else size for size in (a, b))
    text = f"{name}({left}{mark}{right})"
    return text if len(text) <= 200 else None


def _least_term(atoms: Atoms, coefficient: int, symbol: int) -> float:
    """Return a lower bound of a product."""
    if not atoms:
        return coefficient
    bounds = [_least_atom(atom, symbol) for atom in atoms]
    if coefficient < 0 or min(bounds) < 0:
        return -math.inf
    return coefficient * math.prod(bounds)


def _least_atom(atom: str, symbol: int) -> float:
    name, inside = _opened(atom)
    if not inside:
        return symbol
    bounds = [least(size, symbol=symbol) for size in inside]
    if name == "truncated":
        return -math.inf
    if name == "floor":
        return (
            max(0, bounds[0] // int(inside[1])) if inside[1].isdecimal() and math.isfinite(bounds[0]) else 0
        )
    return max(bounds) if name == "max" else min(bounds)


def _opened(atom: str) -> tuple[str, list[str]]:
    """Return the function of an atom ("" for a sum) and the sizes inside of it; none inside of a name."""
    name, _, inside = atom.partition("(")
    mark = "/" if name in ("floor", "truncated") else "," if name else ""
    return name, [piece.lstrip(mark or None) for piece in _pieces(inside[:-1], mark)] if inside else []
