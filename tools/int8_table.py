"""Is int8 worth it: dense and compact models, in float and in int8, on one runtime.

    .venv/bin/python tools/int8_table.py DENSE DENSE_INT8 COMPACT COMPACT_INT8 --data DATA [--python PYTHON]
        [--mean M --std S] [--threads 1] [--batch 1] [--samples N] [--seconds 10]

The metric is of the test samples of DATA, in this environment. Latency is measured by the runtime of PYTHON, the four
models in turn, on test samples. Prints a Markdown table, and what share of the processors other work had meanwhile.
int8 forms are made by `onnx-oto prune --int8` and `train --int8`, that of a dense model by `prune --sparsity 0 --int8`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from onnx_oto.model import load
from onnx_oto.model.files.external import all_tensors
from onnx_oto.model.graph.tensors import byte_count
from onnx_oto.pipeline.finishing import as_declared
from onnx_oto.pipeline.judging import judge_on
from onnx_oto.pipeline.opening import open_model
from onnx_oto.pipeline.options import JudgeOptions
from onnx_oto.runtime.bench import Bench

NAMES = ("dense, float", "dense, int8", "compact, float", "compact, int8")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs=4, type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--python")
    parser.add_argument("--mean", type=float, nargs="*", default=[])
    parser.add_argument("--std", type=float, nargs="*", default=[])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    given = parser.parse_args()
    options = JudgeOptions(samples=given.samples, mean=tuple(given.mean), std=tuple(given.std))
    judge = judge_on(given.data, open_model(given.models[0]), options, print)
    models = [load(path) for path in given.models]
    scores = [judge.of_model(model).score for model in models]
    batch = judge.samples.batch(np.arange(given.batch), None).inputs
    with Bench(given.python, threads=given.threads) as bench:
        feed = as_declared(judge.lean(models[0]), batch)
        found = bench.measure(models, feed, seconds=given.seconds, most=5000)
        host = bench.host
    print(
        f"\n{host.runtime} {host.version}, {host.processor}, {given.threads} threads, batch {given.batch}, in turn, "
        f"{found[0].timing.runs} runs each; other work had {found[0].others:.0%} of the processors\n"
    )
    metric = next(score.metric for score in scores if score is not None)
    print(f"| model | {metric} | file, bytes | weights, bytes | ms, median | ms, fastest tenth |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, path, model, score, each in zip(NAMES, given.models, models, scores, found, strict=True):
        value = "-" if score is None else f"{score.value:.4f}"
        weights = sum(byte_count(tensor) for tensor in all_tensors(model))
        tenth = float(np.quantile(each.timing.times, 0.1))
        print(
            f"| {name} | {value} | {path.stat().st_size:,} | {weights:,} | {each.timing.median:.3f} | {tenth:.3f} |"
        )


if __name__ == "__main__":
    main()
