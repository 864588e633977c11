"""The proof that a model whose batch axis was opened still computes the same, sample by sample."""

from __future__ import annotations

import numpy as np

from onnx_oto.errors import DataError, UnsupportedError
from onnx_oto.gradients.graph.batching import Feed
from onnx_oto.gradients.graph.open_batch import ADVICE
from onnx_oto.gradients.session.evaluator import Evaluator
from onnx_oto.gradients.session.native import Array

_TOLERANCE = 1e-4  # relative to the largest output: float32 sums in another order
_BATCHES = 3


def require_equal(opened: Evaluator, fixed: Evaluator) -> None:
    """Run `fixed` on a few batches of its own size and `opened` on all of them at once; both are in inference mode.

    Inputs are normal numbers, or 0 and 1 for integers. Raises UnsupportedError when the outputs differ.
    """
    rng = np.random.default_rng(0)
    size = fixed.fixed_size()
    whole = {feed.name: example(feed, size * _BATCHES, rng) for feed in opened.feeds}
    batched = {feed.name for feed in opened.feeds if feed.batched}
    parts = [
        {name: array[start : start + size] if name in batched else array for name, array in whole.items()}
        for start in range(0, size * _BATCHES, size)
    ]
    separate = zip(*(fixed.outputs(part) for part in parts), strict=True)
    try:
        together = opened.outputs(whole)
    except DataError as error:
        raise UnsupportedError(
            f"the model is fixed to a batch of {size} and does not run with more samples at once ({error}): {ADVICE}"
        ) from None
    for found, rows in zip(together, separate, strict=True):
        expected = np.concatenate(rows)
        scale = max(float(np.abs(expected).max(initial=0.0)), 1e-6)
        if found.shape != expected.shape or not np.allclose(
            found, expected, rtol=0.0, atol=_TOLERANCE * scale
        ):
            raise UnsupportedError(
                f"the model is fixed to a batch of {size} and computes something else with more samples at "
                f"once: {ADVICE}"
            )


def example(feed: Feed, size: int, rng: np.random.Generator) -> Array:
    """Return made-up samples of an input: normal numbers, or 0 and 1 for integers."""
    shape = (size, *feed.shape) if feed.batched else feed.shape
    if feed.dtype.kind == "f":
        return rng.standard_normal(shape).astype(feed.dtype)
    return rng.integers(0, 2, shape).astype(feed.dtype)
