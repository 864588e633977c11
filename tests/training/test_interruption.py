"""Signals become a wish to stop."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from onnx_oto.training import StopRequests


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_the_first_signal_is_noted_and_handlers_are_given_back(number: signal.Signals, code: int) -> None:
    before = signal.getsignal(number)
    with StopRequests() as stop:
        assert not stop()
        assert stop.exit_code is None
        os.kill(os.getpid(), number)
        assert stop()
        assert stop.exit_code == code
        assert signal.getsignal(number) == before
    assert signal.getsignal(number) == before


def test_the_second_signal_acts_as_usual() -> None:
    with StopRequests() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert stop()


def test_ignored_signals_stay_ignored() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with StopRequests() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
        assert not stop()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_outside_the_main_thread_nothing_is_installed() -> None:
    seen: list[object] = []

    def work() -> None:
        with StopRequests() as stop:
            seen.append((stop(), signal.getsignal(signal.SIGTERM)))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, before)]
