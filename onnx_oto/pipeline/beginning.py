"""What is done between the last refusal and the first step: the teacher's answers, and how good the original is."""

from __future__ import annotations

from dataclasses import replace

from onnx_oto.pipeline.answers import answered
from onnx_oto.pipeline.folder import RunFolder
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.pipeline.original import Unjudged, original_of
from onnx_oto.pipeline.preparing import Ready, Say
from onnx_oto.runtime.limits import limited
from onnx_oto.training import Score


def answered_before(ready: Ready, options: TrainOptions, folder: RunFolder, say: Say) -> Ready:
    """Return what is ready with the teacher's answers to samples that never change, where there is one."""
    if ready.teacher is None:
        return ready
    found = answered(ready.dataset, ready.teacher, folder, augmented=options.augments, say=say)
    return replace(ready, dataset=found)


def judged_before(ready: Ready, options: TrainOptions, say: Say) -> Ready:
    """Return what is ready with the score of the original on the test data; it is said, or why there is none."""
    aim, test = ready.aim, ready.dataset.test
    with limited(options.limits):
        found = original_of(ready.brought or ready.opened, ready.serving, aim.outputs, ready.preparation.loss)
        if not isinstance(found, Unjudged):
            score = found.score(test, tuple(options.metric), providers=ready.providers)
            if not isinstance(score, Unjudged):
                say(f"the model as it was brought: test {_told(score)} on {score.samples:,} samples")
                return _begun(replace(ready, original=score), options, say)
            found = score
    say(f"the model as it was brought cannot be judged: {found.reason}")
    return ready


def _begun(ready: Ready, options: TrainOptions, say: Say) -> Ready:
    """Return what is ready with the score of what is left where groups went before the first step; it is said."""
    if ready.brought is None:
        return ready
    found = original_of(ready.opened, ready.serving, ready.aim.outputs, ready.preparation.loss)
    if not isinstance(found, Unjudged):
        score = found.score(ready.dataset.test, tuple(options.metric), providers=ready.providers)
        if not isinstance(score, Unjudged):
            say(f"cut and fitted anew, before training: test {_told(score)}")
            return replace(ready, begun=score)
    return ready


def _told(score: Score) -> str:
    further = "".join(f", {name} {value:.4f}" for name, value in score.further.items())
    return f"{score.metric} {score.value:.4f}{further}, loss {score.loss:.4f}"
