"""The node by which a graph calls functions of ours, to ask other threads that run one or to compute by itself.

`org.pytorch.aten::ATen`, an operator of ONNX Runtime's training build, calls a function by an address that anybody may
give it; here that is compiled code (`door`). Where it asks, its inputs are MEMBER, constants (float64 [4]), and float32
vectors [channels]; its outputs are such vectors. Where it computes: ROOM, settings (int64 [SETTINGS]), and what
`runtime/stacked.py` says of each function. This module loads no compiler.
"""

from __future__ import annotations

DOMAIN = "org.pytorch.aten"
OPERATOR = "ATen"
MEMBER = "onnx_oto.member"
"""The input that tells where a thread belongs: int64 [2], see `Meeting.member`; zeros where it is alone."""
ROOM = "onnx_oto.room"
"""The input that tells where tensors are made: int64 [ROOM_WORDS], see `rooms`; zeros where nothing is kept."""
ROOM_WORDS, SETTINGS = 2056, 24
WANTED = "onnx_oto.wanted."
"""Before the name of a parameter: the input that is where its gradient is to be written."""
TURN = "onnx_oto.turn"
"""The input that tells whose gradients come before a thread's: int64 [2], see `adding`; zeros where it is alone."""
MOMENTS, SLOPES, CONVOLVE, WEIGHTS, POOL, UNPOOL, NORMALISE, DENORMALISE, ADD, DIVIDED, DIVIDED_BACK = (
    "0123456789:"
)
"""Functions, by their `overload_name`."""


def asks(content: bytes) -> bool:
    """Return whether a serialised graph may call functions of ours."""
    return MEMBER.encode() in content or ROOM.encode() in content
