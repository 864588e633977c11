"""The contract on a random model, with statistics."""

from __future__ import annotations

import collections
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from onnx import ModelProto, TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from onnx_oto.model import normalise
from onnx_oto.model.graph.order import graphs
from onnx_oto.runtime.comparing import random_inputs
from onnx_oto.surgery import compact
from onnx_oto.zigs import AnalysisOptions, analyse, choose, score, zero_dropped

from . import random_groups, random_rare, random_views  # noqa: F401 - they register their steps
from .builder import behind_layers, copied
from .exactness import KeepSet, assert_as_labelled, assert_equal, assert_same_frame, outputs, parameters
from .random_graphs import Pick, sketch
from .random_steps import STEPS


@dataclass
class Outcome:
    """What happened to one model: lanes that could be removed, were removed, or were frozen (by reason).

    in_double: how often float64 decided. crashed: whether the runtime did not survive the model as it came.
    """

    prunable: int = 0
    removed: int = 0
    in_double: int = 0
    crashed: int = 0
    frozen: collections.Counter[str] = field(default_factory=collections.Counter)


CONSTANTS = (
    ["Sigmoid"],
    ["Tanh", "Exp"],
    ["Cos"],
    ["Softplus"],
    ["HardSigmoid"],
    ["Tanh", "Cosh"],
    ["Sigmoid", "Neg"],
)
"""Operators, one behind the other, that make a non-zero constant of zero and nothing large of anything."""


def random_model(pick: Pick, count: int, *, seed: int = 0, constants: bool = False) -> ModelProto:
    """Return a random model of about `count` steps.

    constants: behind two of three layers stands an operator that makes a non-zero constant of a zero.
    """
    model = sketch(pick, STEPS, count, seed=seed).finish()
    if not constants:
        return model
    return behind_layers(model, lambda _: CONSTANTS[pick(len(CONSTANTS))] if pick(3) else [])


def examine(model: ModelProto, keep_sets: Sequence[KeepSet], *, head_dims: bool = False) -> Outcome:
    """Return what happened after asserting the contract for every keep set.

    When float32 results differ, the same graphs decide in float64 (reference evaluator): norms amplify rounding.
    """
    analysis = analyse(normalise(model), AnalysisOptions(head_dims=head_dims))
    outcome = Outcome(prunable=sum(d.size for d in analysis.prunable))
    for dimension in analysis.dimensions:
        if not dimension.prunable:
            outcome.frozen[re.sub(r"'[^' ]*'", "*", dimension.reason.replace("model's", "model"))] += (
                dimension.size
            )
    feed = random_inputs(model, np.random.default_rng(7), batch=2)
    assert_equal(outputs(model, feed), outputs(analysis.model, feed), "normalise")
    for keep_set in keep_sets:
        choice = choose(
            analysis,
            score(analysis, "random", keep_set.seed),
            keep_set.sparsity,
            scope=keep_set.scope,
            round_to=keep_set.round_to,
        )
        outcome.removed += choice.dropped
        full, small = zero_dropped(analysis, choice.drop), compact(analysis, choice.drop)
        assert_same_frame(analysis.model, small)
        assert_as_labelled(analysis, choice.drop, small, str(keep_set))
        assert (parameters(small) < parameters(full)) == bool(choice.drop.any())
        try:
            assert_equal(outputs(full, feed), outputs(small, feed), str(keep_set))
        except AssertionError as difference:
            compare_in_double(full, small, feed, difference)
            outcome.in_double += 1
    return outcome


def compare_in_double(
    full: ModelProto, small: ModelProto, feed: dict[str, np.ndarray], difference: AssertionError
) -> None:
    """Raise `difference` unless the models agree in float64."""
    wide = {name: value.astype(np.float64) for name, value in feed.items()}
    try:
        runs = [ReferenceEvaluator(_in_double(m)).run(None, wide) for m in (full, small)]
    except Exception:  # the reference evaluator lacks some forms
        raise difference from None
    assert_equal(runs[0], runs[1], f"in float64, after: {difference}")


def _in_double(model: ModelProto) -> ModelProto:
    """Return the model with float64 in place of float32."""
    result = copied(model)
    every = list(graphs(result.graph))
    nodes = [node for each in every for node in each.node]
    values = [attr.t for node in nodes for attr in node.attribute if attr.HasField("t")]
    for tensor in (*(t for each in every for t in each.initializer), *values):
        scales = tensor.name.startswith("k") and len(tensor.dims)  # Resize wants float32
        if tensor.data_type == TensorProto.FLOAT and not scales:
            value = numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    for value in (v for each in every for v in (*each.input, *each.output)):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    return result
