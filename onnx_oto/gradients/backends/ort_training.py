"""The ONNX Runtime backend: gradient graphs from its training build, run as ordinary sessions.

The only module that touches onnxruntime's training internals. `import onnxruntime.training` would need torch,
so the gradient builder is taken from the C binding (see runtime.py).
"""

from __future__ import annotations

import contextlib
import math
import os
from dataclasses import replace

import onnx

from onnx_oto.errors import UnsupportedError
from onnx_oto.gradients.backends.ort_rewrites import tune
from onnx_oto.gradients.graph.lowering.engine import path
from onnx_oto.gradients.graph.preparation import Prepared, Training, prepare, training_graph
from onnx_oto.gradients.graph.types import types
from onnx_oto.gradients.losses import LOSS
from onnx_oto.gradients.session.equality import require_equal
from onnx_oto.gradients.session.flat import layout
from onnx_oto.gradients.session.shards import Evaluator, Memory, OrtSession, Shard, first_line
from onnx_oto.gradients.spec import GradientSession, TrainingSpec
from onnx_oto.model.files.loading import runnable_bytes
from onnx_oto.runtime.installed import require_training
from onnx_oto.runtime.limits import generous
from onnx_oto.runtime.training import build_gradient, try_once
from onnx_oto.runtime.worker import JobFailed, shared

_LEAST = 16  # samples per automatic shard, because BatchNormalization uses each shard's statistics


class OrtBackend:
    """Builds sessions on onnxruntime-training(-cpu) 1.19.2."""

    def build(self, model: onnx.ModelProto, spec: TrainingSpec) -> GradientSession:
        """Return a session that owns copies of the parameters; `model` is not modified.

        Raises RuntimeMissingError without a training runtime, UnsupportedError for what cannot be trained.
        """
        require_training()
        prepared = prepare(model, spec)
        sizes = shard_sizes(spec.batch, spec.shards, os.cpu_count() or 1)
        graphs = {size: training_graph(prepared, spec, size) for size in sorted(set(sizes))}
        compiled = {size: gradient_model(graph, spec.trainable) for size, graph in graphs.items()}
        _try(compiled[sizes[0]], prepared, sizes[0])
        _try(runnable_bytes(prepared.model), prepared, sizes[0])
        memory = Memory(
            parameters=layout(prepared.weights.trainable),
            statistics=layout(prepared.weights.statistics),
            weights=prepared.weights,
            shards=len(sizes),
        )
        shards = [
            Shard(compiled[size], graphs[size], prepared.feeds, memory, index)
            for index, size in enumerate(sizes)
        ]
        evaluator = Evaluator(prepared, memory, chunk=None if spec.loss == "output" else max(sizes))
        if prepared.fixed is not None:
            require_equal(evaluator, Evaluator(replace(prepared, model=prepared.fixed), memory, chunk=None))
        return OrtSession(shards, evaluator, memory, prepared.feeds, spec)


def shard_sizes(batch: int, shards: int, cores: int) -> list[int]:
    """Return the samples per shard, largest first: equal but for the rest of the division.

    >>> shard_sizes(100, 3, 8), shard_sizes(64, 0, 2), shard_sizes(20, 0, 2)
    ([34, 33, 33], [32, 32], [20])
    """
    count = shards or max(1, min(cores, batch // _LEAST))
    share, rest = divmod(batch, count)
    return [share + (index < rest) for index in range(count)]


def gradient_model(training: Training, trainable: tuple[str, ...]) -> bytes:
    """Return the serialised gradient graph: outputs are the loss, the statistics and `<name>_grad`.

    Only parameters that reach the loss have a gradient. Raises UnsupportedError with the runtime's own words.
    """
    model = training.lowered.model
    wanted = reached(model, trainable)
    if not wanted:
        raise UnsupportedError(
            "no trainable parameter reaches the loss: choose another output or other parameters"
        )
    content = model.SerializeToString()
    allowed = generous(weights=len(content), fed=0)
    try:
        built = shared().call(allowed, build_gradient, content, sorted(wanted), LOSS)
        gradient = onnx.load_from_string(built)
    except JobFailed as error:
        raise UnsupportedError(
            f"ONNX Runtime cannot build the gradient of this model: {first_line(error)}"
        ) from error
    tune(gradient, {name: kind.static for name, kind in types(model).items() if kind.static is not None})
    result: bytes = gradient.SerializeToString()
    return result


def _try(content: bytes, prepared: Prepared, samples: int) -> None:
    """Run a graph once in the worker, on made-up values: what brings it down there must not run here.

    Raises CrashedError and LimitError. That the runtime refuses made-up values proves nothing.
    """
    fed = sum(samples * math.prod(feed.shape) * feed.dtype.itemsize for feed in prepared.feeds)
    stored = sum(array.nbytes for array in prepared.weights.all().values())
    with contextlib.suppress(JobFailed):
        shared().call(generous(weights=len(content) + stored, fed=fed), try_once, content, samples)


def reached(model: onnx.ModelProto, trainable: tuple[str, ...]) -> set[str]:
    """Return the trainable names from which gradient flows to the loss."""
    nodes = path(model, trainable, types(model))
    read = {name for index in nodes for name in model.graph.node[index].input}
    return {name for name in trainable if name in read}
