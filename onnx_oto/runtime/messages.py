"""Values over a pipe between two processes of this package: pickles whose arrays travel beside them, not copied."""

from __future__ import annotations

import pickle
import struct
from typing import Any, BinaryIO

_COUNT = struct.Struct("<Q")
_PIECE = 1 << 20


def send(stream: BinaryIO, value: Any) -> None:
    """Write one value and flush."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    parts = [memoryview(head), *(buffer.raw() for buffer in buffers)]
    stream.write(_COUNT.pack(len(parts)) + b"".join(_COUNT.pack(part.nbytes) for part in parts))
    for part in parts:
        stream.write(part)
    stream.flush()


def receive(stream: BinaryIO) -> Any:
    """Return the next value. Raises EOFError when the other side is gone."""
    (count,) = _COUNT.unpack(_exactly(stream, _COUNT.size))
    sizes = [_COUNT.unpack(_exactly(stream, _COUNT.size))[0] for _ in range(count)]
    head, *buffers = [_exactly(stream, size) for size in sizes]
    return pickle.loads(head, buffers=buffers)


def _exactly(stream: BinaryIO, size: int) -> bytearray:
    data = bytearray(size)
    view, done = memoryview(data), 0
    while done < size:
        piece = stream.readinto(view[done : done + _PIECE])  # type: ignore[attr-defined]
        if not piece:
            raise EOFError
        done += piece
    return data
