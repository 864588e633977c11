"""Judging a model on whole images, each at its own size, where it is trained on patches of them.

Some models take no height and width but multiples of a number (what is halved three times and joined again: 8). It is
found by trying: the first number for which two odd multiples of it, without a common divisor, are a height and a width
that the model runs on, and of which it makes an image as large as its target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onnx_oto import data
from onnx_oto.errors import DataError, UnsupportedError
from onnx_oto.model.normal.serving import Serving
from onnx_oto.pipeline.opening import Opened
from onnx_oto.pipeline.original import Original, Unjudged
from onnx_oto.pipeline.sizes import open_inputs
from onnx_oto.runtime.runner import first_line
from onnx_oto.runtime.timing import TROUBLES
from onnx_oto.runtime.worker import JobFailed
from onnx_oto.training.evaluate import Provider, gather

MULTIPLES = (*range(1, 17), 20, 24, 28, 32, 40, 48, 56, 64, 96, 112, 128)
_LEAST_TIMES, _LEAST_PIXELS = 5, 32
PATCHES = "judged by the patch in the middle of every image"


@dataclass(frozen=True)
class Whole:
    """The images by which a model is judged. val: None where nothing was set apart. multiple: of which sizes are."""

    test: data.Source
    val: data.Source | None
    multiple: int

    def told(self, *, always: bool) -> str:
        """Return it in words."""
        cut = "" if self.multiple == 1 else f", cut to multiples of {self.multiple} pixels of the input"
        when = "" if always else "; after an epoch by the patch in their middle (--whole-images)"
        return f"what is reported is of whole images, each at its own size{cut}{when}"


def whole_images(
    dataset: data.Dataset,
    opened: Opened,
    serving: Serving,
    original: Original,
    providers: Sequence[Provider] = (),
) -> Whole | Unjudged | None:
    """Return the whole images of patches, or why the model cannot read them; None where samples are no patches.

    original: the model, ready to run. providers: of targets that the data do not hold.
    """
    if data.wholes(dataset.test) is None:
        return None
    if not data.takes_any_size(dataset.test, open_inputs(serving.served(opened.master))):
        return Unjudged("the model reads images of one size alone")
    for multiple in MULTIPLES:
        batch = data.trial(dataset.test, *odd_sizes(multiple))
        try:
            original.loss.judge(original.predict(batch.inputs), gather(batch, providers), 1)
        except (UnsupportedError, JobFailed, DataError):  # not this one
            continue
        except TROUBLES as error:
            return Unjudged(first_line(error))
        test = data.wholes(dataset.test, multiple)
        assert test is not None
        return Whole(test, None if dataset.val is None else data.wholes(dataset.val, multiple), multiple)
    return Unjudged(f"the model takes no multiples of any number up to {MULTIPLES[-1]} that was tried")


def odd_sizes(multiple: int) -> tuple[int, int]:
    """Return a height and a width whose greatest common divisor is a number: odd multiples of it, two apart.

    >>> odd_sizes(1), odd_sizes(8), odd_sizes(64)
    ((33, 35), (40, 56), (320, 448))
    """
    times = max(_LEAST_TIMES, -(-_LEAST_PIXELS // multiple)) | 1
    return multiple * times, multiple * (times + 2)
