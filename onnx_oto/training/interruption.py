"""Signals as a wish to stop between two steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable
from types import FrameType, TracebackType
from typing import Any

from onnx_oto.signals import ENDING, LISTENERS


class StopRequests:
    """Inside `with stop:` the first signal that asks the process to end makes `stop()` true, no exception.

    The second acts as if nobody had listened, so that a hanging step can still be interrupted. Outside the
    main thread, where Python cannot handle signals, nothing is installed and `stop()` stays false. Signals that
    are ignored stay ignored. also: signals that are taken so besides, such as those that a launcher passes on.
    """

    def __init__(self, also: Iterable[signal.Signals] = ()) -> None:
        self._heard = (*ENDING, *also)
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    def __call__(self) -> bool:
        """Return whether a signal has come."""
        return self.signal is not None

    @property
    def exit_code(self) -> int | None:
        """What a shell expects of a process that a signal ended: 128 + its number; None without a signal."""
        return None if self.signal is None else 128 + self.signal

    def __enter__(self) -> StopRequests:
        if threading.current_thread() is threading.main_thread():
            before = {number: signal.getsignal(number) for number in self._heard}
            self._before = {n: handler for n, handler in before.items() if handler is not signal.SIG_IGN}
            LISTENERS.append(self)
            for number in self._before:
                signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._give_back()
        if self in LISTENERS:
            LISTENERS.remove(self)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        self._give_back()

    def _give_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
