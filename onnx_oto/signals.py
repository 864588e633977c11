"""Signals that ask the process to end, and how it does: by an exception, once, so that everything is cleaned up."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

ENDING = tuple(each for each in signal.Signals if each.name in ("SIGINT", "SIGTERM", "SIGHUP"))
"""Those that this system has of Ctrl-C, the wish of another process, and a terminal that was closed."""
PATIENCE = 3.0
"""Seconds that the blocks being left may take before another signal ends the process all the same."""
HANGING = 10.0
"""Seconds after which native code that does not come back is left where it is. Longer than a write to a disk takes."""
LISTENERS: list[object] = []
"""Who takes a first signal for a wish at the moment."""
AGAIN = 0.02
"""Seconds until a signal comes again whose exception was swallowed."""


class Postponed:
    """Inside `with POSTPONED:` a signal waits: what a few instructions make is also noted before it is heard."""

    def __init__(self) -> None:
        self.depth = 0
        self.number: int | None = None

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self.depth += 1

    def __exit__(self, *_: object) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        self.depth -= 1
        if not self.depth and self.number is not None:
            number, self.number = self.number, None
            signal.raise_signal(number)


POSTPONED = Postponed()


class Interrupted(BaseException):
    """A signal came. No OtoError and no Exception: nothing that handles errors may hold it up."""

    def __init__(self, number: int, message: str = "interrupted") -> None:
        super().__init__(message)
        self.number = number

    @property
    def exit_code(self) -> int:
        """What a shell expects of a process that a signal ended: 128 + its number."""
        return 128 + self.number


class Ending:
    """How signals end this process: `at_once` while there is nothing to clean up, then by raising `Interrupted`.

    Only the first one raises, so that a second one does not cut short what removes a temporary file; when the
    blocks being left take longer than PATIENCE, it ends the process by `at_once` after all. Python drops what is
    raised inside a destructor: such a signal is sent again. Python handles signals between two of its own
    instructions: where native code does not come back within HANGING, a thread ends the process. Signals that the
    parent ignores (nohup, a job in the background) stay ignored.
    """

    def __init__(self, at_once: Callable[[int], NoReturn]) -> None:
        self.number: int | None = None
        self._at_once = at_once
        self._unwinds = self._closed = False
        self._since = 0.0
        self._unraisable = sys.unraisablehook

    def install(self) -> None:
        """Begin to handle signals."""
        sys.unraisablehook = self._dropped
        for number in ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._handle)

    def unwind(self) -> None:
        """From here on there is something to clean up, and native code may hang."""
        self._unwinds = True
        if os.name == "nt":  # pipes that do not block are for others
            return
        arrivals, written = os.pipe()
        os.set_blocking(written, False)
        signal.set_wakeup_fd(written, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=[arrivals], daemon=True).start()

    def close(self) -> None:
        """Ignore signals: the work is done, its exit code is known.

        By the system: Python takes its handlers away when it ends, and a late signal would end the process then.
        """
        self._closed = True
        for number in ENDING:
            if signal.getsignal(number) == self._handle:
                signal.signal(number, signal.SIG_IGN)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._closed:
            return
        if POSTPONED.depth:
            POSTPONED.number = number
        elif self.number is None:
            self.number, self._since = number, time.monotonic()
            if self._unwinds:
                raise Interrupted(number)
            self._at_once(number)
        elif time.monotonic() - self._since > PATIENCE:
            self._at_once(self.number)

    def _watch(self, arrivals: int) -> None:
        """End the process if signals arrive, as `arrivals` tells at once, and are not handled for too long."""
        wished = False
        while number := ord(os.read(arrivals, 1)):
            if number not in ENDING:
                continue
            if LISTENERS and not wished:  # a long step may end, and what it made be written
                wished = True
                continue
            time.sleep(HANGING)
            if self.number is None and not self._closed:
                self._at_once(number)

    def _dropped(self, dropped: Any) -> None:
        """Send a signal again whose exception was raised where nobody can catch it."""
        error = dropped.exc_value
        if not isinstance(error, Interrupted):
            self._unraisable(dropped)
            return
        self.number = None
        again = threading.Timer(AGAIN, signal.raise_signal, [error.number])
        again.daemon = True
        again.start()


UNDONE: list[Callable[[], object]] = []
"""What cleans up after blocks that are open, the newest last. Each may be called again, and by `clean_up`."""


def done(clean: Callable[[], object]) -> None:
    """Clean up, and forget it."""
    clean()
    with contextlib.suppress(ValueError):  # `clean_up` came first
        UNDONE.remove(clean)


def clean_up() -> None:
    """Do what a signal kept blocks from doing: no `finally` is safe from one that comes as it begins."""
    while UNDONE:
        with contextlib.suppress(OSError):
            UNDONE.pop()()
