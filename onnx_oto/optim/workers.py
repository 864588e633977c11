"""Run numpy work over many pieces of a buffer on a few threads.

Numpy releases the interpreter lock inside its loops, so two threads that sweep different pieces of one
buffer keep two cores busy. Every piece is computed by the same code in the same order whatever the number
of threads: results are bit-identical for any `threads`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import accumulate
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from onnx_oto.machine import cores, has_compiler

T = TypeVar("T")

# Elements per piece: x, gradient, state and scratch of one piece (4 * 256 KiB) stay in a second-level cache.
PIECE = 1 << 16

# More threads than this only fight for memory bandwidth.
MOST_THREADS = 4


def default_threads() -> int:
    """Return how many threads a sweep uses unless told otherwise.

    The cores of this process, at most `MOST_THREADS`.
    """
    return min(MOST_THREADS, cores())


def compiles(*arrays: npt.NDArray[Any]) -> bool:
    """Return whether compiled sweeps take these arrays: there is a compiler, and they are floats of one type, dense."""
    kinds = {array.dtype for array in arrays}
    return (
        has_compiler()
        and len(kinds) == 1
        and kinds <= {np.dtype(np.float32), np.dtype(np.float64)}
        and all(array.flags.c_contiguous for array in arrays)
    )


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=MOST_THREADS, thread_name_prefix="onnx-oto-sweep")


def spread(
    work: Callable[[Sequence[T]], None],
    items: Sequence[T],
    threads: int,
    weights: Sequence[int] | None = None,
) -> None:
    """Call `work` on consecutive shares of `items`, one share per thread, and wait for all of them.

    weights: how much there is to do for each item, None = the same for all. The calling thread takes the first share.
    With one thread or fewer than four items no other thread is used. An exception of any share is raised here, after
    all shares have ended.
    """
    threads = min(threads, len(items) // 2)
    if threads <= 1:
        work(items)
        return
    bounds = _bounds(len(items), threads, weights)
    others = [_pool().submit(work, items[bounds[i] : bounds[i + 1]]) for i in range(1, threads)]
    try:
        work(items[: bounds[1]])
    finally:
        failures = [other.exception() for other in others]
    for failure in failures:
        if failure is not None:
            raise failure


def _bounds(count: int, shares: int, weights: Sequence[int] | None) -> list[int]:
    """Return where shares of about the same weight begin, and the end of the last one.

    >>> _bounds(4, 2, None), _bounds(4, 2, [1, 1, 1, 3])
    ([0, 2, 4], [0, 3, 4])
    """
    if weights is None:
        return [count * i // shares for i in range(shares + 1)]
    done = list(accumulate(weights))
    return [0, *(bisect_left(done, done[-1] * i / shares) + 1 for i in range(1, shares)), count]
