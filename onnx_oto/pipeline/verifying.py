"""`verify`: do two model files compute the same?"""

from __future__ import annotations

import os
from collections.abc import Sequence

from onnx_oto.errors import DataError
from onnx_oto.model import load
from onnx_oto.pipeline.feeding import inputs_of, parse_shapes, read_examples
from onnx_oto.verify import Feeding, Verdict, compare

Path = str | os.PathLike[str]


def verify_files(
    full: Path,
    compact: Path,
    *,
    inputs: Path | None = None,
    input_shape: Sequence[str] = (),
    seed: int = 0,
) -> Verdict:
    """Return the verdict on two model files, on random inputs or those of an npz file keyed by input name.

    input_shape: shapes of random inputs to begin with, as "NAME:d0,d1,...". Raises DataError when the models differ
    in inputs or outputs, or the given inputs do not fit, and UnsupportedError when nothing can be proved.
    """
    left, right = load(full), load(compact)
    ours, theirs = list(inputs_of(left)), list(inputs_of(right))
    if ours != theirs:
        raise DataError(f"'{compact}' has inputs {theirs}, '{full}' has {ours}: they cannot be compared")
    if len(left.graph.output) != len(right.graph.output):
        raise DataError(
            f"'{full}' has {len(left.graph.output)} outputs, '{compact}' has {len(right.graph.output)}: "
            "they cannot be compared"
        )
    if inputs is not None:
        return compare(left, right, seed=seed, inputs=read_examples(inputs, left))
    return compare(left, right, seed=seed, feeding=Feeding(shapes=parse_shapes(input_shape)))
