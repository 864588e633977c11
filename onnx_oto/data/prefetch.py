"""Preparing the next batches on threads while the step runs."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from queue import SimpleQueue
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

_NAME = "onnx-oto-batches"


class _End(NamedTuple):
    """Nothing more comes; error: why, when it was not the end."""

    error: BaseException | None


@dataclass(frozen=True)
class _Made(Generic[T]):  # no NamedTuple: before Python 3.11 these cannot be generic
    item: T


def prefetched(items: Iterator[T], ahead: int = 1) -> Generator[T, None, None]:
    """Yield the same items in the same order, made on one thread, at most `ahead` before they are asked for.

    What `items` raises is raised here, at its turn. Closing the generator ends the thread before it returns: an item
    that is being made is finished and dropped, and `items` is closed. Whoever may leave a loop over it by an error
    closes it: the error's traceback keeps it as long as it is kept itself.
    """
    free, made = threading.Semaphore(ahead), SimpleQueue[_Made[T] | _End]()
    leaving = threading.Event()

    def work() -> None:
        error: BaseException | None = None
        try:
            free.acquire()
            while not leaving.is_set():
                try:
                    item = next(items)
                except StopIteration:
                    break
                made.put(_Made(item))
                del item  # so that it is freed while the next is made
                free.acquire()
        except BaseException as raised:  # it belongs to whoever iterates
            error = raised
        finally:
            made.put(_End(error))

    thread = threading.Thread(target=work, name=_NAME, daemon=True)
    thread.start()
    try:
        while isinstance(got := made.get(), _Made):
            free.release()
            yield got.item
        if got.error is not None:
            raise got.error
    finally:
        leaving.set()
        free.release()
        if (
            not sys.is_finalizing()
        ):  # the interpreter has stopped the thread then: it would be waited for for ever
            thread.join()
            close = getattr(items, "close", None)
            if close is not None:
                close()


def made_ahead(jobs: Iterator[Callable[[], T]], threads: int = 1) -> Generator[T, None, None]:
    """Yield what the jobs return, in their order, made on so many threads, one job on each before it is asked for.

    What a job raises is raised here, at its turn. Closing the generator (see `prefetched`) ends the threads before it
    returns: what is being made is finished and dropped.
    """
    if threads == 1:
        yield from prefetched(job() for job in jobs)
        return
    pool = ThreadPoolExecutor(threads, thread_name_prefix=_NAME)
    making: deque[Future[T]] = deque()
    try:
        making.extend(pool.submit(job) for job in islice(jobs, threads))
        while making:
            item = making.popleft().result()
            making.extend(pool.submit(job) for job in islice(jobs, 1))
            yield item
            del item  # so that it is freed while the next is waited for
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
