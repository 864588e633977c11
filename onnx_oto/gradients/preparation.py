"""The one value between a model and a session: what is trained of it, in graphs that a backend differentiates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

import onnx

from onnx_oto.errors import UnsupportedError, UsageError
from onnx_oto.gradients.backends import Backend
from onnx_oto.gradients.graph.batching import Feed
from onnx_oto.gradients.graph.lowering import Lowered, Refusal
from onnx_oto.gradients.graph.lowering.engine import listed, path
from onnx_oto.gradients.graph.static_types import types
from onnx_oto.gradients.graph.training_graph import (
    Detached,
    TrainingGraph,
    detached,
    feeds_of,
    lowered_for,
    with_loss,
)
from onnx_oto.gradients.spec import GradientSession, TrainingSpec
from onnx_oto.losses import Loss, Target, make
from onnx_oto.machine import cores
from onnx_oto.model.files.loading import runnable_bytes
from onnx_oto.peers.seam import ALONE, Peers

_LEAST = 16
"""Samples per automatic shard where BatchNormalization uses each shard's statistics."""
MOST_REFUSALS = 5


def prepare(model: onnx.ModelProto, spec: TrainingSpec, backend: Backend) -> Preparation:
    """Return a model prepared for training; `model` is not modified. Nothing runs, and no data are needed.

    Raises UsageError for names that the model does not have, UnsupportedError when nothing of it can be trained. Nodes
    that training cannot pass are listed in `Preparation.refusals`.
    """
    return Preparation(model, detached(model, spec), spec, backend)


class _Made(NamedTuple):
    """What was made for each feeds and shard size."""

    lowered: dict[tuple[tuple[Feed, ...], int], Lowered]
    graphs: dict[tuple[tuple[Feed, ...], int], TrainingGraph]


