"""How standard operators are written in each opset: many a setting was an attribute once and is an input now.

The schemas of onnx say which. So whoever writes a node names its settings (axes, pads, starts, split, ...) and gets
the form of the model's opset:

>>> form("Unsqueeze", 11, {"axes": [1]})
Form(attributes={'axes': [1]}, inputs={})
>>> form("Unsqueeze", 13, {"axes": [1]})
Form(attributes={}, inputs={1: array([1])})
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

RENAMED = {("Pad", "constant_value"): "value", ("TopK", "K"): "k"}
"""Inputs that had another name when they were attributes; it is the setting's name."""


@dataclass(frozen=True)
class Form:
    """The attributes of a node, and constants by input position (int64 where none of another type was given)."""

    attributes: dict[str, Any]
    inputs: dict[int, npt.NDArray[Any]]


@cache
def _schema(op: str, opset: int) -> tuple[frozenset[str], Mapping[str, int]]:
    """Return the attributes of a standard operator, and the input positions by name."""
    schema = onnx.defs.get_schema(op, opset, "")
    names = {RENAMED.get((op, item.name), item.name): i for i, item in enumerate(schema.inputs)}
    return frozenset(schema.attributes), names


def position(op: str, setting: str, opset: int) -> int | None:
    """Return which input of a standard operator is the setting, None where it is an attribute.

    Raises ValueError when the operator has no such setting in this opset.
    """
    attributes, inputs = _schema(op, opset)
    if setting in attributes:
        return None
    if setting not in inputs:
        raise ValueError(f"{op} has no '{setting}' in opset {opset}")
    return inputs[setting]


def form(op: str, opset: int, settings: Mapping[str, Any]) -> Form:
    """Return how a standard operator with these settings is written in an opset.

    Raises ValueError when the operator has no such setting in this opset.
    """
    result = Form({}, {})
    for name, value in settings.items():
        at = position(op, name, opset)
        if at is None:
            result.attributes[name] = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
        elif isinstance(value, np.ndarray | np.generic):
            result.inputs[at] = np.asarray(value)
        else:
            result.inputs[at] = np.array(value, np.int64)
    return result
