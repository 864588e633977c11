"""Who ends, and why: what each rank does and says when another one fails or is lost."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Iterator
from typing import NoReturn

import pytest

from onnx_oto.peers import lifeline
from onnx_oto.peers.lifeline import LOST, Lifeline, Meeting, Voice, accept, connect, open_meeting

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
NAMES = ("process 1 on a", "process 2 on a", "process 3 on b")


class Person:
    """A rank whose end is noted. said: its lines; ended: the codes that it ended with."""

    def __init__(self, rank: int, connected: dict[int, socket.socket]) -> None:
        self.said: list[str] = []
        self.ended: queue.Queue[int] = queue.Queue()
        self.connected = connected
        self.line = Lifeline(rank, connected, NAMES, Voice(self.said.append, self._end))

    def _end(self, code: int) -> NoReturn:
        self.ended.put(code)
        raise SystemExit  # of the thread

    def dies(self) -> None:
        """Be killed."""
        for end in self.connected.values():
            end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def crew(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Person]]:
    """Three ranks that are connected."""
    monkeypatch.setattr(lifeline, "GRACE", 0.02)
    monkeypatch.setattr(lifeline, "PATIENCE", 0.2)
    pairs = {rank: socket.socketpair() for rank in (1, 2)}
    people = [Person(0, {rank: near for rank, (near, _) in pairs.items()})]
    people += [Person(rank, {0: far}) for rank, (_, far) in pairs.items()]
    yield people
    for near, far in pairs.values():
        near.close()
        far.close()


def test_a_lost_rank_ends_the_others_with_one_line(crew: list[Person]) -> None:
    crew[0].line.advice = ": go on"
    crew[2].dies()
    assert [crew[rank].ended.get(timeout=5) for rank in (0, 1)] == [LOST, LOST]
    assert crew[0].said == [
        "error: rank 2 (process 3 on b) was lost, and the others have ended with it: go on"
    ]
    assert crew[1].said == []


def test_rank_1_speaks_where_rank_0_was_lost(crew: list[Person]) -> None:
    crew[0].dies()
    assert [crew[rank].ended.get(timeout=5) for rank in (1, 2)] == [LOST, LOST]
    assert crew[1].said == ["error: rank 0 (process 1 on a) was lost, and the others have ended with it"]
    assert crew[2].said == []


def test_the_trouble_of_one_rank_is_said_by_rank_0(crew: list[Person]) -> None:
    crew[1].line.fail("error: no such file", 8)
    assert [person.ended.get(timeout=5) for person in crew] == [8, 8, 8]
    assert crew[0].said == ["error: no such file (rank 1, process 2 on a)"]
    assert crew[1].said == crew[2].said == []


def test_a_trouble_of_all_is_said_once(crew: list[Person]) -> None:
    assert crew[0].line.voice.take()  # rank 0 is saying it
    crew[1].line.fail("error: the same", 2)
    crew[0].line.fail("", 2)
    assert crew[2].ended.get(timeout=5) == 2
    assert [person.said for person in crew] == [[], [], []]


def test_who_is_done_may_go(crew: list[Person]) -> None:
    left = threading.Thread(target=crew[1].line.leave)
    left.start()
    time.sleep(0.1)
    assert left.is_alive()  # it waits for rank 0
    crew[0].line.leave()
    left.join(5)
    assert not left.is_alive()
    crew[1].dies()
    time.sleep(0.1)
    assert all(person.ended.empty() for person in crew)


def test_strangers_are_turned_away() -> None:
    listening, meeting = open_meeting(alone=True)
    stranger = Meeting(meeting.addresses, meeting.port, bytes(16))
    assert connect(stranger, 1)
    ends = connect(meeting, 2)
    found = accept(listening, meeting, 1)
    assert set(found) == {2}
    for end in (*found.values(), *ends.values()):
        end.close()


def test_whoever_cannot_be_reached_is_left_to_the_launcher() -> None:
    listening, meeting = open_meeting(alone=True)
    listening.close()
    assert connect(meeting, 1) == {}
    lonely = Person(1, {})
    lonely.line.leave()  # nobody to wait for
    lonely.line.fail("error: no such file", 8)
    assert lonely.said == ["error: no such file"]
