"""`verify`: do two model files compute the same?"""

from __future__ import annotations

import os

from onnx_oto.errors import DataError
from onnx_oto.model import load
from onnx_oto.model.normal.training_mode import leave_training
from onnx_oto.pipeline.feeding import inputs_of, parse_shapes, read_examples
from onnx_oto.pipeline.options import VerifyOptions
from onnx_oto.pipeline.pairing import require_same_inputs
from onnx_oto.runtime.comparing import Feeding, Verdict, compare
from onnx_oto.runtime.worker import start_early

Path = str | os.PathLike[str]


def verify_files(full: Path, compact: Path, options: VerifyOptions | None = None) -> Verdict:
    """Return the verdict on two model files, on random inputs or those of an npz file keyed by input name.

    Both are compared in inference form (see `leave_training`). Raises DataError when the models differ in inputs or
    outputs, or the given inputs do not fit, and UnsupportedError when nothing can be proved.
    """
    options = options or VerifyOptions()
    start_early()
    left, right = load(full), load(compact)
    for each in (left, right):
        leave_training(each)
    ours, theirs = list(inputs_of(left)), list(inputs_of(right))
    if ours != theirs:
        raise DataError(f"'{compact}' has inputs {theirs}, '{full}' has {ours}: they cannot be compared")
    require_same_inputs([(str(full), left), (str(compact), right)])
    if len(left.graph.output) != len(right.graph.output):
        raise DataError(
            f"'{full}' has {len(left.graph.output)} outputs, '{compact}' has {len(right.graph.output)}: "
            "they cannot be compared"
        )
    examples = None if options.inputs is None else read_examples(options.inputs, left)
    feeding = Feeding(shapes=parse_shapes(options.input_shape), limits=options.limits)
    return compare(left, right, seed=options.seed, inputs=examples, feeding=feeding)
