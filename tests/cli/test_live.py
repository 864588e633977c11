"""What is drawn of a run that goes on: what is known so far, in lines that fit."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import termios
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console

from onnx_oto.cli import streams
from onnx_oto.cli.live import Notes, Row, Screen, rows
from onnx_oto.cli.progress import Progress
from onnx_oto.training import EpochEnded, Event, Judged, Kept, Started, Stepped

STARTED = Started(4, 250, 1000, 0, samples=64)
STEPPED = Stepped(2, 300, 1000, 0.5, 0.05, "shrink", 84, 168, 0.02)
ENDED = EpochEnded(
    1, 250, 1000, 0.75, 0.1, "observe", 0, 168, "accuracy", 0.8, 0.6, 9.0, split="val", best=True
)


def noted(*events: Event) -> Notes:
    """Return what is known after these events."""
    notes = Notes()
    for event in events:
        notes.take(event)
    return notes


def drawn(notes: Notes, columns: int) -> list[str]:
    """Return the lines of the screen."""
    console = Console(width=columns, force_terminal=True, color_system=None, legacy_windows=False)
    with console.capture() as captured:
        console.print(Screen(notes))
    return [line.rstrip() for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", captured.get()).splitlines()]


def said(notes: Notes, now: float = 0.0) -> dict[str, tuple[str, ...]]:
    """Return the parts of every row, by its short label."""
    return {row.short: row.parts for row in rows(notes, now)}


def test_everything_stands_there():
    notes = noted(Judged("test", "accuracy", 0.9), STARTED, ENDED, STEPPED)
    found = said(notes, notes.pace.begin + 30.0)
    assert found == {
        "epoch": ("2 of 4", "step 300 of 1,000"),
        "loss": ("0.5", "last epoch 0.75"),
        "accuracy": ("0.8000", "original test 0.9000", "best 0.8000 (epoch 1)"),
        "rate": ("0.05",),
        "groups": ("84 of 168 zero", "shrink"),
        "speed": ("3,200 samples/s", "20 ms a step"),
        "time": ("about 70 s left", "30 s so far"),
    }
    assert len(drawn(notes, 80)) == len(found)


def test_what_is_not_known_is_left_out():
    assert said(noted(STARTED)) == {
        "epoch": ("1 of 4", "step 0 of 1,000"),
        "state": ("before the first step",),
    }
    dense = noted(STARTED, replace(STEPPED, target=None, zeroed=0))
    assert said(dense, dense.pace.begin + 1).keys() == {"epoch", "loss", "rate", "speed", "time"}
    assert drawn(Notes(), 80) == []


def test_nothing_is_drawn_behind_the_end():
    last = replace(ENDED, epoch=4, step=1000)
    assert drawn(noted(STARTED, STEPPED, last), 80) == []
    kept = Kept(2, 3, 750, 1000, "val", "accuracy", 0.8, False, True)
    assert drawn(noted(STARTED, STEPPED, kept), 80) == []


def test_waiting_for_data_and_skipped_steps_are_told():
    slow = replace(STEPPED, waited=0.01, skipped=2)
    notes = noted(STARTED, slow)
    found = said(notes, notes.pace.begin + 1)
    assert "50% waiting for data" in found["speed"]
    assert "2 steps left out" in found["time"]


@pytest.mark.parametrize("columns", [10, 24, 40, 59, 60, 80, 200])
def test_no_line_is_longer_than_the_screen(columns):
    notes = noted(Judged("test", "accuracy", 0.9), STARTED, ENDED, STEPPED)
    lines = drawn(notes, columns)
    assert len(lines) == 7
    assert max(map(len, lines)) <= columns
    if columns >= 40:
        assert any("84 of 168 zero" in line for line in lines)
        assert any("left" in line for line in lines)


def test_parts_that_do_not_fit_go_from_the_end():
    row = Row("label", "l", ("first", "second", "third"))
    assert [row.fitted(room) for room in (3, 13, 20, 21)] == [
        "first",
        "first, second",
        "first, second, third",
        "first, second, third",
    ]


def test_noting_a_step_takes_next_to_no_time():
    """A thousand steps are noted in half of the time in which a fast model takes one each."""
    notes = noted(STARTED)
    begin = time.perf_counter()
    for _ in range(1000):
        notes.take(STEPPED)
    assert time.perf_counter() - begin < 0.5


def newest(text: str) -> str:
    """Return the last screen that was begun."""
    return text.rpartition("epoch")[2]


def read_until(terminal: int, is_enough: Callable[[str], bool]) -> str:
    """Return what a terminal shows, in as many pieces as it comes; after some seconds whatever came."""
    shown, end = b"", time.monotonic() + 10
    while not is_enough(shown.decode(errors="replace")) and time.monotonic() < end:
        if select.select([terminal], [], [], 0.2)[0]:
            shown += os.read(terminal, 65536)
    return shown.decode(errors="replace")


def test_it_follows_a_terminal_that_changes(monkeypatch):
    outer, inner = pty.openpty()
    for name in ("COLUMNS", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")

    def resize(columns: int) -> None:
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    with open(inner, "w", encoding="utf-8") as terminal:
        monkeypatch.setattr(streams.sys, "stderr", terminal)
        resize(80)
        with Progress() as progress:
            for event in (STARTED, STEPPED):
                progress.notice(event)
            progress._live.refresh()
            wide = read_until(outer, lambda text: "learning rate" in text)
            resize(40)
            progress._live.refresh()
            narrow = read_until(
                outer, lambda text: " rate " in newest(text) and "learning" not in newest(text)
            )
    os.close(outer)
    assert "learning rate" in wide
    assert "learning rate" not in newest(narrow)
    assert " rate " in newest(narrow)
