"""`verify`: do two model files compute the same?"""

from __future__ import annotations

import os
from collections.abc import Sequence

from onnx_oto.errors import DataError
from onnx_oto.model import load
from onnx_oto.model.training_mode import leave_training
from onnx_oto.pipeline.feeding import inputs_of, parse_shapes, read_examples
from onnx_oto.runtime.comparing import Feeding, Verdict, compare
from onnx_oto.runtime.limits import Limits
from onnx_oto.runtime.worker import start_early

Path = str | os.PathLike[str]


def verify_files(
    full: Path,
    compact: Path,
    *,
    inputs: Path | None = None,
    input_shape: Sequence[str] = (),
    limit_memory: float | None = None,
    limit_time: float | None = None,
    seed: int = 0,
) -> Verdict:
    """Return the verdict on two model files, on random inputs or those of an npz file keyed by input name.

    Both are compared in inference form (see `leave_training`).

    input_shape: shapes of random inputs to begin with, as "NAME:d0,d1,...". limit_memory, limit_time: bytes and seconds
    that a run of a model may take. Raises DataError when the models differ in inputs or outputs, or the given inputs do
    not fit, and UnsupportedError when nothing can be proved.
    """
    start_early()
    left, right = load(full), load(compact)
    for each in (left, right):
        leave_training(each)
    ours, theirs = list(inputs_of(left)), list(inputs_of(right))
    if ours != theirs:
        raise DataError(f"'{compact}' has inputs {theirs}, '{full}' has {ours}: they cannot be compared")
    if len(left.graph.output) != len(right.graph.output):
        raise DataError(
            f"'{full}' has {len(left.graph.output)} outputs, '{compact}' has {len(right.graph.output)}: "
            "they cannot be compared"
        )
    examples = None if inputs is None else read_examples(inputs, left)
    feeding = Feeding(shapes=parse_shapes(input_shape), limits=Limits(limit_memory, limit_time))
    return compare(left, right, seed=seed, inputs=examples, feeding=feeding)
