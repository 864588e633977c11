"""Feeds of a model at given sizes, for whoever only wants to run it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import onnx

from onnx_oto.model import Graph
from onnx_oto.runtime.comparing.compare import SHARE_OF_INPUTS, Feeding, pinned_sizes
from onnx_oto.runtime.comparing.inputs import Array, Sizes, open_axes, slots
from onnx_oto.runtime.comparing.known import known_of
from onnx_oto.runtime.comparing.ranges import Drawn, counting, ranges
from onnx_oto.runtime.limits import allowance


def feeds_at(
    model: onnx.ModelProto, view: Graph, sizes: Sizes, feeding: Feeding, *, seed: int = 0
) -> Iterator[Mapping[str, Array]]:
    """Yield feeds to try in turn: the user's examples, else random ones with integers that the graph allows.

    view: of the model. sizes: of open axes; those that the user says come first, and others may stand among them.
    Nothing is yielded where a size is missing, or a tensor would be empty or too large.
    """
    if feeding.examples:
        yield from feeding.examples
        return
    inputs = slots(model)
    given = {**sizes, **pinned_sizes(inputs, feeding.shapes)}
    axes = open_axes(inputs)
    if any(axis not in given for axis in axes):
        return
    at = {axis: given[axis] for axis in axes}
    known = known_of(view, inputs)
    most = allowance(weights=0, fed=0).memory
    if axes and (known.is_empty(at) or known.largest(at) > most):
        return
    if any(math.prod(slot.shape(at)) * slot.dtype.itemsize > SHARE_OF_INPUTS * most for slot in inputs):
        return
    drawn = Drawn(inputs, ranges(known, counting(model, inputs)))
    yield drawn.feed(at, np.random.default_rng(seed))
    if drawn.ranges.limits:
        blind = Drawn(inputs, drawn.ranges, blind=True)
        yield blind.feed(at, np.random.default_rng(seed))