class Preparation:
    """A model prepared for steps of a known size.

    The graphs of a shard size are made once: `refusals`, `targets`, `build` and what `respecified` returns share them.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        what: Detached,
        spec: TrainingSpec,
        backend: Backend,
        made: _Made | None = None,
    ) -> None:
        self.spec = spec
        self.backend = backend
        self._model = model
        self._what = what
        self._made = _Made({}, {}) if made is None else made

    @cached_property
    def joint(self) -> bool:
        """Whether the shards normalise by the statistics of the whole batch.

        Raises UnsupportedError when that was asked for and the backend cannot.
        """
        if not self._what.weights.statistics or self.spec.statistics == "shard":
            return False
        if (ranks := self.spec.portion.ranks) > 1:
            if self.spec.statistics == "batch":
                raise UsageError(
                    f"statistics of the whole batch are asked for in the middle of a step, and {ranks} ranks exchange "
                    "what they have at its end only: train with --statistics shard, or without a launcher"
                )
            return False
        joins = self.backend.joins_statistics()
        if not joins and self.spec.statistics == "batch" and self.spec.shards != 1:
            raise UnsupportedError(
                f"the backend {self.backend.name!r} cannot take statistics of the whole batch here: train "
                "with one shard (--shards 1), or with statistics of each (--statistics shard)"
            )
        return joins

    @cached_property
    def _all_sizes(self) -> list[int]:
        """Samples per shard, of all processes."""
        portion = self.spec.portion
        portion.require_shares(self.spec.batch, self.spec.shards)
        workers = self._cores if self.spec.device.is_cpu else 1
        asked = self.spec.batch, self.spec.shards, workers
        sizes = shard_sizes(*asked, 1, portion.ranks)
        apart = len(sizes) > 1 and self._what.weights.statistics and not self.joint
        return shard_sizes(*asked, _LEAST, portion.ranks) if apart else sizes

    @property
    def _cores(self) -> int:
        """How many cores this process has."""
        return self.spec.portion.cores or cores()

    @property
    def threads(self) -> int:
        """How many threads a session of this process takes."""
        if self.spec.threads:
            return self.spec.threads
        return max(1, self._cores // len(self._sizes)) if self.backend.uses_threads() else 1

    @cached_property
    def _sizes(self) -> list[int]:
        """Samples per shard of this process."""
        own = self.spec.portion.shards(self._all_sizes)
        return self._all_sizes[own.start : own.stop]

    @property
    def feeds(self) -> tuple[Feed, ...]:
        """The data inputs."""
        return self._what.feeds

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """The nodes that training cannot pass."""
        return self._lower(self._sizes[0]).refusals

    @property
    def loss(self) -> Loss:
        """The loss as it is meant for these outputs and targets."""
        return self._what.loss

    @property
    def targets(self) -> dict[str, Target]:
        """What a whole batch holds, by name.

        Raises UnsupportedError for an output that does not suit the loss.
        """
        targets = self._graph(self._sizes[0]).targets
        return {name: replace(t, shape=(self.spec.batch, *t.shape[1:])) for name, t in targets.items()}

    def respecified(
        self,
        *,
        sample_shapes: Mapping[str, tuple[int, ...]] | None = None,
        target_shapes: Mapping[str, tuple[int, ...]] | None = None,
        batch: int | None = None,
        shards: int | None = None,
    ) -> Preparation:
        """Return the preparation for other sizes. What the new sizes do not touch is not made again."""
        spec = replace(
            self.spec,
            sample_shapes=self.spec.sample_shapes if sample_shapes is None else sample_shapes,
            target_shapes=self.spec.target_shapes if target_shapes is None else target_shapes,
            batch=self.spec.batch if batch is None else batch,
            shards=self.spec.shards if shards is None else shards,
        )
        if make(spec.loss).settle(self._what.shapes, spec.target_shapes) != self.loss:
            return prepare(self._model, spec, self.backend)  # the loss reads the outputs in another way
        feeds = feeds_of(self._what.model, self._what.weights.all(), spec)
        what = replace(self._what, feeds=feeds)
        return Preparation(self._model, what, spec, self.backend, self._made)

    @property
    def shards(self) -> int:
        """How many parts of a batch run side by side, in all processes."""
        return len(self._all_sizes)

    @property
    def sessions(self) -> int:
        """How many of them run in this process."""
        return len(self._sizes)

    def with_loss(self, loss: Loss) -> Preparation:
        """Return the preparation for a loss that reads the same tensors; nothing is lowered again."""
        spec, what = replace(self.spec, loss=loss), replace(self._what, loss=loss)
        return Preparation(self._model, what, spec, self.backend, _Made(self._made.lowered, {}))

    def build(self, others: Sequence[Preparation] = (), peers: Peers = ALONE) -> GradientSession:
        """Return a session that owns copies of the parameters.

        others: the same model, respecified for samples of other shapes, which the session takes too. peers: the
        processes that have the other portions of every batch. Raises
        UnsupportedError for what cannot be trained, CrashedError and LimitError when the runtime does not survive the
        graph.
        """
        from onnx_oto.gradients.session.building import (
            session_of,  # loads the runtime, which other verbs do without
        )
        from onnx_oto.gradients.session.shards import Share

        forms = [(each.feeds, each._differentiated()) for each in (self, *others)]
        share = Share(peers, tuple(self._all_sizes), self.spec.portion.shards(self._all_sizes).start)
        joint = self.shards > 1 and self.joint
        return session_of(self._what, self.spec, forms, share, joint=joint, threads=self.threads)

    def _differentiated(self) -> list[tuple[TrainingGraph, bytes]]:
        """Return a training graph for every shard, with its gradient graph."""
        require_trainable(self.refusals)
        graphs = {size: self._graph(size) for size in self._sizes}
        gradients = {size: self._gradient(graph) for size, graph in graphs.items()}
        return [(graphs[size], gradients[size]) for size in self._sizes]

    def _lower(self, size: int) -> Lowered:
        known = (self._what.feeds, size)
        if known not in self._made.lowered:
            self._made.lowered[known] = lowered_for(self._what, self.spec, size, self.backend.covers)
        return self._made.lowered[known]

    def _graph(self, size: int) -> TrainingGraph:
        known = (self._what.feeds, size)
        if known not in self._made.graphs:
            self._made.graphs[known] = with_loss(self._lower(size), self._what, size, self.backend.covers)
        return self._made.graphs[known]

    def _gradient(self, graph: TrainingGraph) -> bytes:
        """Return the serialised gradient graph: outputs are the loss, the statistics and `<name>_grad`.

        Only parameters that reach the loss have a gradient.
        """
        model = graph.lowered.model
        wanted = reached(model, self.spec.trainable)
        if not wanted:
            raise UnsupportedError(
                "no trainable parameter reaches the loss: choose another output or other parameters"
            )
        joint, scale = self.shards > 1 and self.joint, self._sizes[0] / graph.size
        even = len(set(self._all_sizes)) == 1
        adding, samples = self.sessions > 1, sum(self._sizes)
        return runnable_bytes(
            self.backend.differentiate(
                model,
                wanted,
                joint=joint,
                scale=scale,
                even=even,
                adding=adding,
                samples=samples,
                again=self.spec.recompute,
            )
        )


def require_trainable(refusals: tuple[Refusal, ...]) -> None:
    """Raise UnsupportedError naming nodes that training cannot pass, if there are any."""
    if refusals:
        raise UnsupportedError(f"training cannot handle {listed(refusals, MOST_REFUSALS)}")


def shard_sizes(batch: int, shards: int, cores: int, least: int, ranks: int = 1) -> list[int]:
    """Return the samples per shard, largest first: equal but for the rest of the division.

    cores: of each of the ranks. least: samples of a shard at the least, unless the number of shards is given, or there
    are so many ranks.

    >>> shard_sizes(100, 3, 8, 16), shard_sizes(64, 0, 2, 16), shard_sizes(20, 0, 2, 16), shard_sizes(5, 0, 2, 1)
    ([34, 33, 33], [32, 32], [20], [3, 2])
    >>> shard_sizes(64, 0, 1, 16, 2), shard_sizes(64, 0, 8, 16, 2), shard_sizes(16, 0, 8, 16, 2)
    ([32, 32], [16, 16, 16, 16], [8, 8])
    """
    count = shards or ranks * max(1, min(cores, batch // (least * ranks)))
    share, rest = divmod(batch, count)
    return [share + (index < rest) for index in range(count)]


def reached(model: onnx.ModelProto, trainable: tuple[str, ...]) -> list[str]:
    """Return the trainable names from which gradient flows to the loss, in their order."""
    nodes = path(model, trainable, types(model))
    read = {name for index in nodes for name in model.graph.node[index].input}
    return [name for name in trainable if name in read]
