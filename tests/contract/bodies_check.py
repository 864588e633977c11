"""The contract on a random model with bodies, run with several feeds: so that both branches of an If are taken."""

from __future__ import annotations

import re

import numpy as np
from onnx import ModelProto

from onnx_oto.errors import CrashedError
from onnx_oto.model import normalise
from onnx_oto.runtime.comparing import random_inputs
from onnx_oto.runtime.runner import runner
from onnx_oto.surgery import compact
from onnx_oto.zigs import AnalysisOptions, analyse, choose, score, zero_dropped

from .exactness import KeepSet, assert_as_labelled, assert_equal, assert_same_frame, parameters
from .random_bodies import random_bodies
from .random_check import Outcome, compare_in_double

FEEDS = 3


def bodies_model(seed: int, steps: int) -> ModelProto:
    """Return the random model of a seed."""
    rng = np.random.default_rng(seed)
    return random_bodies(lambda n: int(rng.integers(n)), 1 + seed % steps, seed=seed)


def examine_bodies(model: ModelProto, seed: int, *, head_dims: bool = False) -> Outcome:
    """Return what happened after asserting the contract for two keep sets and several feeds."""
    analysis = analyse(normalise(model), AnalysisOptions(head_dims=head_dims))
    outcome = Outcome(prunable=sum(d.size for d in analysis.prunable))
    for dimension in analysis.dimensions:
        if not dimension.prunable:
            reason = re.sub(r"'[^' ]*'", "*", dimension.reason.replace("model's", "model"))
            outcome.frozen[reason] += dimension.size
    feeds = [random_inputs(model, np.random.default_rng(each), batch=2) for each in range(FEEDS)]
    try:
        original, normal = runner(model, threads=1), runner(analysis.model, threads=1)
        given = [original(feed) for feed in feeds]
        for feed, expected in zip(feeds, given, strict=True):
            assert_equal(expected, normal(feed), "normalise")
    except CrashedError:  # onnxruntime 1.19 does not survive some Convs that only a body reads
        outcome.crashed = 1
        return outcome
    for keep_set in (KeepSet(seed, 0.5), KeepSet(seed + 1, 0.8, "global")):
        scores = score(analysis, "random", keep_set.seed)
        choice = choose(analysis, scores, keep_set.sparsity, scope=keep_set.scope)
        outcome.removed += choice.dropped
        full, small = zero_dropped(analysis, choice.drop), compact(analysis, choice.drop)
        assert_same_frame(analysis.model, small)
        assert_as_labelled(analysis, choice.drop, small, str(keep_set))
        assert (parameters(small) < parameters(full)) == bool(choice.drop.any())
        run, run_small = runner(full, threads=1), runner(small, threads=1)
        for feed in feeds:
            try:
                assert_equal(run(feed), run_small(feed), str(keep_set))
            except AssertionError as difference:
                compare_in_double(full, small, feed, difference)
                outcome.in_double += 1
    return outcome
