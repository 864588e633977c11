"""Limits of numbers. A check returns what to do about a value that is refused; none of them takes NaN."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from onnx_oto.settings.declare import Check


def at_least(least: int) -> Check:
    """Return the check of a count.

    >>> at_least(1)(0), at_least(1)(1)
    ('give at least 1', None)
    """
    return lambda value: None if value >= least else f"give at least {least}"


def at_most(most: int) -> Check:
    """Return the check of a count that has a limit.

    >>> at_most(9)(10), at_most(9)(9)
    ('give at most 9', None)
    """
    return lambda value: None if value <= most else f"give at most {most}"


def not_negative(value: float) -> str | None:
    """Refuse numbers below 0, and infinity."""
    if value < 0:
        return "it cannot be negative"
    return None if value < math.inf else "give a number of at least 0"


def positive(value: float) -> str | None:
    """Refuse 0, what is below it, and infinity."""
    return None if 0 < value < math.inf else "give a positive number"


def _percent(value: float) -> str:
    """Return which share was meant by a number of percent, in words.

    >>> _percent(50), _percent(1.5), _percent(200)
    (' (50% is 0.5)', '', '')
    """
    return f" ({value:g}% is {value / 100:g})" if 5 <= value <= 100 else ""


def share(value: float) -> str | None:
    """Refuse what is no share of a whole."""
    return None if 0 <= value <= 1 else f"give a share from 0 to 1{_percent(value)}"


def share_below_one(value: float) -> str | None:
    """Refuse what is no share, and the whole."""
    return None if 0 <= value < 1 else f"give a number from 0 to below 1{_percent(value)}"


def share_above_zero(value: float) -> str | None:
    """Refuse what is no share, and nothing."""
    return None if 0 < value <= 1 else f"give a share above 0 and up to 1{_percent(value)}"


def all_finite(values: Sequence[float]) -> str | None:
    """Refuse lists that hold infinities or NaN."""
    return None if all(map(math.isfinite, values)) else "give finite numbers"


def all_positive(values: Sequence[float]) -> str | None:
    """Refuse lists that hold anything but positive numbers."""
    return None if all(positive(value) is None for value in values) else "give positive numbers"


def milestones(values: Sequence[float]) -> str | None:
    """Refuse what are no shares of a whole in the order in which they are reached.

    >>> milestones((0.5, 0.75)), milestones((0.75, 0.5))
    (None, 'give shares between 0 and 1, each larger than the one before')
    """
    rising = all(a < b for a, b in pairwise((0.0, *values, 1.0)))
    return None if rising else "give shares between 0 and 1, each larger than the one before"


def threads(value: int) -> str | None:
    """Refuse what is no number of threads: more than a thousand helps no machine, and takes minutes to start."""
    return not_negative(value) or at_most(1024)(value)
