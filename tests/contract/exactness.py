"""The contract itself: zero the dropped ZIGs, compact, run both, compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import ModelProto

from onnx_oto.model import normalise
from onnx_oto.model.view import graph
from onnx_oto.runtime.comparing import random_inputs
from onnx_oto.runtime.runner import runner
from onnx_oto.surgery import compact
from onnx_oto.surgery.knife import Knife
from onnx_oto.zigs import Analysis, AnalysisOptions, Dimension, analyse, choose, score, zero_dropped
from onnx_oto.zigs.choose import Scope

Arrays = dict[str, Any]

TOLERANCE = {np.dtype(np.float16): 1e-2, np.dtype(np.float32): 2e-5, np.dtype(np.float64): 1e-10}
"""Largest difference relative to an output's largest magnitude (at least 1e-2): another order of summing, no more."""


@dataclass(frozen=True)
class KeepSet:
    """How lanes are picked at random."""

    seed: int
    sparsity: float
    scope: Scope = "dimension"
    round_to: int = 1


KEEP_SETS = (KeepSet(0, 0.5), KeepSet(1, 0.3, "global"), KeepSet(2, 0.85))


def check(
    model: ModelProto,
    *,
    keep_sets: Sequence[KeepSet] = KEEP_SETS,
    size: int | None = 8,
    must_matter: bool = True,
    head_dims: bool = False,
) -> Analysis:
    """Return the analysis of `model` after asserting the contract for every keep set.

    size: what unknown input sizes other than the batch are run with. must_matter: if lanes are dropped, zeroing
    them must change the outputs for one keep set at least, or the comparison proves nothing.
    """
    analysis = analyse(normalise(model), AnalysisOptions(head_dims=head_dims))
    feed = random_inputs(model, np.random.default_rng(7), batch=2, size=size)
    original = outputs(model, feed)
    assert_equal(original, outputs(analysis.model, feed), "normalise")
    changed, removed = False, False
    for keep_set in keep_sets:
        choice = choose(
            analysis,
            score(analysis, "random", keep_set.seed),
            keep_set.sparsity,
            scope=keep_set.scope,
            round_to=keep_set.round_to,
        )
        removed = removed or bool(choice.drop.any())
        changed = check_drop(analysis, choice.drop, feed, original, str(keep_set)) or changed
    assert changed or not removed or not must_matter, (
        "zeroing changes nothing, so the comparison proves nothing"
    )
    return analysis


def check_drop(
    analysis: Analysis, drop: np.ndarray, feed: Arrays, original: list[np.ndarray], what: str
) -> bool:
    """Return whether zeroing the lanes `drop` changes the outputs, after asserting the contract for them.

    original: outputs of the full model before zeroing. When something is dropped, parameters must be fewer.
    """
    full, small = zero_dropped(analysis, drop), compact(analysis, drop)
    expected = outputs(full, feed)
    assert_equal(expected, outputs(small, feed), what)
    assert_same_frame(analysis.model, small)
    assert_as_labelled(analysis, drop, small, what)
    onnx.checker.check_model(small, full_check=True)
    if drop.any():
        assert parameters(small) < parameters(full), f"{what}: nothing was cut"
        assert all(np.isfinite(y).all() for y in expected if y.dtype.kind == "f"), f"{what}: not finite"
    return any(not np.array_equal(a, b) for a, b in zip(original, expected, strict=True))


def outputs(model: ModelProto, feed: Arrays) -> list[np.ndarray]:
    """Return the outputs of `model`, by onnxruntime on one thread."""
    return runner(model, threads=1)(feed)


def assert_equal(expected: list[np.ndarray], got: list[np.ndarray], what: str) -> None:
    """Assert equality within the rounding of sums in another order; integers and booleans exactly."""
    assert len(expected) == len(got)
    for i, (a, b) in enumerate(zip(expected, got, strict=True)):
        assert (a.shape, a.dtype) == (b.shape, b.dtype), f"{what}: output {i}"
        if a.dtype.kind != "f":
            np.testing.assert_array_equal(a, b, f"{what}: output {i}")
            continue
        x, y = a.astype(np.float64), b.astype(np.float64)
        scale = max(float(np.abs(x[np.isfinite(x)]).max(initial=0.0)), 1e-2)
        np.testing.assert_allclose(
            y, x, rtol=0, atol=TOLERANCE[a.dtype] * scale, err_msg=f"{what}: output {i}"
        )


def assert_as_labelled(analysis: Analysis, drop: np.ndarray, small: ModelProto, what: str) -> None:
    """Assert that every tensor of the compact model has the shape that its labels say: none shrinks unnoticed."""
    knife = Knife(gs.Graph(), analysis.trace, analysis.lanes.of_label, drop, {})
    shapes = graph(small).shapes
    for name, layout in analysis.trace.layouts.items():
        shape = shapes.get(name)
        if layout is None or shape is None or name in analysis.trace.grouped:  # its labels stand apart
            continue
        expected = [knife.size(layout, axis) for axis in range(layout.rank)]
        assert len(expected) == len(shape), f"{what}: rank of '{name}'"
        differ = [
            (a, b)
            for a, b in zip(expected, shape, strict=True)
            if isinstance(a, int) and isinstance(b, int) and a != b
        ]
        assert not differ, f"{what}: '{name}' is {list(shape)}, its labels say {expected}"


def assert_same_frame(full: ModelProto, small: ModelProto) -> None:
    """Assert that what the user put in is still there: inputs, outputs, opsets, metadata."""
    assert list(small.graph.input) == list(full.graph.input)
    assert list(small.graph.output) == list(full.graph.output)
    assert list(small.opset_import) == list(full.opset_import)
    assert list(small.metadata_props) == list(full.metadata_props)
    assert (small.doc_string, small.graph.doc_string) == (full.doc_string, full.graph.doc_string)
    assert small.graph.name == full.graph.name


def parameters(model: ModelProto) -> int:
    """Return the number of elements of all float initializers."""
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
    return sum(int(np.prod(t.dims)) for t in model.graph.initializer if t.data_type in floats)


def dimensions_of(analysis: Analysis, param: str, axis: int = 0) -> list[Dimension]:
    """Return the dimensions that carry lanes of one axis of a parameter."""
    found = [d for d in analysis.dimensions if any((u.param, u.axis) == (param, axis) for u in d.uses)]
    assert found, f"no dimension uses axis {axis} of '{param}'"
    return found


def assert_prunable(
    analysis: Analysis, param: str, axis: int = 0, *, size: int | None = None, rest: str = ""
) -> None:
    """Assert that the lanes of one axis of a parameter can be removed.

    size: how many those are. rest: part of the reason why the others are frozen ("": there are no others).
    """
    dims = dimensions_of(analysis, param, axis)
    frozen = [d.reason for d in dims if not d.prunable]
    assert all(rest and rest in reason for reason in frozen), f"frozen: {frozen}"
    assert len(frozen) < len(dims)
    if size is not None:
        assert sum(d.size for d in dims if d.prunable) == size


def assert_frozen(analysis: Analysis, param: str, reason: str, axis: int = 0) -> None:
    """Assert that every lane of one axis of a parameter stays, for a reason that contains `reason`."""
    for dimension in dimensions_of(analysis, param, axis):
        assert not dimension.prunable, f"'{param}' is prunable, expected frozen: {reason}"
        assert reason in dimension.reason
