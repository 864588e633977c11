"""Arithmetic in the compact graph on sizes that the full graph computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_oto.lanes.repairs.cut import NewSize, Share

Step = tuple[str, npt.NDArray[Any]]
"""An operator with two inputs and its second one, a constant."""


def settled(value: NewSize, old: Any) -> NewSize:
    """Return what becomes of an element of which `old` is known: int, str (symbolic), or None.

    A share of a number is a number; 1, 0 and -1 are no sizes but say that an axis is broadcast, copied or inferred.
    """
    if not isinstance(value, Share) or not isinstance(old, int):
        return value
    return None if old in (1, 0, -1) else old * value.kept // value.total


def size_steps(values: Sequence[NewSize], kind: np.dtype[Any], *, scalar: bool = False) -> list[Step]:
    """Return the steps that make new sizes of old ones, element by element: old * kept / total + number.

    Multiplied first, so that nothing is rounded. scalar: there is one value, and the tensor has no axes.
    """

    def constant(of: Callable[[NewSize], int]) -> npt.NDArray[Any]:
        return np.array([of(value) for value in values], kind).reshape(() if scalar else len(values))

    steps = [
        ("Mul", constant(lambda v: v.kept if isinstance(v, Share) else int(v is None)), 1),
        ("Div", constant(lambda v: v.total if isinstance(v, Share) else 1), 1),
        ("Add", constant(lambda v: v if isinstance(v, int) else 0), 0),
    ]
    return [(op, values) for op, values, neutral in steps if (values != neutral).any()]
