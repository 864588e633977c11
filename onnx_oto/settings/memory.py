"""Sizes of memory as people write them."""

from __future__ import annotations

import re

_UNITS = {
    "": 1,
    "k": 10**3,
    "m": 10**6,
    "g": 10**9,
    "t": 10**12,
    "ki": 2**10,
    "mi": 2**20,
    "gi": 2**30,
    "ti": 2**40,
}
REMEDY = "write a size of memory such as 8GB, 800MB or 1.5GiB"


def memory(text: str) -> float:
    """Return bytes. Raises ValueError that says what to write.

    >>> memory("1.5GB"), memory("512 MiB"), memory("8g")
    (1500000000.0, 536870912.0, 8000000000.0)
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?i?)b?", text.strip().lower())
    if found is None or found[2] not in _UNITS or not float(found[1]):
        raise ValueError(REMEDY)
    return float(found[1]) * _UNITS[found[2]]
