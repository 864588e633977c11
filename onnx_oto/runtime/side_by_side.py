"""A model that runs in this process on parts of a batch, each on one thread: as training does, and in turn with it."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnx_oto.errors import UnsupportedError
from onnx_oto.model.files.loading import runnable_bytes
from onnx_oto.runtime.gradient_jobs import open_light
from onnx_oto.runtime.runner import first_line, forms, wrong_optimizers

Array = npt.NDArray[Any]


class SideBySide:
    """A model with an open or a fixed batch. Whoever opens it here has run it elsewhere before: it may crash.

    The threads sleep between runs and spin for nothing. What comes out depends on the samples and on `parts` alone.
    Raises UnsupportedError when the runtime refuses the model.
    """

    def __init__(self, model: onnx.ModelProto, parts: int, fixed: int | None = None) -> None:
        if wrong_optimizers(model):
            raise UnsupportedError("the runtime has to leave optimizers out")
        self._session = _opened(model)
        self._parts, self._fixed = parts, fixed
        self._pool = ThreadPoolExecutor(parts, thread_name_prefix="onnx-oto-teacher")

    def __call__(self, inputs: Mapping[str, Array]) -> list[Array]:
        """Return the outputs in graph order, samples first. Raises UnsupportedError in the runtime's words."""
        count = len(next(iter(inputs.values())))
        found = list(self._pool.map(lambda rows: self._run(inputs, rows), self._rows(count)))
        return [np.concatenate(part)[:count] for part in zip(*found, strict=True)]

    def _rows(self, count: int) -> list[npt.NDArray[np.int64]]:
        """Return which samples run together: equal parts, or as many as the model is fixed to, the last repeated."""
        if self._fixed is None:
            return [rows for rows in np.array_split(np.arange(count), self._parts) if rows.size]
        padded = np.minimum(np.arange(-(-count // self._fixed) * self._fixed), count - 1)
        return list(padded.reshape(-1, self._fixed))

    def _run(self, inputs: Mapping[str, Array], rows: npt.NDArray[np.int64]) -> list[Array]:
        try:
            return [
                np.asarray(value)
                for value in self._session.run(None, {name: array[rows] for name, array in inputs.items()})
            ]
        except Exception as error:  # onnxruntime raises many types
            raise UnsupportedError(f"the teacher does not run: {first_line(error)}") from error


def _opened(model: onnx.ModelProto) -> Any:
    first: Exception | None = None
    for form in forms(model):
        try:
            return open_light(runnable_bytes(form, for_people=False))
        except Exception as error:  # onnxruntime raises many types for what it cannot load
            first = first or error
    raise UnsupportedError(first_line(first))
