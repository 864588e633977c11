"""Writing the int8 model beside the compact one, and what is told of both."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx

from onnx_oto.errors import CrashedError, LimitError, UnsupportedError
from onnx_oto.model import save
from onnx_oto.model.files.external import all_tensors
from onnx_oto.model.graph.tensors import byte_count
from onnx_oto.pipeline.int8.judging import Sight
from onnx_oto.pipeline.int8.making import BATCH, Made, Samples, feed_of, make_int8
from onnx_oto.pipeline.int8.result import Distance, Int8
from onnx_oto.pipeline.int8_options import Int8Options
from onnx_oto.pipeline.summary import Change
from onnx_oto.runtime.limits import limited
from onnx_oto.runtime.timing import Latencies, Untimed, measure

Say = Callable[[str], None]

REFUSALS = (UnsupportedError, LimitError, CrashedError)
"""What ends an int8 model, and leaves the float one as it is."""


def int8_name(path: str | os.PathLike[str]) -> Path:
    """Return where the int8 form of a model is written.

    >>> int8_name("runs/small.onnx").name, int8_name("small").name
    ('small.int8.onnx', 'small.int8.onnx')
    """
    place = Path(path)
    return place.with_name(f"{place.name.removesuffix('.onnx')}.int8.onnx")


def write_int8(
    model: onnx.ModelProto,
    place: Path,
    written: int,
    sight: Sight,
    samples: Samples,
    options: Int8Options,
    say: Say,
    *,
    is_timed: bool = True,
) -> Int8:
    """Quantize a model, judge it against the float one, write it, and return what is told of it.

    written: bytes of the float model's file. Raises one of REFUSALS where there is none that loses at most what is
    allowed; then nothing is written.
    """
    sight = sight.of(model)
    allowed = sight.allowed if options.int8_drop is None else options.int8_drop
    made = make_int8(model, sight, samples, options, allowed, say)
    before, after = (sight.score(each, samples.test) for each in (model, made.model))
    distance = sight.distance(made.model, sight.opened(model), sight.batches(model, samples.test, BATCH))
    lost = distance.points if before is None or after is None else sight.lost(before, after)
    if lost > allowed:
        raise UnsupportedError(_refusal(lost, allowed, distance, made, len(samples.test)))
    latency = _timed(model, made.model, sight, samples) if is_timed else None
    size = Change(written, save(made.model, place))
    return Int8(
        place,
        made.target,
        made.scheme,
        len(samples.test),
        None if before is None or after is None else (before, after),
        distance,
        lost,
        allowed,
        size,
        Change(_weight_bytes(model), _weight_bytes(made.model)),
        made.layers,
        made.kept,
        latency,
    )


def failed(error: Exception) -> dict[str, Any]:
    """Return what stands in JSON in place of an int8 model that was refused."""
    return {"file": None, "failed": str(error)}


def kept_float(error: Exception, compact: Path, place: Path) -> Exception:
    """Return an error as it is told: the float model is there, and what lies at `place` is of an earlier run."""
    older = f" ('{place}' is an older model's)" if place.exists() else ""
    return type(error)(f"{error}; the float model is kept, in '{compact}'{older}")


def _refusal(lost: float, allowed: float, distance: Distance, made: Made, samples: int) -> str:
    kept = f" with {len(made.kept)} layers in float" if made.kept else ""
    return (
        f"the int8 model{kept} loses {lost:.2f} points on {samples:,} test samples, {allowed:g} are allowed (outputs "
        f"are off by {distance.change:.1%}): allow more with --int8-drop, or calibrate on more with --int8-samples"
    )


def _timed(
    model: onnx.ModelProto, small: onnx.ModelProto, sight: Sight, samples: Samples
) -> Latencies | Untimed:
    lean, feed = feed_of(model, sight, samples.test)
    with limited(sight.limits):
        return measure(lean, feed_of(small, sight, samples.test)[0], feed)


def _weight_bytes(model: onnx.ModelProto) -> int:
    return sum(byte_count(tensor) for tensor in all_tensors(model))
