"""A command that a launcher of MPI has started several times: its ranks do the work together, and one speaks."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO

from onnx_oto.cli.ending import Trouble, leave_at_once
from onnx_oto.cli.streams import PROGRESS
from onnx_oto.cli.text import shown
from onnx_oto.cli.verbs import VERBS
from onnx_oto.errors import OtoError, RuntimeMissingError, UsageError
from onnx_oto.peers.launcher import Launched, launched
from onnx_oto.signals import clean_up

if TYPE_CHECKING:
    from onnx_oto.peers.mpi import Ranks
    from onnx_oto.peers.seam import Peers
    from onnx_oto.training import Event

COLLECTIVE = ("DivergedError", "PeersError")
"""Troubles that come to all ranks, whatever each has to do before it says so."""


@dataclass
class Crew:
    """The ranks of this command, as far as there are any. ranks: None in a process that is alone."""

    ranks: Ranks | None = None

    @property
    def peers(self) -> Peers:
        """Who shares the work."""
        from onnx_oto.peers.seam import ALONE

        return ALONE if self.ranks is None else self.ranks

    @property
    def passed_on(self) -> tuple[signal.Signals, ...]:
        """Signals that ask a run to stop besides those that end any process: Open MPI passes these on to all ranks."""
        return tuple(each for each in signal.Signals if self.ranks is not None and each.name == "SIGUSR1")

    def advise(self, run: Path) -> None:
        """Say from now on, where a rank is lost, how the run goes on."""
        if self.ranks is not None:
            self.ranks.lifeline.advice = f": go on with `{shlex.join(['onnx-oto', 'resume', str(run)])}`"

    def done(self) -> None:
        """Wait until all have done their part, after a result."""
        if self.ranks is not None:
            self.ranks.lifeline.leave()

    def fail(self, trouble: Trouble, *, as_json: bool) -> None:
        """Say what is wrong, once for all ranks, and end them. Returns only in a process that is alone."""
        if self.ranks is None:
            return
        lifeline = self.ranks.lifeline
        if self.ranks.rank:
            if trouble.kind in COLLECTIVE:
                lifeline.leave()
            lifeline.fail(_line(trouble), trouble.code)
        elif lifeline.voice.take():
            trouble.report(as_json=as_json)
            lifeline.fail("", trouble.code)
        else:
            lifeline.wait()
        leave_at_once(trouble.code)


class Advice:
    """An observer that tells a crew how its run goes on, once it has begun."""

    def __init__(self, crew: Crew, run: Path) -> None:
        self._crew, self._run = crew, run

    def notice(self, event: Event) -> None:
        """See `Observer.notice`."""
        self._crew.advise(self._run)


CREW = Crew()
"""That of this process."""


def join(arguments: list[str]) -> Trouble | None:
    """Join the ranks that a launcher has started beside this process, where there are any; else say why not."""
    here = launched()
    entry = VERBS.get(arguments[0]) if arguments else None
    if here is None or entry is None or {"-h", "--help"} & set(arguments):
        return None
    spoken = sys.stderr
    if here.rank:
        _be_silent()
    if not entry.shared:
        return _told_once(
            here,
            spoken,
            UsageError(
                f"'{arguments[0]}' is work for one process, and a launcher has started {here.size}: start it without"
            ),
        )
    try:
        from onnx_oto.peers.lifeline import Voice
        from onnx_oto.peers.mpi import Ranks

        CREW.ranks = Ranks(Voice(partial(_say, spoken), _end), here.size)
    except RuntimeMissingError as error:
        return _told_once(here, spoken, error)
    return None


def _told_once(here: Launched, spoken: TextIO, error: OtoError) -> Trouble:
    """Return a trouble that each machine has for itself. Its first rank says so, where that is not rank 0."""
    trouble = Trouble(error.exit_code, type(error).__name__, str(error))
    if here.rank and not here.local:
        _say(spoken, f"{_line(trouble)} (rank {here.rank})")
    return trouble


def _line(trouble: Trouble) -> str:
    return " ".join(f"error: {trouble.message}".split()) if trouble.code < 128 else trouble.message


def _be_silent() -> None:
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for as long as the process lives
    sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def _say(spoken: TextIO, line: str) -> None:
    if sys.stderr is spoken:
        PROGRESS.write(f"{shown(line)}\n")
        PROGRESS.flush()
        return
    spoken.write(f"{shown(line)}\n")
    spoken.flush()


def _end(code: int) -> NoReturn:
    clean_up()
    leave_at_once(code)
