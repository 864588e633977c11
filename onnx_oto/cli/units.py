"""Sizes of memory as people write them."""

from __future__ import annotations

import re

import click

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


def memory(_: click.Context, option: click.Parameter, text: str | None) -> float | None:
    """Return bytes, for click.

    >>> memory(None, None, "1.5GB"), memory(None, None, "512 MiB"), memory(None, None, "8g")
    (1500000000.0, 536870912.0, 8000000000.0)
    """
    if text is None:
        return None
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?i?)b?", text.strip().lower())
    if found is None or found[2] not in _UNITS or not float(found[1]):
        raise click.BadParameter(f"'{text}' is no size of memory: write 8GB, 800MB or 1.5GiB")
    return float(found[1]) * _UNITS[found[2]]
