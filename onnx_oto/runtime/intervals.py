"""How well a median is known."""

from __future__ import annotations

import math
from collections.abc import Sequence

ONE_IN = 40
"""How seldom the median lies below its interval, and how seldom above: 2.5 % each."""


def median_interval(times: Sequence[float]) -> tuple[float, float]:
    """Return an interval that holds the median with 95 % confidence, whatever the distribution of `times`.

    The number of n independent times below the median is Binomial(n, 1/2). So the k-th smallest and the k-th largest
    enclose it but for 2 P(B < k), and k is the largest for which that is 5 % at most. Fewer than six times do not
    suffice for that: theirs are the smallest and the largest.

    >>> median_interval([3.0, 1.0, 2.0]), median_interval(range(1, 21))
    ((1.0, 3.0), (6, 15))
    """
    ordered, count = sorted(times), len(times)
    k, below = 0, 1
    while ONE_IN * below <= 2**count:  # below: in how many of the 2^n cases B <= k
        k += 1
        below += math.comb(count, k)
    k = max(k, 1)
    return ordered[k - 1], ordered[count - k]
