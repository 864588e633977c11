"""A full, zeroed model and a compact one, compared in an environment of other runtimes."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from onnx_oto.errors import OtoError, UnsupportedError
from onnx_oto.model import Graph, Node, graph, normalise, runnable_bytes, save
from onnx_oto.runtime.comparing import Feeding, compare, feeds_at
from onnx_oto.runtime.comparing.probes import only_outputs
from onnx_oto.runtime.comparing.tails import common_jumps, sever
from sweep_table.task import Task

Facts = dict[str, Any]

PAIR = Path(__file__).with_name("pair.py")
MOST_FEEDS = 3
"""Feeds that are made where the sizes that `pair.py` guesses do not run."""


class Stock:
    """The models of one row, as files in a folder, and what `pair.py` says of them there."""

    def __init__(
        self,
        task: Task,
        folder: Path,
        original: onnx.ModelProto,
        zeroed: onnx.ModelProto,
        small: onnx.ModelProto,
    ) -> None:
        self.task, self.folder, self.zeroed, self.small = task, folder, zeroed, small
        beside = Path(task.path).with_suffix(".npz")
        self.feeds = str(beside) if beside.exists() else ""
        self.least = "float16" if _computes_in_halves(zeroed) else ""
        models = {"original": original, "zeroed": zeroed, "compact": small}
        self.files = {name: self._write(name, model) for name, model in models.items()}

    def compare(self) -> Facts:
        """Return what `pair.py` says, and of OpenVINO where the task asks for it; `unverified`: why nothing is said.

        Where the sizes that it guesses do not run, on those at which this package compares. Where outputs differ, in
        front of operators that jump: which of two equal scores is the larger is no difference.
        """
        facts = self._pair(*self.files.values(), str(self.task.latency))
        if "unverified" in facts and not self.feeds and self._make_feeds():
            facts = self._pair(*self.files.values(), str(self.task.latency))
        pair = self.files["zeroed"], self.files["compact"]
        if facts.get("passed") is False and not facts["trouble"]:
            parts = self._in_front_of_jumps()
            found = self._pair(parts[0], *parts, "0", "onnxruntime") if parts else {}
            if found.get("passed"):
                facts, pair = {**facts, **found, "jumps": True}, parts
        if self.task.openvino and facts.get("passed"):
            facts |= self._in_openvino(*pair)
        return facts

    def _in_openvino(self, zeroed: str, small: str) -> Facts:
        """Return `openvino`: how far outputs differ there, or why it does not run them; `passed` and why not."""
        found = self._pair(zeroed, zeroed, small, "0", "openvino")
        if "unverified" in found:
            return {"openvino": f"not run: {found['unverified']}"}
        if found["passed"]:
            return {"openvino": f"{found['max_rel']:.1e}"}
        why = found["trouble"] or f"outputs differ by {found['max_rel']:.2g}"
        return {"openvino": "differs", "passed": False, "trouble": f"OpenVINO: {why}"}

    def _pair(self, original: str, zeroed: str, small: str, seconds: str, engine: str = "") -> Facts:
        names = [original, zeroed, small, str(self.task.seed), seconds, self.feeds, engine, self.least]
        done = subprocess.run(
            [self.task.stock, str(PAIR), *names],
            capture_output=True,
            text=True,
            check=False,
            env=_clean_environment(),
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit {done.returncode}"]
            return {"unverified": lines[-1][:300]}
        facts: Facts = json.loads(done.stdout.strip().splitlines()[-1])
        if facts.get("trouble") and not engine:
            facts["trouble"] = f"stock runtime: the compact model does not run: {facts['trouble']}"
        return facts

    def _make_feeds(self) -> bool:
        """Write feeds at sizes at which this package compares the models; say whether there are any."""
        try:
            verdict = compare(self.zeroed, self.small, seed=self.task.seed)
        except OtoError:
            return False
        view, arrays = graph(self.zeroed), {}
        for i, sizes in enumerate(verdict.sizes[:MOST_FEEDS]):
            for feed in list(feeds_at(self.zeroed, view, sizes, Feeding(), seed=i))[:1]:
                arrays.update({f"{i}|{name}": np.asarray(value) for name, value in feed.items()})
        if arrays:
            self.feeds = str(self.folder / "feeds.npz")
            np.savez(self.feeds, **arrays)  # type: ignore[arg-type]
        return bool(arrays)

    def _in_front_of_jumps(self) -> tuple[str, str] | tuple[()]:
        """Return files of the zeroed and the compact model in parts (see `pair.py`), () when nothing jumps in both."""
        full, small = normalise(self.zeroed), normalise(self.small)
        view, small_view = graph(full), graph(small)
        jumping = common_jumps(view, small_view, full, small)
        if not jumping:
            return ()
        twins = [small_view.producer[next(name for name in node.outputs if name)] for node in jumping]
        made = {name for node in jumping for name in node.outputs if name}
        rest = sever(small, small_view, twins)
        wanted = {value.name: value.name for value in rest.graph.output}
        wanted |= {mine: theirs for mine, theirs in _reads(jumping, twins, view) if mine not in made}
        given = [name for name in view.producer if name in made]
        return (
            self._write("parts", only_outputs(full, [*wanted, *given])),
            self._write("parts-compact", _with_ranks(only_outputs(rest, list(wanted.values())), view)),
        )

    def _write(self, name: str, model: onnx.ModelProto) -> str:
        path = self.folder / f"{name}.onnx"
        try:
            path.write_bytes(runnable_bytes(model))
        except UnsupportedError:
            save(model, path)
        return str(path)


def _computes_in_halves(model: onnx.ModelProto) -> bool:
    half = onnx.TensorProto.FLOAT16
    return any(tensor.data_type == half for tensor in model.graph.initializer)


def _with_ranks(model: onnx.ModelProto, view: Graph) -> onnx.ModelProto:
    """Return the model, its inputs of unknown rank declared as the view knows them: OpenVINO wants ranks."""
    for value in model.graph.input:
        shape = view.shapes.get(value.name)
        if not value.type.tensor_type.HasField("shape") and shape is not None:
            for size in shape:
                dim = value.type.tensor_type.shape.dim.add()
                if isinstance(size, int):
                    dim.dim_value = size
    return model


def _reads(jumping: list[Node], twins: list[Node], view: Graph) -> Iterator[tuple[str, str]]:
    """Yield the computed tensors that nodes read, by their names in both models."""
    for node, twin in zip(jumping, twins, strict=True):
        for mine, theirs in zip(node.inputs, twin.inputs, strict=True):
            if mine in view.producer:
                yield mine, theirs


def _clean_environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
