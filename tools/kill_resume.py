"""Kill runs of `onnx-oto train` at random moments, go on with `onnx-oto resume`, and compare what comes out.

    .venv/bin/python tools/kill_resume.py --kills 200

Every run is killed (SIGKILL) once or several times in a row, at moments spread over the time that a run takes, then
gone on with until it is complete. trained.onnx and compact.onnx must be, byte for byte, those of a run that nobody
killed, and nothing may be left beside the files of a run. The model has BatchNormalization and Dropout, data are
augmented, a step has two batches, and checkpoints are written every few steps: each is a state that going on must bring
back.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper, parser

MODELS = ("trained.onnx", "compact.onnx")
LEFT_BEFORE_IT_BEGAN = 2
NET = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N,1,8,8] image) => (float[N,3] logits)
<float r = {0.3}, bool is_training = {1}> {
    a = Conv<pads = [1,1,1,1]>(image, w1)
    b, m, v = BatchNormalization<training_mode = 1>(a, s1, b1, m1, v1)
    c = Relu(b)
    d = Conv<pads = [1,1,1,1]>(c, w2, b2)
    e = Add(c, d)
    f = Conv<pads = [1,1,1,1], strides = [2,2]>(e, w3, b3)
    g = Relu(f)
    h = GlobalAveragePool(g)
    i = Flatten(h)
    j = Dropout(i, r, is_training)
    logits = Gemm<transB = 1>(j, w4, b4)
}
"""
SHAPES = {
    "w1": (8, 1, 3, 3), "s1": (8,), "b1": (8,), "m1": (8,), "v1": (8,), "w2": (8, 8, 3, 3), "b2": (8,),
    "w3": (12, 8, 3, 3), "b3": (12,), "w4": (3, 12), "b4": (3,),
}  # fmt: skip
OPTIONS = (
    "--epochs", "12", "--batch", "8", "--accumulate", "2", "--flip", "--crop", "1", "--direction", "adamw",
    "--shards", "2", "--checkpoint-minutes", "0.0005", "--skip-latency",
)  # fmt: skip


def make_inputs(folder: Path) -> None:
    """Write net.onnx and data.npz: three classes, a bright spot on noise."""
    model, rng = parser.parse_model(NET), np.random.default_rng(0)
    for name, shape in SHAPES.items():
        array = rng.standard_normal(shape) * np.sqrt(2 / max(1, np.prod(shape[1:])))
        array = 0.5 + np.abs(array) if name[0] in "vs" else array
        model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    onnx.save(model, folder / "net.onnx")
    data = {}
    for split, count in (("train", 160), ("test", 60)):
        x = rng.integers(0, 60, (count, 8, 8)).astype(np.uint8)
        y = np.arange(count) % 3
        for image, label in zip(x, y, strict=True):
            image[label * 3 : label * 3 + 2, 2:6] = 255
        data |= {f"x_{split}": x, f"y_{split}": y}
    np.savez(folder / "data.npz", **data)


def start_process(folder: Path, words: list[str]) -> subprocess.Popen[str]:
    """Begin a command in a folder."""
    return subprocess.Popen(
        [sys.executable, "-m", "onnx_oto", *words],
        cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace",
    )  # fmt: skip


class Trial:
    """The runs of one folder of inputs."""

    def __init__(self, folder: Path, seed: int, options: tuple[str, ...] = OPTIONS) -> None:
        self.folder, self.options, self.random = folder, options, random.Random(seed)
        make_inputs(folder)
        begin = time.perf_counter()
        process = self.start("train", "whole")
        assert self.ended(process) == 0, "the run that nobody kills fails"
        self.seconds = time.perf_counter() - begin
        self.expected = self.files("whole")

    def start(self, verb: str, run: str) -> subprocess.Popen[str]:
        """Begin a run, or go on with it."""
        words = [verb, run]
        if verb == "train":
            words = [verb, "net.onnx", "--data", "data.npz", "--run", run, "--overwrite", *self.options]
        return start_process(self.folder, words)

    def files(self, run: str) -> tuple[bytes, ...]:
        """Return what a run made."""
        return tuple((self.folder / run / name).read_bytes() for name in MODELS)

    def ended(self, process: subprocess.Popen[str]) -> int:
        """Wait, and return the exit code; say what went wrong."""
        _, err = process.communicate(timeout=600)
        if process.returncode not in (0, -signal.SIGKILL):
            print(err.strip().splitlines()[-1:], flush=True)
        return process.returncode

    def killed(self, number: int) -> tuple[int, str]:
        """Kill a new run at random moments until it is complete; return how often it was, and what is wrong, or ""."""
        run, verb, kills = f"run{number}", "train", 0
        while True:
            process = self.start(verb, run)
            if kills == 0 or self.random.random() < 0.4:
                time.sleep(self.random.uniform(0, 1.1 * self.seconds))
                process.kill()
                kills += 1
            code = self.ended(process)
            if code == 0:
                break
            begun = (self.folder / run / ".onnx-oto.json").exists()
            if code == LEFT_BEFORE_IT_BEGAN or not begun:
                verb = "train"
                continue
            if code != -signal.SIGKILL:
                return kills, f"exit code {code}"
            verb = "resume"
        if self.files(run) != self.expected:
            return kills, "other bytes"
        left = [path.name for path in (self.folder / run).glob(".*") if path.name != ".onnx-oto.json"]
        shutil.rmtree(self.folder / run)
        return kills, f"left: {left}" if left else ""


def main() -> int:
    """Print a line for every run, and the tally; the exit code says whether all came out the same."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--kills", type=int, default=200)
    arguments.add_argument("--seed", type=int, default=0)
    wanted = arguments.parse_args()
    tally: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        trial, kills, number = Trial(Path(folder), wanted.seed), 0, 0
        print(f"a whole run takes {trial.seconds:.1f} s", flush=True)
        while kills < wanted.kills:
            times, wrong = trial.killed(number)
            kills, number = kills + times, number + 1
            tally[wrong or "the same bytes"] += 1
            print(f"run {number}: killed {times} times: {wrong or 'the same bytes'}", flush=True)
    print(f"{kills} kills in {number} runs: {dict(tally)}")
    return 0 if set(tally) == {"the same bytes"} else 1


if __name__ == "__main__":
    sys.exit(main())
