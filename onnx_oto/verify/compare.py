"""Comparing the outputs of two models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnx_oto.errors import UnsupportedError
from onnx_oto.verify.inputs import candidates
from onnx_oto.verify.probes import probes, with_outputs
from onnx_oto.verify.runner import Arrays, Runner, runner
from onnx_oto.verify.upcast import alike

TOLERANCE = {np.dtype(np.float64): 1e-8, np.dtype(np.float32): 1e-4, np.dtype(np.float16): 2e-2}
"""Largest difference allowed, relative to an output's largest magnitude, by the output's data type.

Compact and full model sum the same terms in another order; nothing else differs.
"""
FLOOR = 1e-2
"""Outputs whose largest magnitude is below this are compared absolutely, as if it were this: the kernels of
Sigmoid and Softmax are exact to a few units in the last place of 1, not of their result."""


@dataclass(frozen=True)
class Verdict:
    """Whether two models agree. max_rel is relative to each output's largest magnitude, at least FLOOR.

    upcast: whether both were run with float32 in place of bfloat16, which the runtime has no kernels for.
    """

    passed: bool
    max_abs: float
    max_rel: float
    samples: int
    upcast: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the verdict under its public names."""
        return {
            "passed": self.passed,
            "max_abs": self.max_abs,
            "max_rel": self.max_rel,
            "samples": self.samples,
            **({"upcast": "bfloat16 as float32"} if self.upcast else {}),
        }


def compare(
    full: onnx.ModelProto,
    compact: onnx.ModelProto,
    *,
    seed: int = 0,
    batches: int = 2,
    inputs: Iterable[Mapping[str, npt.NDArray[Any]]] | None = None,
) -> Verdict:
    """Return how far the outputs of two models differ on random inputs, or on the given `inputs`.

    The tensors that an output is computed from by operators of one input are compared too where their shapes agree:
    behind a saturated Sigmoid or Softmax, outputs alone prove little. Raises UnsupportedError when the full model
    cannot be run on any input.
    """
    full, compact, upcast = alike(full, compact)
    names = probes(full, compact)
    left, right = runner(with_outputs(full, names)), runner(with_outputs(compact, names))
    count = len(full.graph.output)
    if inputs is None:
        feeds, first = _feeds(full, left, np.random.default_rng(seed), batches)
        return _verdict(left, right, feeds, first, count, upcast)
    return _verdict(left, right, list(inputs), None, count, upcast)


def _feeds(
    model: onnx.ModelProto, run: Runner, rng: np.random.Generator, batches: int
) -> tuple[list[Arrays], list[npt.NDArray[Any]]]:
    """Return random inputs that the model takes, and its outputs for the first of them."""
    trouble: Exception | None = None
    for feed in candidates(model, rng):
        try:
            outputs = run(feed)
        except Exception as error:  # the runtime raises many types for sizes that do not fit
            trouble = trouble or error
            continue
        more = [_again(feed, rng) for _ in range(batches - 1)]
        return [feed, *more], outputs
    line = str(trouble).strip().splitlines()[0] if trouble else "no inputs"
    raise UnsupportedError(
        f"the full model does not run on random inputs, so nothing can be verified: {line}"
    )


def _again(feed: Arrays, rng: np.random.Generator) -> Arrays:
    """Return other random values of the same shapes and types."""
    return {
        name: rng.standard_normal(value.shape).astype(value.dtype) if value.dtype.kind == "f" else value
        for name, value in feed.items()
    }


def _verdict(
    left: Runner,
    right: Runner,
    feeds: Sequence[Arrays],
    first: list[npt.NDArray[Any]] | None,
    count: int,
    upcast: bool,
) -> Verdict:
    allowed = TOLERANCE[np.dtype(np.float16)] if upcast else None
    passed, max_abs, max_rel, samples = True, 0.0, 0.0, 0
    for i, feed in enumerate(feeds):
        expected = first if i == 0 and first is not None else left(feed)
        for index, (a, b) in enumerate(zip(expected, right(feed), strict=True)):
            if index >= count and a.shape != b.shape:
                continue  # a probe of which channels were removed
            ok, absolute, relative = difference(a, b, allowed)
            passed = passed and ok
            if index < count:
                max_abs, max_rel = max(max_abs, absolute), max(max_rel, relative)
        samples += next((len(v) for v in feed.values() if v.ndim), 1)
    return Verdict(passed, max_abs, max_rel, samples, upcast)


def difference(
    a: npt.NDArray[Any], b: npt.NDArray[Any], tolerance: float | None = None
) -> tuple[bool, float, float]:
    """Return (within tolerance, largest absolute difference, the same relative to max |a|).

    tolerance: None: that of the data type. Not a number and infinities must stand at the same places.
    """
    if a.shape != b.shape or a.dtype != b.dtype:
        return False, float("inf"), float("inf")
    if a.dtype.kind not in "fc":
        same = bool(np.array_equal(a, b))
        wrong = 0.0 if same else float((a != b).sum())
        return same, wrong, wrong
    x, y = a.astype(np.float64), b.astype(np.float64)
    finite = np.isfinite(x)
    if not np.array_equal(finite, np.isfinite(y)) or not np.array_equal(
        x[~finite], y[~finite], equal_nan=True
    ):
        return False, float("inf"), float("inf")
    if not finite.any():
        return True, 0.0, 0.0
    absolute = float(np.abs(x[finite] - y[finite]).max())
    relative = absolute / max(float(np.abs(x[finite]).max()), FLOOR)
    allowed = TOLERANCE.get(a.dtype, 1e-4) if tolerance is None else tolerance
    return relative <= allowed, absolute, relative
