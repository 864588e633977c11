"""A session from gradient graphs, whoever made them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from onnx_oto.errors import OtoError
from onnx_oto.gradients.graph.batching import Feed
from onnx_oto.gradients.graph.training_graph import Detached, TrainingGraph
from onnx_oto.gradients.session.device_proof import expect, require_same, require_same_there
from onnx_oto.gradients.session.equality import require_equal
from onnx_oto.gradients.session.evaluator import Evaluator
from onnx_oto.gradients.session.flat import layout
from onnx_oto.gradients.session.native import Memory
from onnx_oto.gradients.session.shards import Form, Shard, ShardedSession, Share
from onnx_oto.gradients.session.trial import require_survival
from onnx_oto.gradients.spec import GradientSession, TrainingSpec
from onnx_oto.model.files.loading import runnable_bytes
from onnx_oto.runtime.devices import Device
from onnx_oto.runtime.joining import TURN

Graphs = Sequence[tuple[TrainingGraph, bytes]]
"""A training graph and its serialised gradient graph for every shard, largest first."""


def session_of(
    what: Detached,
    spec: TrainingSpec,
    forms: Sequence[tuple[Sequence[Feed], Graphs]],
    share: Share,
    *,
    joint: bool = False,
    threads: int = 1,
) -> GradientSession:
    """Return a session of graphs for samples of one shape or several: the data inputs of each, and its own shards.

    joint: the graphs of the shards ask each other for statistics. threads: of each shard.
    """
    weights = what.weights.all().values()
    feeds, graphs = forms[0]
    size = graphs[0][0].size
    for of_form, ((_, gradient), *_) in forms:
        require_survival(gradient, weights, of_form, size)
    require_survival(runnable_bytes(what.model), weights, feeds, size)
    apart = spec.device.memory is not None
    memory = Memory(
        parameters=layout(what.weights.trainable, apart=apart),
        statistics=layout(what.weights.statistics, apart=apart),
        weights=what.weights,
        shards=len(graphs),
        one=all(TURN.encode() in content for _, shards in forms for _, content in shards),
    )
    evaluator = Evaluator(what, memory, chunk=size if what.loss.per_sample else None, device=spec.device)
    channels = max((value.size for value in what.weights.statistics.values()), default=0)
    device = replace(spec.device, threads=threads)
    made = [
        Form(
            of_form,
            [
                Shard(content, graph, of_form, memory, index, device, share.first)
                for index, (graph, content) in enumerate(shards)
            ],
            sum(graph.size for graph, _ in shards),
            channels=channels if joint else 0,
        )
        for of_form, shards in forms
    ]
    resident, hindrance = None, None
    if not device.is_cpu:
        graph, content = graphs[0]
        twin = Shard(content, graph, feeds, memory, 0, Device(), share.first)
        expected = expect(twin, memory, feeds)
        there = made[0].shards[0]
        require_same(device, there, memory, expected)
        if device.memory is not None and share.peers.size == len(graphs) == 1:
            try:
                resident = require_same_there(device, there, memory, expected)
            except OtoError as error:
                hindrance = str(error)
    if what.fixed is not None:
        require_equal(evaluator, Evaluator(replace(what, model=what.fixed), memory, chunk=None))
    return ShardedSession(made, evaluator, memory, spec, what.loss, share, resident, hindrance)
