"""A session from gradient graphs, whoever made them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from onnx_oto.gradients.graph.training_graph import Detached, TrainingGraph
from onnx_oto.gradients.session.equality import require_equal
from onnx_oto.gradients.session.flat import layout
from onnx_oto.gradients.session.shards import Evaluator, Memory, Shard, ShardedSession
from onnx_oto.gradients.session.trial import require_survival
from onnx_oto.gradients.spec import GradientSession, TrainingSpec
from onnx_oto.model.files.loading import runnable_bytes


def session_of(
    what: Detached, spec: TrainingSpec, graphs: Sequence[tuple[TrainingGraph, bytes]]
) -> GradientSession:
    """Return a session with a shard for every training graph and its serialised gradient graph, largest first."""
    weights = what.weights.all().values()
    largest, gradient = graphs[0]
    for content in (gradient, runnable_bytes(what.model)):
        require_survival(content, weights, what.feeds, largest.size)
    memory = Memory(
        parameters=layout(what.weights.trainable),
        statistics=layout(what.weights.statistics),
        weights=what.weights,
        shards=len(graphs),
    )
    shards = [
        Shard(content, graph, what.feeds, memory, index) for index, (graph, content) in enumerate(graphs)
    ]
    evaluator = Evaluator(what, memory, chunk=largest.size if what.loss.per_sample else None)
    if what.fixed is not None:
        require_equal(evaluator, Evaluator(replace(what, model=what.fixed), memory, chunk=None))
    return ShardedSession(shards, evaluator, memory, what.feeds, spec, what.loss)
