"""The floor: python -m step_bench.floor FOLDER THREADS. Three forward passes of stock ONNX Runtime with its weights.

Runs where a stock onnxruntime is; imports nothing of the package.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime

from step_bench.serving import Times, serve


def main(folder: str, threads: str) -> None:
    """Serve."""
    place = Path(folder)
    facts = json.loads((place / "facts.json").read_text(encoding="utf-8"))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(threads)
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        str(place / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    rng = np.random.default_rng(0)
    shape = (facts["batch"], *facts["sample"])
    x = rng.standard_normal(shape).astype(np.float32)
    if facts["classes"] is not None:
        x = rng.integers(0, facts["classes"], shape)
    name = session.get_inputs()[0].name

    def step() -> Times:
        begin = time.perf_counter()
        for _ in range(3):
            session.run(None, {name: x})
        return 1e3 * (time.perf_counter() - begin), 0.0

    serve(step)


if __name__ == "__main__":
    main(*sys.argv[1:])
