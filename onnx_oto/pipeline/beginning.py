"""What is done between the last refusal and the first step: the teacher's answers, and how good the original is."""

from __future__ import annotations

import time
from dataclasses import replace

from onnx_oto import data
from onnx_oto.pipeline.answers import answered
from onnx_oto.pipeline.folder import RunFolder
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.pipeline.original import Original, Unjudged, original_of
from onnx_oto.pipeline.ready import Ready, Say
from onnx_oto.pipeline.whole import PATCHES, Whole, whole_images
from onnx_oto.runtime.limits import limited, roomy
from onnx_oto.training import Score


def before_the_first_step(ready: Ready, options: TrainOptions, folder: RunFolder, say: Say) -> Ready:
    """Return what is ready with the teacher's answers and the score of the original, as far as there are any."""
    samples = ready.dataset
    if ready.teacher is not None:
        found = answered(samples, ready.teacher, folder, augmented=options.augments, say=say)
        ready = replace(ready, dataset=found)
    with limited(options.limits):
        return _judged(ready, samples, options, say)


def _judged(ready: Ready, samples: data.Dataset, options: TrainOptions, say: Say) -> Ready:
    """Return what is ready with the score of the original on the test data; it is said, or why there is none.

    And with the whole images by which it is judged, where `samples` are patches of images.
    """
    brought = ready.brought or ready.opened
    found = original_of(brought, ready.serving, ready.aim.outputs, ready.preparation.loss)
    if isinstance(found, Unjudged):
        say(f"the model as it was brought cannot be judged: {found.reason}")
        return ready
    begin, metrics = time.perf_counter(), tuple(options.metric)
    score: Score | Unjudged | None = None
    whole = _whole(ready, samples, found, options, say)
    if whole is not None:
        with limited(roomy(options.limits)):
            score = found.score(whole.test, metrics, providers=ready.providers)
        if isinstance(score, Unjudged):
            say(f"whole images cannot be judged ({score.reason}): the model is {PATCHES}")
            whole = None
    if whole is None or score is None:
        score = found.score(ready.dataset.test, metrics, providers=ready.providers)
    if isinstance(score, Unjudged):
        say(f"the model as it was brought cannot be judged: {score.reason}")
        return ready
    what = f"{score.samples:,} samples"
    if whole is not None:
        what = f"{score.samples:,} whole images ({time.perf_counter() - begin:.0f} s)"
    say(f"the model as it was brought: test {_told(score)} on {what}")
    ready = replace(ready, original=score, whole=whole)
    if ready.brought is not None:
        _tell_what_is_left(ready, options, say)
    return ready


def _whole(
    ready: Ready, samples: data.Dataset, original: Original, options: TrainOptions, say: Say
) -> Whole | None:
    """Return the whole images that the model is judged by, None for its samples; why is said where it is not asked."""
    if options.whole_images == "never":
        return None
    found = whole_images(samples, ready.opened, ready.serving, original, ready.providers)
    if isinstance(found, Unjudged):
        say(f"{found.reason}: it is {PATCHES}")
        return None
    if found is not None:
        say(found.told(always=options.whole_images == "always"))
    return found


def _tell_what_is_left(ready: Ready, options: TrainOptions, say: Say) -> None:
    """Say how good the model is whose groups went before the first step."""
    found = original_of(ready.opened, ready.serving, ready.aim.outputs, ready.preparation.loss)
    if isinstance(found, Unjudged):
        return
    with limited(options.limits if ready.whole is None else roomy(options.limits)):
        score = found.score(ready.reported, tuple(options.metric), providers=ready.providers)
    if not isinstance(score, Unjudged):
        say(f"cut and fitted anew, before training: test {_told(score)}")


def _told(score: Score) -> str:
    further = "".join(f", {name} {value:.4f}" for name, value in score.further.items())
    return f"{score.metric} {score.value:.4f}{further}, loss {score.loss:.4f}"
