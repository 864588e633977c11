"""Preparing the next batches on a thread while the step runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class _End(NamedTuple):
    """Nothing more comes; error: why, when it was not the end."""

    error: BaseException | None


class _Made(NamedTuple, Generic[T]):
    item: T


def prefetched(items: Iterator[T], ahead: int = 1) -> Iterator[T]:
    """Yield the same items in the same order, made on one thread, at most `ahead` before they are asked for.

    What `items` raises is raised here, at its turn. Closing the generator, or leaving a loop over it in any way, ends
    the thread before it returns: an item that is being made is finished and dropped, and `items` is closed.
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

    thread = threading.Thread(target=work, name="onnx-oto-batches", daemon=True)
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
        thread.join()
        close = getattr(items, "close", None)
        if close is not None:
            close()
