"""Check the exactness contract on many random models.

    python tools/fuzz.py --count 2000 --seed 0
    python tools/fuzz.py --count 2000 --seed 0 --open
    python tools/fuzz.py --count 2000 --seed 0 --bodies

Prints statistics; exits 1 and prints the model when full and compact differ or anything raises. A difference
in float32 counts only if it is there in float64 too (reference evaluator): norms amplify rounding. With
--constants, removed channels hold constants that are not zero.
"""

from __future__ import annotations

import argparse
import collections
import sys
import time
import traceback
from pathlib import Path

import numpy as np
import onnx

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from contract.bodies_check import bodies_model, examine_bodies
from contract.exactness import KeepSet
from contract.open_check import examine_open
from contract.random_check import Outcome, examine, random_model


def main() -> int:
    """Run the models and print what happened."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=8, help="operators per model, about")
    parser.add_argument("--head-dims", action="store_true", help="attention keeps its heads")
    parser.add_argument(
        "--constants", action="store_true", help="Sigmoid, Exp and the like stand behind layers"
    )
    parser.add_argument("--stop", type=int, default=5, help="stop after so many failures")
    parser.add_argument("--open", action="store_true", help="chains of views with sizes computed at run time")
    parser.add_argument("--bodies", action="store_true", help="If, Loop and Scan, inside of each other once")
    options = parser.parse_args()
    if options.bodies:
        return _fuzz_bodies(options)
    if options.open:
        return _fuzz_open(options.seed, options.count, options.stop)
    start, failed = time.time(), 0
    tally: collections.Counter[str] = collections.Counter()
    reasons: collections.Counter[str] = collections.Counter()
    for seed in range(options.seed, options.seed + options.count):
        rng = np.random.default_rng(seed)
        model = random_model(
            lambda n, rng=rng: int(rng.integers(n)),
            1 + seed % options.steps,
            seed=seed,
            constants=options.constants,
        )
        sets = (KeepSet(seed, 0.5), KeepSet(seed + 1, 0.8, "global"), KeepSet(seed + 2, 0.4, round_to=2))
        try:
            outcome = examine(model, sets, head_dims=options.head_dims)
        except Exception:
            failed += 1
            print(f"--- seed {seed}\n{traceback.format_exc()}")
            print(onnx.printer.to_text(_without_values(model)))
            if failed >= options.stop:
                break
            continue
        _count(outcome, tally, reasons)
    total = options.count
    print(f"{total} models, {failed} failed, {time.time() - start:.0f} s; {dict(tally)}")
    for reason, times in reasons.most_common(12):
        print(f"{times:6d} lanes frozen: {reason}")
    return 1 if failed else 0


def _fuzz_open(first: int, count: int, stop: int) -> int:
    """Run models with open sizes, each at several sizes, and beside it the same model with fixed ones."""
    start, failed = time.time(), 0
    tally: collections.Counter[str] = collections.Counter()
    for seed in range(first, first + count):
        try:
            outcome = examine_open(seed)
        except Exception:
            failed += 1
            print(f"--- seed {seed}\n{traceback.format_exc()}")
            if failed >= stop:
                break
            continue
        tally["lanes removed"] += outcome.removed
        tally["with fixed sizes"] += outcome.removed_fixed
        tally["runs compared"] += outcome.ran
        tally["compared in float64"] += outcome.in_double
    share = tally["lanes removed"] / max(tally["with fixed sizes"], 1)
    print(f"{count} models, {failed} failed, {time.time() - start:.0f} s; {dict(tally)}; share {share:.3f}")
    return 1 if failed else 0


def _fuzz_bodies(options: argparse.Namespace) -> int:
    """Run models with bodies, each with several feeds."""
    start, failed = time.time(), 0
    tally: collections.Counter[str] = collections.Counter()
    reasons: collections.Counter[str] = collections.Counter()
    for seed in range(options.seed, options.seed + options.count):
        model = bodies_model(seed, options.steps)
        try:
            _count(examine_bodies(model, seed, head_dims=options.head_dims), tally, reasons)
        except Exception:
            failed += 1
            print(f"--- seed {seed}\n{traceback.format_exc()}")
            print(onnx.printer.to_text(_without_values(model)), flush=True)
            if failed >= options.stop:
                break
    print(f"{options.count} models, {failed} failed, {time.time() - start:.0f} s; {dict(tally)}")
    for reason, times in reasons.most_common(12):
        print(f"{times:6d} lanes frozen: {reason}")
    return 1 if failed else 0


def _count(outcome: Outcome, tally: collections.Counter[str], reasons: collections.Counter[str]) -> None:
    tally["with something prunable"] += bool(outcome.prunable)
    tally["prunable lanes"] += outcome.prunable
    tally["frozen lanes"] += sum(outcome.frozen.values())
    tally["lanes removed"] += outcome.removed
    tally["compared in float64"] += outcome.in_double
    tally["that end the runtime"] += outcome.crashed
    reasons.update(outcome.frozen)


def _without_values(model: onnx.ModelProto) -> onnx.ModelProto:
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for tensor in result.graph.initializer:
        if tensor.data_type != onnx.TensorProto.INT64 and len(tensor.dims):
            info = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            result.graph.value_info.append(info)
            tensor.name = ""
    kept = [t for t in result.graph.initializer if t.name]
    del result.graph.initializer[:]
    result.graph.initializer.extend(kept)
    return result


if __name__ == "__main__":
    sys.exit(main())
