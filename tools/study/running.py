"""Doing the pieces: several side by side, each an `onnx-oto train` on one core that can be left at any time."""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from pieces import Piece, pieces

ROOT = Path(__file__).resolve().parents[2]
LINES = "pieces.jsonl"


def run(options: argparse.Namespace) -> None:
    """Do all pieces that are not done, until the hours are over."""
    options.runs.mkdir(parents=True, exist_ok=True)
    data = _data(options)
    todo = list(pieces(options.ways, options.budgets, options.seeds))
    done = {piece: threading.Event() for piece in todo}
    end = time.monotonic() + 3600 * options.hours
    lock = threading.Lock()

    def do(piece: Piece) -> None:
        try:
            if piece.needs is not None:
                done[piece.needs].wait()
            result = options.runs / piece.name / "result.json"
            if not result.exists() and time.monotonic() < end:
                _train(piece, data, options)
            if result.exists() and not piece.first:
                with lock:
                    _note(piece, json.loads(result.read_text()), options)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"{piece.name}: {error}", file=sys.stderr, flush=True)
        finally:
            done[piece].set()

    with ThreadPoolExecutor(options.workers) as pool:
        for _ in pool.map(do, todo):
            pass


def _data(options: argparse.Namespace) -> Path:
    """Return the data with validation images set apart, the same for all."""
    place: Path = options.runs / "data.npz"
    if not place.exists():
        full = np.load(options.data)
        order = np.random.default_rng(0).permutation(len(full["x_train"]))
        val, train = order[: options.val], order[options.val :]
        train = train[: options.train or None]
        parts = {"train": ("train", train), "val": ("train", val), "test": ("test", slice(None))}
        arrays = {f"{k}_{name}": full[f"{k}_{of}"][at] for name, (of, at) in parts.items() for k in "xy"}
        np.savez(place, **arrays)
    return place


def _train(piece: Piece, data: Path, options: argparse.Namespace) -> None:
    """Train a piece, or go on with it where it was left."""
    folder, model = options.runs / piece.name, piece.model(options.runs, options.arch)
    oto = [sys.executable, "-m", "onnx_oto"]
    with (options.runs / f"{piece.name}.log").open("a") as log:
        known = {"stdout": log, "stderr": log, "env": _environment()}
        if (folder / "checkpoint.npz").exists():
            subprocess.run([*oto, "resume", str(folder)], check=True, **known)
            return
        if not model.exists():
            _make(piece, model, options)
        common = ["--batch", str(options.batch), "--seed", str(piece.seed), "--shards", "1"]
        common += ["--flip", "--crop", "2", "--skip-latency", "--overwrite", "--device", options.device]
        command = [*oto, "train", str(model), "--data", str(data), "--run", str(folder), *common]
        subprocess.run([*command, *piece.options(options.epochs, options.runs)], check=True, **known)


def _environment() -> dict[str, str]:
    """Return what programs of this tree run in."""
    places = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(places)}


def _make(piece: Piece, model: Path, options: argparse.Namespace) -> None:
    """Write the model that a piece starts with: a fresh network, or fresh weights of the widths that were found."""
    if piece.way == "scratch":
        assert piece.needs is not None
        found = onnx.load(options.runs / piece.needs.name / "compact.onnx")
        onnx.save(fresh(found, piece.seed), model)
        return
    command = [sys.executable, str(ROOT / "tools" / "make_demo_assets.py"), "model", "--arch", options.arch]
    command += ["--seed", str(piece.seed), "-o", str(model)]
    subprocess.run(command, check=True, env=_environment())


def fresh(model: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """Return a network with weights drawn anew (He et al., 2015); its norms do nothing yet."""
    rng = np.random.default_rng(seed)
    norms = {
        name: value
        for node in model.graph.node
        if node.op_type == "BatchNormalization"
        for name, value in zip(node.input[1:], (1.0, 0.0, 0.0, 1.0), strict=True)
    }
    for tensor in model.graph.initializer:
        old = numpy_helper.to_array(tensor)
        if tensor.name in norms:
            new = np.full(old.shape, norms[tensor.name])
        elif old.ndim < 2:
            new = np.zeros(old.shape)
        else:  # Conv [O, I, k, k]; a product [I, O]
            inputs = math.prod(old.shape[1:]) if old.ndim > 2 else old.shape[0]
            new = rng.normal(0.0, math.sqrt(2.0 / inputs), old.shape)
        if old.dtype.kind == "f":
            tensor.CopyFrom(numpy_helper.from_array(new.astype(old.dtype), tensor.name))
    return model


def _note(piece: Piece, result: dict[str, Any], options: argparse.Namespace) -> None:
    """Append what came out to the lines, once."""
    place = options.runs / LINES
    lines = [json.loads(line) for line in place.read_text().splitlines()] if place.exists() else []
    if any(line["name"] == piece.name for line in lines):
        return
    macs, kept = result["macs"], result["kept"] or {}
    line = {
        "name": piece.name,
        "way": piece.way,
        "budget": piece.budget,
        "seed": piece.seed,
        "epochs": options.epochs,
        "test": result["metric"]["compact"],
        "val": kept.get("value"),
        "macs": 1.0 if piece.way == "dense" else _share(piece, macs, options),
        "params": result["params"]["after"],
        "passed": result["verify"]["passed"],
        "seconds": result["seconds"],
    }
    with place.open("a") as file:
        file.write(json.dumps(line) + "\n")
    print(json.dumps(line), flush=True)


def _share(piece: Piece, macs: dict[str, Any], options: argparse.Namespace) -> float:
    """Return the share of the MACs of the full network; of one that begins compact, that of the run it is from."""
    if piece.way != "scratch":
        return float(macs["after"] / macs["before"])
    assert piece.needs is not None
    found = json.loads((options.runs / piece.needs.name / "result.json").read_text())["macs"]
    return float(found["after"] / found["before"])
