"""Our side: python -m step_bench.ours FOLDER THREADS [BACKEND]. DHSPG on SGD with momentum, in its shrinking phase."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from onnx_oto.gradients import TrainingSpec, choose_backend, prepare
from onnx_oto.gradients.session.shards import ShardedSession
from onnx_oto.model import load, normalise
from onnx_oto.optim import Dhspg, Plan
from onnx_oto.zigs import analyse, trainable
from step_bench.optimizer import dhspg
from step_bench.serving import Times, serve

LONG = 10**6


def session_for(folder: Path, backend: str = "auto") -> tuple[Any, Dhspg, dict[str, np.ndarray], np.ndarray]:
    """Return a session, its optimizer, a batch and its target."""
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    model = normalise(load(folder / "model.onnx"))
    analysis = analyse(model)
    spec = TrainingSpec(
        trainable(analysis),
        facts["loss"],
        facts["batch"],
        sample_shapes={model.graph.input[0].name: tuple(facts["sample"])},
    )
    session = prepare(model, spec, choose_backend(backend)).build()
    assert isinstance(session, ShardedSession)
    optimizer = dhspg(analysis, session, Plan(1, LONG, 1), 0.5, "sgd")
    rng = np.random.default_rng(0)
    shape = (facts["batch"], *facts["sample"])
    x = (
        rng.standard_normal(shape).astype(np.float32)
        if facts["classes"] is None
        else rng.integers(0, facts["classes"], shape)
    )
    target = (
        rng.standard_normal((facts["batch"], *facts["target"])).astype(np.float32)
        if facts["target"]
        else rng.integers(0, 10, facts["batch"])
    )
    return session, optimizer, {model.graph.input[0].name: x}, target


def main(folder: str, threads: str, backend: str = "auto") -> None:
    """Serve."""
    session, optimizer, batch, target = session_for(Path(folder), backend)

    def step() -> Times:
        begin = time.perf_counter()
        session.step(batch, target)
        middle = time.perf_counter()
        optimizer.step(session.params, session.grads, 1e-3)
        end = time.perf_counter()
        return 1e3 * (end - begin), 1e3 * (end - middle)

    step()
    serve(step, shards=session.shards)


if __name__ == "__main__":
    main(*sys.argv[1:])
