"""Amounts that are a share of something, or a quantity with a unit: 0.5, 300M, 2MB, 3.5ms."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

_COUNTS = {"k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "t": 1e12}
_SIZES = {"b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_TIMES = {"us": 1e-3, "ms": 1.0, "s": 1e3}
UNITS: Mapping[str, Mapping[str, float]] = {
    "params": _COUNTS,
    "macs": _COUNTS,
    "bytes": _SIZES,
    "latency": _TIMES,
}
"""What each budget is counted in: elements, multiply-accumulates, bytes, milliseconds."""
EXAMPLES = {"params": "5M", "macs": "300M", "bytes": "2MB", "latency": "3.5ms"}
_NUMBER = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]+)?\s*([a-zµ]*)")


def amount(name: str) -> Callable[[str], float | str]:
    """Return what reads an amount: a bare number as a float, a quantity as the text it is.

    >>> amount("macs")("0.5"), amount("macs")("300M")
    (0.5, '300M')
    """

    def read(text: str) -> float | str:
        found = _NUMBER.fullmatch(text.strip().lower())
        if found is None or (found[3] and found[3].replace("µ", "u") not in UNITS[name]):
            raise ValueError(remedy(name))
        return text.strip() if found[3] else float(text)

    return read


def quantity(name: str, text: str) -> float:
    """Return how much a quantity is.

    >>> quantity("params", "1.5M"), quantity("bytes", "2 MiB"), quantity("latency", "500us")
    (1500000.0, 2097152.0, 0.5)
    """
    found = _NUMBER.fullmatch(text.strip().lower())
    assert found is not None, text
    return float(found[1] + (found[2] or "")) * UNITS[name][found[3].replace("µ", "u")]


def amount_limits(name: str) -> Callable[[float | str], str | None]:
    """Return the check of an amount: a share is above 0 and at most 1, a quantity above 0."""

    def check(value: float | str) -> str | None:
        if isinstance(value, str):
            try:
                read = amount(name)(value)
            except ValueError as error:
                return str(error)
            if not isinstance(read, str):
                return check(read)
            return None if quantity(name, value) > 0 else remedy(name)
        return None if 0 < value <= 1 else f"a bare number is the share that is kept: {remedy(name)}"

    return check


def remedy(name: str) -> str:
    """Return what to write."""
    return f"give a share above 0 and up to 1, such as 0.5, or a quantity such as {EXAMPLES[name]}"
