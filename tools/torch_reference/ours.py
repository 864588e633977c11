"""Our side: gradients, running statistics and steps of the product on the exported file.

    python -m torch_reference.ours FOLDER

The only file here that knows the inside of the product.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_oto.gradients import TrainingSpec, choose_backend, prepare
from onnx_oto.gradients.spec import GradientSession
from onnx_oto.optim import DIRECTIONS
from onnx_oto.optim.base import Dense
from onnx_oto.pipeline.opening import open_model
from onnx_oto.zigs import parameters
from torch_reference.distinct import nudged
from torch_reference.steps import SINGLE, STEPS, WAYS, Way

Array = npt.NDArray[Any]


def main(folder: str) -> None:
    """Write ours.npz: "start|NAME", and by label of the order of samples "loss|LABEL", "gradient|NAME|LABEL",
    "statistic|NAME|LABEL" after one step, "WAY|NAME|LABEL" after all."""
    place = Path(folder)
    facts = json.loads((place / "facts.json").read_text(encoding="utf-8"))
    with np.load(place / "batch.npz") as arrays:
        x, target = arrays["input"], arrays["target"]
    session, name = _session(place / "model.onnx", facts["loss"], len(x))
    start, buffers = session.params.copy(), {key: value.copy() for key, value in session.buffers.items()}
    result = {f"start|{key}": value for key, value in (_named(session, start) | buffers).items()}
    for first, label in enumerate(SINGLE):
        batch, labels = {name: nudged(np.roll(x, first, 0), first)}, np.roll(target, first, 0)
        _restore(session, start, buffers)
        found = {"loss": np.asarray(session.step(batch, labels))}
        found.update({f"gradient|{key}": value for key, value in _named(session, session.grads).items()})
        found.update({f"statistic|{key}": value.copy() for key, value in session.buffers.items()})
        for title, way in WAYS.items():
            _restore(session, start, buffers)
            _train(session, way, batch, labels)
            found.update({f"{title}|{key}": value for key, value in _named(session, session.params).items()})
        result.update({f"{key}|{label}": value for key, value in found.items()})
    session.close()
    np.savez(place / "ours.npz", **result)


def _restore(session: GradientSession, start: Array, buffers: dict[str, Array]) -> None:
    session.params[:] = start
    for key, value in buffers.items():
        session.buffers[key][...] = value


def _session(path: Path, loss: str, samples: int) -> tuple[GradientSession, str]:
    """Return a session of one shard over all that the product would train, and the name of the input."""
    opened = open_model(path)
    names = parameters(opened.analysis, opened.origins).trained
    sizes = {name: math.prod(opened.analysis.graph.initializers[name].dims) for name in names}
    spec = TrainingSpec(trainable=names, loss=loss, batch=samples, shards=1, ties=opened.origins.tied(sizes))
    return prepare(opened.master, spec, choose_backend()).build(), opened.model.graph.input[0].name


def _train(session: GradientSession, way: Way, batch: dict[str, Array], target: Array) -> None:
    optimizer = Dense(DIRECTIONS[way.direction](weight_decay=way.weight_decay), session.params.size)
    for _ in range(STEPS):
        session.step(batch, target)
        optimizer.step(session.params, session.grads, way.lr)


def _named(session: GradientSession, flat: Array) -> dict[str, Array]:
    """Return copies of the parts of a flat buffer by parameter."""
    return {
        key: flat[offset : offset + int(np.prod(shape))].reshape(shape).copy()
        for key, (offset, shape) in session.slices.items()
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
