"""One model: look at it, draw a batch, train, judge; a JSON line on stdout after every stage.

    python -m trainable_table.probe TASK       TASK: JSON of `Task`

The last line holds `result`, one of `table.RESULTS`. The steps are taken by the command that users have, `onnx-oto
train`: one step per epoch, all of the batch in each. Where the loss does not fall another learning rate is tried.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from onnx_oto.errors import OtoError
from onnx_oto.model import load
from onnx_oto.runtime.installed import installed
from trainable_table.batch import Batch, CannotFeed, draw
from trainable_table.forks import command

RATES = (1e-3, 1e-4, 1e-2)
LAST = 4
"""Losses at the end that are averaged: Dropout makes them noisy."""
SPARSITY = 0.3
WORDS = 600
FLOATS = {
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.FLOAT16: "float16",
    onnx.TensorProto.BFLOAT16: "bfloat16",
    onnx.TensorProto.DOUBLE: "float64",
    onnx.TensorProto.INT8: "int8",
    onnx.TensorProto.UINT8: "uint8",
}


@dataclass(frozen=True)
class Task:
    """What the parent asks for. folder: an empty one, for files that nobody keeps."""

    path: str
    folder: str
    samples: int
    steps: int
    seed: int
    backend: str = "auto"


def say(**facts: Any) -> None:
    """Print facts for the parent."""
    print(json.dumps(facts), flush=True)


def probe(task: Task) -> None:
    """Carry out the task; every result is said."""
    say(stage="load", backend=task.backend, **environment())
    try:
        model = load(task.path)
    except OtoError as error:
        return say(result="refused", reason=placeless(f"{type(error).__name__}: {error}", task))
    say(kind=kind_of(model), stage="inspect")
    seen = command(("inspect", task.path, "--json"), Path(task.folder, "inspect"))
    if seen.returncode:
        return say(result="refused", reason=placeless(_words(seen), task))
    facts = json.loads(seen.stdout)
    lanes = sum(d["size"] for d in facts["dimensions"] if d["prunable"])
    say(params=facts["params"], lanes=lanes)
    if not lanes:
        return say(result="nothing", reason="nothing prunable")
    say(stage="batch")
    try:
        batch = draw(model, task.samples, task.seed)
    except (CannotFeed, OtoError) as error:
        return say(result="unfed", reason=placeless(str(error), task))
    say(loss=batch.loss, samples=len(batch), stage="train")
    batch.save(str(Path(task.folder, "batch.npz")))
    _train(task, batch)


def environment() -> dict[str, str]:
    """Return which Python and which build of ONNX Runtime this is."""
    runtimes = ", ".join(f"{name} {version}" for name, version in installed().items())
    return {"python": platform.python_version(), "runtime": runtimes}


def kind_of(model: onnx.ModelProto) -> str:
    """Return the type of most weights: "float32", another, or "none"."""
    count: Counter[str] = Counter()
    for tensor in model.graph.initializer:
        if tensor.data_type in FLOATS:
            count[FLOATS[tensor.data_type]] += int(np.prod(tensor.dims))
    for node in model.graph.node:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            if attribute.t.data_type in FLOATS:
                count[FLOATS[attribute.t.data_type]] += int(np.prod(attribute.t.dims))
    return count.most_common(1)[0][0] if count else "none"


def _train(task: Task, batch: Batch) -> None:
    """Say how training ends at the first learning rate that lowers the loss, else at the first one of all."""
    first: dict[str, Any] | None = None
    for rate in RATES:
        found = _attempt(task, batch, rate)
        after_steps = found["result"] == "refused" and found["steps"]  # a model that died is refused, too
        if found["result"] not in ("not lowered", "diverged") and not after_steps:
            return say(**found)
        first = first or found
    assert first is not None
    say(**first)


def _attempt(task: Task, batch: Batch, rate: float) -> dict[str, Any]:
    run = Path(task.folder, f"run-{rate:g}")
    options = [
        "--loss",
        batch.loss,
        "--lr",
        f"{rate:g}",
        "--direction",
        "adam",
        "--sparsity",
        f"{SPARSITY:g}",
    ]
    options += [
        "--epochs",
        str(task.steps),
        "--batch",
        str(len(batch)),
        "--shards",
        "1",
        "--seed",
        str(task.seed),
    ]
    options += ["--backend", task.backend]
    options += ["--model-output", batch.output] if batch.output else []
    data = str(Path(task.folder, "batch.npz"))
    done = command(
        ("train", task.path, "--data", data, "--run", str(run), *options, "--json"),
        Path(task.folder, f"train-{rate:g}"),
    )
    losses = _losses(run / "metrics.jsonl")
    facts: dict[str, Any] = {"rate": rate, "steps": len(losses)}
    if losses:
        facts.update(first=losses[0], last=float(np.mean(losses[-LAST:])))
    if done.returncode:
        words = {4: "refused", 5: "refused", 3: "refused", 2: "refused", 6: "diverged"}
        return {
            **facts,
            "result": words.get(done.returncode, "crash"),
            "reason": placeless(_words(done), task),
        }
    return {**facts, **_judged(json.loads(done.stdout), losses, run)}


def _judged(result: dict[str, Any], losses: list[float], run: Path) -> dict[str, Any]:
    before, after = result["params"]["before"], result["params"]["after"]
    facts: dict[str, Any] = {"removed": round(1 - after / before, 4)}
    if not (run / "compact.onnx").exists() or not result["verify"]["passed"]:
        return {**facts, "result": "wrong", "reason": "the compact model is not verified"}
    if trouble := in_training(load(run / "compact.onnx")):
        return {**facts, "result": "wrong", "reason": trouble}
    last = float(np.mean(losses[-LAST:]))
    if not last < losses[0]:
        return {**facts, "result": "not lowered", "reason": f"loss {losses[0]:.6g}, in the end {last:.6g}"}
    return {**facts, "result": "trained"}


def in_training(model: onnx.ModelProto) -> str:
    """Return which node of a result would still behave as in training, or has statistics that nothing fits; else ""."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        read = [constants.get(name) for name in node.input]
        training = any(attribute.name == "training_mode" and attribute.i for attribute in node.attribute)
        if node.op_type == "Dropout" and len(read) > 2 and node.input[2]:
            training = read[2] is None or bool(read[2])
        if training:
            return f"in the compact model node '{node.name}' ({node.op_type}) is in training mode"
        if node.op_type == "BatchNormalization" and read[4] is not None and not (read[4] > 0).any():
            return f"in the compact model every running variance of node '{node.name}' is zero"
    return ""


def _losses(path: Path) -> list[float]:
    """Return the training loss of every epoch."""
    if not path.exists():
        return []
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [row["loss"] for row in rows if row["kind"] == "epoch"]


def placeless(text: str, task: Task) -> str:
    """Return the text without the folders of this machine."""
    for folder in (task.folder, str(Path(task.path).parent)):
        text = text.replace(folder + os.sep, "")
    return text


def _words(done: subprocess.CompletedProcess[str]) -> str:
    """Return the product's own words: of its error object, or the last line of a process that had none."""
    try:
        error = json.loads(done.stdout)["error"]
        return f"{error['kind']}: {error['message']}"[:WORDS]
    except (ValueError, KeyError):
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        ending = f" ({signal.Signals(-done.returncode).name})" if done.returncode < 0 else ""
        return f"exit {done.returncode}{ending}: {lines[-1] if lines else ''}"[:WORDS]
