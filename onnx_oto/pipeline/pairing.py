"""Whether models can be fed the same: what `verify`, `bench` and `report` ask of models they put beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from onnx_oto.errors import DataError
from onnx_oto.pipeline.feeding import inputs_of


def require_same_inputs(models: Sequence[tuple[str, onnx.ModelProto]]) -> None:
    """Raise DataError for a model that cannot be fed what the first one is. models: with what messages call them."""
    (first, model), *others = models
    known = inputs_of(model)
    for name, other in others:
        theirs = inputs_of(other)
        for key, value in theirs.items():
            ours = known.get(key)
            if ours is None:
                raise DataError(f"'{name}' reads {key!r}, and '{first}' has no such input: {_NEEDED}")
            one, two = ours.type.tensor_type, value.type.tensor_type
            if not _fits(one, two):
                raise DataError(
                    f"'{name}' reads {key!r} as {_told(two)}, and '{first}' as {_told(one)}: {_NEEDED}"
                )


_NEEDED = "models that are compared read the same inputs"


def _fits(one: Any, other: Any) -> bool:
    """Return whether some tensor is of both types: sizes that are open, and a rank that is, fit all."""
    if one.elem_type != other.elem_type:
        return False
    if not (one.HasField("shape") and other.HasField("shape")):
        return True
    pairs = list(zip(one.shape.dim, other.shape.dim, strict=False))
    same_rank = len(one.shape.dim) == len(other.shape.dim)
    return same_rank and all(a.dim_value in (0, b.dim_value) or b.dim_value == 0 for a, b in pairs)


def _told(kind: Any) -> str:
    dims = ", ".join(str(dim.dim_value or "?") for dim in kind.shape.dim)
    return f"{np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))} [{dims}]"
