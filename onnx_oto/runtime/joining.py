"""The node by which a graph asks other threads that run one, and whether this environment has it.

`org.pytorch.aten::ATen`, an operator of ONNX Runtime's training build, calls a function by an address that anybody may
give it; here that is compiled code (`meeting`). Its inputs: MEMBER, constants (float64 [4]), and float32 vectors
[channels]; its outputs are such vectors. This module loads no compiler.
"""

from __future__ import annotations

DOMAIN = "org.pytorch.aten"
OPERATOR = "ATen"
MEMBER = "onnx_oto.member"
"""The input that tells where a thread belongs: int64 [2], see `Meeting.member`; zeros where it is alone."""
MOMENTS, SLOPES = "0", "1"
"""Functions, by their `overload_name`."""


def asks(content: bytes) -> bool:
    """Return whether a serialised graph may ask others."""
    return MEMBER.encode() in content
