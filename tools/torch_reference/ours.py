"""Our side: gradients, running statistics and steps of the product on the exported file.

    python -m torch_reference.ours FOLDER [SHARDS]

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
from onnx_oto.pipeline.opening import Opened, open_model
from onnx_oto.pipeline.optimizing import decayed
from onnx_oto.zigs import parameters
from torch_reference.steps import FIRST, STEPS, WAYS, Way

Array = npt.NDArray[Any]


def main(folder: str, shards: str = "1") -> None:
    """For every batch-I.npz write ours-I.npz.

    In it are "start|NAME", whether weight decay is for it by default "decayed|NAME"; "loss", "gradient|NAME" and
    "statistic|NAME" of one step; and of the batches that steps are taken with "WAY|NAME" and "later|NAME", the running
    statistics after the steps of the first way.
    """
    place = Path(folder)
    facts = json.loads((place / "facts.json").read_text(encoding="utf-8"))
    opened = open_model(place / "model.onnx")
    session = _session(opened, facts["loss"], facts["samples"], int(shards))
    start, buffers = session.params.copy(), {key: value.copy() for key, value in session.buffers.items()}
    spared = decayed(opened.analysis, session), decayed(opened.analysis, session, everything=True)
    mask = np.zeros(start.size, np.bool_)
    for stretch in spared[0]:
        mask[stretch] = True
    begin = {f"start|{key}": value for key, value in (_named(session, start) | buffers).items()}
    begin |= {f"decayed|{key}": value.all() for key, value in _named(session, mask).items()}
    for index in range(facts["batches"]):
        with np.load(place / f"batch-{index}.npz") as arrays:
            batch, target = {opened.model.graph.input[0].name: arrays["input"]}, arrays["target"]
        _restore(session, start, buffers)
        found = {**begin, "loss": np.asarray(session.step(batch, target))}
        found.update({f"gradient|{key}": value for key, value in _named(session, session.grads).items()})
        found.update({f"statistic|{key}": value.copy() for key, value in session.buffers.items()})
        for title, way in WAYS.items() if index < facts["stepped"] else ():
            _restore(session, start, buffers)
            optimizer = Dense(_direction(way), start.size, decayed=spared[way.everything])
            for _ in range(STEPS):
                session.step(batch, target)
                optimizer.step(session.params, session.grads, way.lr)
            found.update({f"{title}|{key}": value for key, value in _named(session, session.params).items()})
            if title == FIRST:
                found.update({f"later|{key}": value.copy() for key, value in session.buffers.items()})
        np.savez(place / f"ours-{index}.npz", **found)
    session.close()


def _direction(way: Way) -> Any:
    return DIRECTIONS[way.direction](weight_decay=way.weight_decay)


def _restore(session: GradientSession, start: Array, buffers: dict[str, Array]) -> None:
    session.params[:] = start
    for key, value in buffers.items():
        session.buffers[key][...] = value


def _session(opened: Opened, loss: str, samples: int, shards: int) -> GradientSession:
    """Return a session over all that the product would train."""
    names = parameters(opened.analysis, opened.origins).trained
    sizes = {name: math.prod(opened.analysis.graph.initializers[name].dims) for name in names}
    spec = TrainingSpec(
        trainable=names, loss=loss, batch=samples, shards=shards, ties=opened.origins.tied(sizes)
    )
    return prepare(opened.master, spec, choose_backend()).build()


def _named(session: GradientSession, flat: Array) -> dict[str, Array]:
    """Return copies of the parts of a flat buffer by parameter."""
    return {
        key: flat[offset : offset + int(np.prod(shape))].reshape(shape).copy()
        for key, (offset, shape) in session.slices.items()
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
