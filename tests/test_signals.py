"""How signals end a process."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Iterator

import pytest

from onnx_oto import signals
from onnx_oto.model.files.replace import together
from onnx_oto.signals import ENDING, Ending, Interrupted


class Left(BaseException):
    """The process would have ended at once."""


@pytest.fixture
def ending(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ending]:
    """Handlers that raise Left where the process would end; the ones before come back."""

    def at_once(number: int) -> None:
        raise Left(number)

    before = {number: signal.signal(number, signal.default_int_handler) for number in ENDING}
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    made = Ending(at_once)  # type: ignore[arg-type]
    made.install()
    yield made
    signal.set_wakeup_fd(-1)
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", ENDING)
def test_before_anything_has_begun_the_process_ends_at_once(ending, number):
    with pytest.raises(Left):
        send(number)


@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_afterwards_blocks_are_left_in_order(ending, number, code):
    ending.unwind()
    with pytest.raises(Interrupted) as caught:
        send(signal.Signals[number])
    assert (ending.number, caught.value.exit_code) == (signal.Signals[number], code)


def test_a_second_signal_does_not_cut_short_the_cleaning_up(ending, monkeypatch):
    ending.unwind()
    cleaned = []

    def work() -> None:
        try:
            send(signal.SIGINT)
        finally:
            send(signal.SIGINT)
            send(signal.SIGTERM)
            cleaned.append(True)

    with pytest.raises(Interrupted):
        work()
    assert cleaned
    monkeypatch.setattr(signals, "PATIENCE", 0.0)
    with pytest.raises(Left, match=str(int(signal.SIGINT))):
        send(signal.SIGTERM)


def test_what_is_done_stays_done(ending):
    ending.unwind()
    ending.close()
    send(signal.SIGTERM)
    assert ending.number is None


class Swallows:
    """Python drops what its destructor raises."""

    def __del__(self) -> None:
        send(signal.SIGTERM)
        for _ in range(1000):
            pass


def test_a_signal_in_a_destructor_is_not_lost(ending, capsys):
    ending.unwind()

    def work() -> None:
        Swallows()
        for _ in range(200):
            time.sleep(0.01)

    with pytest.raises(Interrupted):
        work()
    assert capsys.readouterr().err == ""


def test_ignored_signals_stay_ignored(ending):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    ending.install()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers that send signals")
def test_files_of_a_moment_are_gone_wherever_a_signal_comes(ending, tmp_path):
    """Between the making of a lock or a temporary file and the note that it is there, too."""
    ending.unwind()
    rng = random.Random(1)
    signal.signal(signal.SIGALRM, ending._handle)

    def work(turn: int) -> float:
        begin = time.perf_counter()
        with together() as files:
            target = files.claim(tmp_path / "file")
            with files.writing(target) as file:
                file.write(b"%d" % turn)
            with files.creating(tmp_path / f"data{turn}", like=target):
                pass
        return time.perf_counter() - begin

    work(0)
    takes = min(work(turn) for turn in range(1, 6))  # the first loads what is loaded once
    for turn in range(6):
        (tmp_path / f"data{turn}").unlink()
    heard = 0
    try:
        for turn in range(600):
            ending.number = None
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-6, takes))
                work(turn)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Interrupted:
                heard += 1
            signals.clean_up()
            (tmp_path / f"data{turn}").unlink(missing_ok=True)
            assert [path.name for path in tmp_path.iterdir()] == ["file"]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    assert heard > 100
