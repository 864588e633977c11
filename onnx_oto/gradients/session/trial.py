"""One run of a graph where it can do no harm, before it runs here."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from onnx_oto.gradients.graph.batching import Feed
from onnx_oto.runtime.gradient_jobs import try_once
from onnx_oto.runtime.limits import generous
from onnx_oto.runtime.worker import JobFailed, shared


def require_survival(
    content: bytes, weights: Iterable[NDArray[np.float32]], feeds: Sequence[Feed], samples: int
) -> None:
    """Run a serialised graph once in the process that models run in, on made-up values.

    What brings it down there must not run here. Raises CrashedError and LimitError. That the runtime refuses made-up
    values proves nothing.
    """
    fed = sum(samples * math.prod(feed.shape) * feed.dtype.itemsize for feed in feeds)
    stored = sum(array.nbytes for array in weights)
    with contextlib.suppress(JobFailed):
        shared().call(generous(weights=len(content) + stored, fed=fed), try_once, content, samples)
