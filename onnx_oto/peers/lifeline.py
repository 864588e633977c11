"""Who ends, and why: every rank is connected to rank 0, which tells all.

A process that is killed closes its connections at once, on every machine, whatever the launcher does and whatever
native code the others are in. One line is said for all of them: by rank 0, or by rank 1 where rank 0 is what was lost.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import secrets
import selectors
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import psutil

LOST = 7
"""The exit code of ranks that others have left: that of errors of the environment."""
GRACE = 0.5
"""Seconds that rank 0 waits for a trouble of its own before it tells that of another: most come to all."""
PATIENCE = 3.0
"""Seconds that a rank in trouble waits for rank 0 to say so."""
_CONNECT = 5.0
_TOKEN = 16


@dataclass(frozen=True)
class Meeting:
    """Where rank 0 waits for the others: its addresses, the likeliest first, and what they show."""

    addresses: tuple[str, ...]
    port: int
    token: bytes


class Voice:
    """Says one line for all ranks and ends this process. Whoever takes it first speaks, everybody else is silent."""

    def __init__(self, say: Callable[[str], object], end: Callable[[int], NoReturn]) -> None:
        self.say, self.end = say, end
        self._lock = threading.Lock()
        self._taken = False

    def take(self) -> bool:
        """Return whether nothing was said before."""
        with self._lock:
            taken, self._taken = self._taken, True
            return not taken


class Lifeline:
    """The connections of one rank, and the thread that listens to them.

    connected: by rank; only rank 0 has several. names: of all ranks, for people. advice: what is said behind the loss
    of a rank.
    """

    def __init__(
        self, rank: int, connected: Mapping[int, socket.socket], names: Sequence[str], voice: Voice
    ) -> None:
        self.advice = ""
        self.voice = voice
        self._rank, self._names = rank, names
        self._connected = dict(connected)
        self._is_over = threading.Event()
        self._lock = threading.Lock()
        self._selector = selectors.DefaultSelector()
        for other, end in self._connected.items():
            end.setblocking(True)
            self._selector.register(end, selectors.EVENT_READ, (other, bytearray()))
        threading.Thread(target=self._listen, name="onnx-oto-lifeline", daemon=True).start()

    def fail(self, line: str, code: int) -> None:
        """Tell the others that this rank ends in trouble; rank 0 speaks, where it can be told. The caller ends it then.

        line: "" where there is nothing to say.
        """
        if self._rank == 0:
            self._tell({"end": code})
            return
        if not self._connected:
            self.voice.say(line)
            return
        self._tell({"trouble": code, "line": line})
        time.sleep(PATIENCE)  # until rank 0 has said it and ends all

    def leave(self) -> None:
        """Wait for rank 0, which is done last and lets all go."""
        if self._rank and self._connected:
            self._is_over.wait()
        elif not self._rank:
            self._is_over.set()
            self._tell({"done": True})

    def wait(self) -> None:
        """Wait for the thread that speaks to end this process."""
        time.sleep(GRACE + PATIENCE)

    def _tell(self, message: Mapping[str, Any]) -> None:
        content = json.dumps(message).encode() + b"\n"
        with self._lock:
            for end in self._connected.values():
                with contextlib.suppress(OSError):
                    end.sendall(content)

    def _listen(self) -> None:
        while self._selector.get_map():
            for key, _ in self._selector.select():
                other, held = key.data
                end = key.fileobj
                assert isinstance(end, socket.socket)
                try:
                    content = end.recv(1 << 16)
                except OSError:
                    content = b""
                if not content:
                    self._selector.unregister(end)
                    self._lost(other)
                    continue
                held += content
                while b"\n" in held:
                    line, _, rest = bytes(held).partition(b"\n")
                    held[:] = rest
                    self._heard(other, json.loads(line))

    def _heard(self, other: int, message: Mapping[str, Any]) -> None:
        if "done" in message:
            self._is_over.set()
        elif "end" in message:
            self.voice.end(int(message["end"]))
        else:
            time.sleep(GRACE)
            code, line = int(message["trouble"]), str(message["line"])
            self._end(f"{line} (rank {other}, {self._names[other]})" if line else "", code)

    def _lost(self, other: int) -> None:
        """End, if a rank has gone before all were let go."""
        if self._is_over.is_set():
            return
        line = f"error: rank {other} ({self._names[other]}) was lost, and the others have ended with it"
        self._end((line + self.advice) if self._rank == 0 or self._rank == 1 else "", LOST)

    def _end(self, line: str, code: int) -> NoReturn:
        if not self.voice.take():
            time.sleep(PATIENCE)  # whoever speaks ends the process
            self.voice.end(code)
        if self._rank == 0:
            self._tell({"end": code})
        if line:
            self.voice.say(line)
        self.voice.end(code)


def open_meeting(alone: bool) -> tuple[socket.socket, Meeting]:
    """Return where rank 0 listens, and what the others are told. alone: all are on this machine."""
    listening = socket.create_server(("127.0.0.1" if alone else "", 0), backlog=512)
    listening.settimeout(_CONNECT)
    addresses = ("127.0.0.1",) if alone else _addresses()
    return listening, Meeting(addresses, listening.getsockname()[1], secrets.token_bytes(_TOKEN))


def accept(listening: socket.socket, meeting: Meeting, others: int) -> dict[int, socket.socket]:
    """Return the connections by rank, as many as came in time; strangers are turned away."""
    found: dict[int, socket.socket] = {}
    until = time.monotonic() + _CONNECT
    while len(found) < others and time.monotonic() < until:
        try:
            end, _ = listening.accept()
        except OSError:
            break
        end.settimeout(_CONNECT)
        with contextlib.suppress(OSError):
            shown = _exactly(end, _TOKEN + 4)
            if hmac.compare_digest(shown[:_TOKEN], meeting.token):
                found[int.from_bytes(shown[_TOKEN:], "big")] = _kept_alive(end)
                continue
        end.close()
    listening.close()
    return found


def connect(meeting: Meeting, rank: int) -> dict[int, socket.socket]:
    """Return the connection to rank 0; none where no address of it can be reached."""
    for address in meeting.addresses:
        try:
            end = socket.create_connection((address, meeting.port), timeout=_CONNECT / 2)
            end.sendall(meeting.token + rank.to_bytes(4, "big"))
        except OSError:
            continue
        return {0: _kept_alive(end)}
    return {}


def _kept_alive(end: socket.socket) -> socket.socket:
    """Return a connection that notices within a minute that the other machine is gone."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4)):
        if (option := getattr(socket, name, None)) is not None:
            end.setsockopt(socket.IPPROTO_TCP, option, value)
    return end


def _exactly(end: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        more = end.recv(count - len(found))
        if not more:
            raise OSError("closed")
        found += more
    return found


def _addresses() -> tuple[str, ...]:
    """Return the addresses of this machine that others may reach it by."""
    found = {
        each.address
        for addresses in psutil.net_if_addrs().values()
        for each in addresses
        if each.family == socket.AF_INET and not each.address.startswith("127.")
    }
    return (socket.gethostname(), *sorted(found))
