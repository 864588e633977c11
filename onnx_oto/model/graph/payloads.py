"""Payloads of weights where they lie in the bytes of a file: what protobuf hands out is a copy each time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, TensorProto

from onnx_oto.model.graph.tensors import is_external, is_plain, plain_type

SMALLEST, LARGEST = 1 << 24, 1 << 30
"""Bytes of files that are kept: below, copies cost nothing; above, memory is worth more than time."""
_LARGE = 1 << 16
"""Bytes of payloads that are worth to be found."""
_GRAPH, _INITIALIZER, _RAW = 7, 5, 9
"""Numbers of fields: a model's graph, a graph's initializers, a tensor's raw payload."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

Bytes = npt.NDArray[np.uint8]


class Payloads:
    """The large raw payloads of the initializers of one loaded model, found by the message itself.

    Whoever changes the payload of such a message in place must `release` them first. A copy of the message has none.
    """

    def __init__(self) -> None:
        self._found: dict[int, tuple[TensorProto, Bytes]] = {}

    def keep(self, data: bytes, model: ModelProto) -> None:
        """Remember where the payloads of a model lie in `data`, which it was just read from; that stays in memory."""
        if not SMALLEST <= len(data) <= LARGEST:
            return
        places = _places(data)
        if places is None or len(places) != len(model.graph.initializer):
            return
        whole = np.frombuffer(data, np.uint8)
        for tensor, (start, end) in zip(model.graph.initializer, places, strict=True):
            if end - start >= _LARGE and is_plain(tensor) and not is_external(tensor):
                # The message is kept: its id is no other's.
                self._found[id(tensor)] = tensor, whole[start:end]

    def of(self, tensor: TensorProto) -> npt.NDArray[Any] | None:
        """Return an initializer as a read-only array that may lie at any address; None where it is not kept."""
        found = self._found.get(id(tensor))
        return None if found is None else found[1].view(plain_type(tensor)).reshape(tensor.dims)

    def release(self) -> None:
        """Keep nothing any more."""
        self._found.clear()


def _places(data: bytes) -> list[tuple[int, int]] | None:
    """Return where the raw payload of every initializer starts and ends in a serialised model; (0, 0) for none.

    None where that cannot be told: a field that is given twice is put together from its parts.
    """
    try:
        graphs = [(start, end) for number, start, end in _fields(data, 0, len(data)) if number == _GRAPH]
        if len(graphs) != 1:
            return None
        found = []
        for number, start, end in _fields(data, *graphs[0]):
            if number == _INITIALIZER:
                raw = [place for field, *place in _fields(data, start, end) if field == _RAW]
                if len(raw) > 1:
                    return None
                found.append((raw[0][0], raw[0][1]) if raw else (0, 0))
        return found
    except (IndexError, ValueError):
        return None


def _fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield (number, start, end) of every field of a message; raise ValueError for what is no message."""
    while at < end:
        key, at = _varint(data, at)
        kind = key & 7
        if kind == _BYTES:
            size, at = _varint(data, at)
        elif kind == _VARINT:
            size = _varint(data, at)[1] - at
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError("a group")
        if at + size > end:
            raise ValueError("a field that is longer than its message")
        yield key >> 3, at, at + size
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number that is written at a place, and the place behind it."""
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
