"""Random inputs that fit a model's declared inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnx_oto.errors import UnsupportedError

SIZES = (None, 16, 32, 64, 224, 128, 256, 8, 4, 1)
"""What unknown sizes other than the batch are tried as, in this order (None: by the input's rank)."""


def random_inputs(
    model: onnx.ModelProto, rng: np.random.Generator, batch: int = 2, size: int | None = None
) -> dict[str, npt.NDArray[Any]]:
    """Return one array per graph input: normal floats, integers 0 or 1, random booleans.

    Unknown first sizes become `batch`, other unknown ones `size` (equal symbols the same). size None: 224 for
    images (rank 4 and up), else 16.
    """
    initializers = {t.name for t in model.graph.initializer}
    bound: dict[str, int] = {}
    result = {}
    for value in model.graph.input:
        if value.name in initializers:
            continue
        kind = value.type.tensor_type
        if not value.type.HasField("tensor_type"):
            raise UnsupportedError(f"input '{value.name}' is no tensor: random inputs cannot be made for it")
        dims = kind.shape.dim
        shape = []
        for i, dim in enumerate(dims):
            if dim.dim_value > 0:
                shape.append(dim.dim_value)
                continue
            guess = batch if i == 0 else size or (224 if len(dims) >= 4 else 16)
            shape.append(bound.setdefault(dim.dim_param, guess) if dim.dim_param else guess)
        result[value.name] = _values(kind.elem_type, shape, rng)
    return result


def _values(elem_type: int, shape: list[int], rng: np.random.Generator) -> npt.NDArray[Any]:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(elem_type)
    if dtype.kind == "b":
        return np.asarray(rng.random(shape) < 0.5)
    if dtype.kind in "iu":
        return np.asarray(rng.integers(0, 2, shape), dtype)
    if dtype.kind == "O":
        raise UnsupportedError("the model takes strings: random inputs cannot be made for it")
    return np.asarray(rng.standard_normal(shape), dtype)


def candidates(
    model: onnx.ModelProto, rng: np.random.Generator, batch: int = 2
) -> Iterator[Mapping[str, npt.NDArray[Any]]]:
    """Yield random inputs with other guesses for unknown sizes each time."""
    for size in SIZES:
        for count in dict.fromkeys((batch, 1)):
            yield random_inputs(model, rng, count, size)
