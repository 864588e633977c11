"""One model: load, normalise, analyse, choose, compact, compare; a JSON line on stdout after every stage.

The parent merges the lines, so that what was learned before a crash is kept. The last line holds `result`:
"exact", "refused" (with the product's own words), "unverified" (it cannot be run here) or "wrong". Everything else
that ends the process is a crash.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from onnx_oto.errors import OtoError, UnsupportedError
from onnx_oto.model import full_check, load, normalise
from onnx_oto.pipeline.opening import Opened, require_prunable
from onnx_oto.runtime.comparing import compare
from onnx_oto.runtime.comparing.inputs import random_inputs
from onnx_oto.runtime.runner import runner
from onnx_oto.runtime.timing import latency
from onnx_oto.surgery import compact
from onnx_oto.zigs import Analysis, AnalysisOptions, analyse, choose, score, zero_dropped
from sweep_table.pair import SIZES
from sweep_table.stock import Stock
from sweep_table.task import Task

REASONS = 6


def say(**facts: Any) -> None:
    """Print facts for the parent."""
    print(json.dumps(facts), flush=True)


@contextmanager
def timed(stage: str) -> Iterator[None]:
    """Say which stage begins, and how long it took."""
    say(stage=stage)
    begin = time.perf_counter()
    yield
    say(**{f"s_{stage}": round(time.perf_counter() - begin, 4)})


def probe(task: Task) -> None:
    """Carry out the task; every result is said, errors of the product included."""
    try:
        with timed("load"):
            original = load(task.path)
        with timed("normalise"):
            model = normalise(original)
        with timed("analyse"):
            analysis = analyse(model, AnalysisOptions(head_dims=task.head_dims))
        say(**_facts(analysis))
        require_prunable(Opened(Path(task.path), 0, analysis))
        zeroed, small = _cut(analysis, task)
    except UnsupportedError as error:
        return say(result="refused", reason=str(error))
    except OtoError as error:
        return say(result="refused", reason=f"{type(error).__name__}: {error}")
    if task.stock:
        return _judge_in_stock(original, zeroed, small, task)
    _judge_here(zeroed, small, task)


def _facts(analysis: Analysis) -> dict[str, Any]:
    frozen: Counter[str] = Counter()
    for dimension in analysis.dimensions:
        if dimension.reason:
            frozen[dimension.reason] += dimension.size
    return {
        "params": analysis.params,
        "macs": analysis.macs,
        "ceiling": round(analysis.prunable_params / max(analysis.params, 1), 4),
        "lanes": sum(d.size for d in analysis.prunable),
        "frozen": frozen.most_common(REASONS),
        "nodes": len(analysis.graph.nodes),
    }


def _cut(analysis: Analysis, task: Task) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Return the full model with the dropped groups zeroed and the compact one."""
    with timed("choose"):
        choice = choose(analysis, score(analysis, task.by, task.seed), task.sparsity)
    with timed("cut"):
        small = compact(analysis, choice.drop)
    after = analyse(small)
    say(
        dropped=round(choice.share, 4),
        removed_params=round(1 - after.params / max(analysis.params, 1), 4),
        **({"removed_macs": round(1 - after.macs / analysis.macs, 4)} if analysis.macs else {}),
    )
    with timed("check"):
        full_check(small)
    return zero_dropped(analysis, choice.drop), small


def _judge_here(zeroed: onnx.ModelProto, small: onnx.ModelProto, task: Task) -> None:
    try:
        with timed("verify"):
            verdict = compare(zeroed, small, seed=task.seed)
    except UnsupportedError as error:
        return say(result="unverified", reason=str(error))
    say(max_abs=verdict.max_abs, max_rel=verdict.max_rel)
    if not verdict.passed:
        return say(result="wrong", reason=verdict.trouble)
    if task.latency:
        _time_here(zeroed, small, task.latency)
    say(result="exact")


def _time_here(zeroed: onnx.ModelProto, small: onnx.ModelProto, seconds: float) -> None:
    say(stage="latency")
    run = runner(zeroed)
    rng = np.random.default_rng(0)
    for size in SIZES:
        feed = random_inputs(zeroed, rng, 1, size)
        try:
            run(feed)
        except Exception:  # sizes that do not fit: the next candidate
            continue
        full, less = latency([zeroed, small], feed, seconds=seconds)
        return say(ms_full=round(full.median, 4), ms_compact=round(less.median, 4))


def _judge_in_stock(
    original: onnx.ModelProto, zeroed: onnx.ModelProto, small: onnx.ModelProto, task: Task
) -> None:
    """Compare in another environment; also that normalising changed nothing and that zeroing changed something.

    With feeds beside the model (NAME.npz) on those, too: a set of open sizes brings some of different sizes.
    """
    with tempfile.TemporaryDirectory(prefix="sweep-") as folder, timed("verify"):
        stock = Stock(task, Path(folder), original, zeroed, small)
        facts = stock.compare()
    if "unverified" in facts:
        return say(result="unverified", reason=f"stock runtime: {facts['unverified']}")
    passed, trouble = facts.pop("passed"), facts.pop("trouble")
    say(**facts)
    if passed:
        return say(result="exact")
    if trouble:
        return say(result="wrong", reason=f"{trouble[:300]}")
    say(result="wrong", reason=f"stock runtime: outputs differ by {facts['max_rel']:.2g}")


def main(argument: str) -> None:
    """Limit the memory and probe; `argument`: the task as JSON."""
    task = Task(**json.loads(argument))
    if task.memory:
        resource.setrlimit(resource.RLIMIT_AS, (task.memory, task.memory))
    probe(task)
    say(peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


if __name__ == "__main__":
    main(sys.argv[1])
