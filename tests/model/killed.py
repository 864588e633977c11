"""Kill a process at every moment at which it touches a folder: the k-th time, for every k."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

EVENTS = ("open", "os.rename", "os.remove", "os.link", "os.chmod")


def killed_at_every_moment(
    prepare: Callable[[], None], work: Callable[[], None], folder: Path
) -> Iterator[int]:
    """Yield after each child that did `work` and was killed; the one that ends by itself is the last.

    The child dies before its k-th call that opens, renames, removes or links something in `folder`.
    """
    moment = 0
    while True:
        moment += 1
        prepare()
        child = os.fork()
        if child == 0:
            _work_and_die(work, folder, moment)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            assert os.waitstatus_to_exitcode(status) == 0
            return
        yield moment


def _work_and_die(work: Callable[[], None], folder: Path, moment: int) -> None:
    seen = 0

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event in EVENTS and str(arguments[0]).startswith(str(folder)):
            seen += 1
            if seen == moment:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    try:
        work()
    except BaseException:
        os._exit(1)
    os._exit(0)
