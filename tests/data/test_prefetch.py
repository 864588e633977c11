"""Items made ahead on a thread: the same ones, no more than asked for, and no thread left behind."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from onnx_oto.data import made_ahead, prefetched


class Maker:
    """Numbers, noting how many were made, on which threads, and whether it was closed."""

    def __init__(self, count: int = 20, fail_at: int = -1, error: type[BaseException] = ValueError) -> None:
        self.made = 0
        self.threads: set[int] = set()
        self.closed = False
        self.count, self.fail_at, self.error = count, fail_at, error

    def __iter__(self) -> Iterator[int]:
        try:
            for number in range(self.count):
                if number == self.fail_at:
                    raise self.error(f"sample {number} is bad")
                self.made += 1
                self.threads.add(threading.get_ident())
                yield number
        finally:
            self.closed = True


def running() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("onnx-oto-batches")]


def wait_until(true: Callable[[], bool]) -> bool:
    """Return whether it became true within ten seconds."""
    end = time.monotonic() + 10
    while not true() and time.monotonic() < end:
        time.sleep(0.001)
    return true()


@pytest.mark.parametrize("ahead", [1, 2, 50])
def test_the_same_items_in_the_same_order_made_elsewhere(ahead: int) -> None:
    maker = Maker()
    assert list(prefetched(iter(maker), ahead)) == list(range(20))
    assert len(maker.threads) == 1
    assert threading.get_ident() not in maker.threads
    assert maker.closed
    assert running() == []


@pytest.mark.parametrize("ahead", [1, 2, 5])
def test_the_next_is_made_while_one_is_used_and_no_more(ahead: int) -> None:
    maker = Maker()
    items = prefetched(iter(maker), ahead)
    for used in (1, 2, 3):
        next(items)
        assert wait_until(lambda used=used: maker.made >= used + ahead)  # type: ignore[misc]
        time.sleep(0.02)
        assert maker.made == used + ahead
    items.close()  # type: ignore[attr-defined]


def test_nothing_is_made_before_it_is_asked_for() -> None:
    maker = Maker()
    items = prefetched(iter(maker))
    time.sleep(0.02)
    assert maker.made == 0
    assert running() == []
    items.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, MemoryError])
def test_errors_come_at_their_turn(error: type[BaseException]) -> None:
    maker, seen = Maker(fail_at=3, error=error), []

    def use() -> None:
        for item in prefetched(iter(maker), 2):
            seen.append(item)  # noqa: PERF402

    with pytest.raises(error, match="sample 3 is bad"):
        use()
    assert seen == [0, 1, 2]
    assert running() == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_loop_that_is_left_by_an_error_ends_the_thread(error: type[BaseException]) -> None:
    maker = Maker()

    def use() -> None:
        for item in prefetched(iter(maker)):
            if item == 4:
                raise error

    with pytest.raises(error):
        use()
    assert running() == []
    assert maker.closed
    assert maker.made <= 6


def test_a_loop_that_is_left_early_ends_the_thread() -> None:
    maker = Maker()

    def use() -> int:
        return next(item for item in prefetched(iter(maker)) if item == 4)

    assert use() == 4
    assert running() == []
    assert maker.closed


def test_leaving_waits_for_the_item_that_is_being_made() -> None:
    """Whatever it reads (a file, a mapped array) is still used by it."""
    entered, finished = threading.Event(), threading.Event()

    def slow() -> Iterator[int]:
        yield 0
        entered.set()
        time.sleep(0.1)
        finished.set()
        yield 1

    items = prefetched(slow())
    assert next(items) == 0
    assert entered.wait(10)
    items.close()  # type: ignore[attr-defined]
    assert finished.is_set()
    assert running() == []


class Jobs:
    """Jobs that take their time, the first ones longest, and note which threads they ran on and how many were begun."""

    def __init__(self, count: int = 20, fail_at: int = -1, error: type[BaseException] = ValueError) -> None:
        self.threads: set[str] = set()
        self.begun = 0
        self.count, self.fail_at, self.error = count, fail_at, error

    def __iter__(self) -> Iterator[Callable[[], int]]:
        for number in range(self.count):
            yield lambda number=number: self.run(number)  # type: ignore[misc]

    def run(self, number: int) -> int:
        self.begun += 1
        self.threads.add(threading.current_thread().name)
        time.sleep(0.002 * (number % 4 == 0))
        if number == self.fail_at:
            raise self.error(f"sample {number} is bad")
        return number


@pytest.mark.parametrize("threads", [1, 2, 3, 30])
def test_jobs_keep_their_order_on_any_number_of_threads(threads: int) -> None:
    jobs = Jobs()
    assert list(made_ahead(iter(jobs), threads)) == list(range(20))
    assert 1 <= len(jobs.threads) <= threads
    assert (len(jobs.threads) > 1) == (threads > 1)
    assert threading.current_thread().name not in jobs.threads
    assert running() == []


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_no_more_jobs_are_begun_than_there_are_threads(threads: int) -> None:
    jobs = Jobs()
    items = made_ahead(iter(jobs), threads)
    for used in (1, 2, 3):
        next(items)
        assert wait_until(lambda used=used: jobs.begun >= used + threads)  # type: ignore[misc]
        time.sleep(0.02)
        assert jobs.begun == used + threads
    items.close()  # type: ignore[attr-defined]
    assert running() == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("threads", [1, 3])
def test_what_a_job_raises_comes_at_its_turn(error: type[BaseException], threads: int) -> None:
    seen = []

    def use() -> None:
        for item in made_ahead(iter(Jobs(fail_at=5, error=error)), threads):
            seen.append(item)  # noqa: PERF402

    with pytest.raises(error, match="sample 5 is bad"):
        use()
    assert seen == [0, 1, 2, 3, 4]
    assert running() == []


class Thing:
    """Something whose end is noticed."""

    alive = 0

    def __init__(self) -> None:
        Thing.alive += 1

    def __del__(self) -> None:
        Thing.alive -= 1


@pytest.mark.parametrize("threads", [1, 3])
def test_what_was_used_is_freed(threads: int) -> None:
    """However long the data are, no more than those made ahead and the one in use are there."""
    most = 0
    for thing in made_ahead(iter([Thing] * 200), threads):
        most = max(most, Thing.alive)
        del thing
    assert most <= threads + 2
    assert Thing.alive == 0


FORGOTTEN = """
import itertools, time
from onnx_oto.data import prefetched

def slow():
    for i in itertools.count():
        time.sleep(0.01)
        yield i

def loop():
    items = prefetched(slow())
    next(items)
    raise OSError("the disk is full")

try:
    loop()
except OSError as error:  # its traceback keeps the loop, a cycle keeps it until the interpreter ends
    kept = [error]
    kept.append(kept)
    del kept
"""


def test_a_loop_that_an_error_left_does_not_keep_the_process():
    """From Python 3.12 on the interpreter stops such threads before it lets go of what is left."""
    assert subprocess.run([sys.executable, "-c", FORGOTTEN], timeout=60).returncode == 0
