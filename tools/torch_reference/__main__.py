"""`tools/against_torch`: gradients, running statistics and steps here against PyTorch's, model by model, resumably.

The networks are twenty of those of `tools/zoo trained`, and of those that have kinks (ReLU, MaxPool) a smooth form
beside it; PyTorch's environment is made as `tools/zoo` makes it.

The rule, for all models alike: on each of several batches, our distance from PyTorch in float64 and that of PyTorch in
float32, both of a single run; the median of ours over the batches is at most three times the median of theirs. Nothing
is chosen among runs. It holds for everything after one step, kinks or none, and for everything after many steps of
models without kinks and of smooth forms. After many steps with kinks errors scatter over orders of magnitude on both
sides, a run being good as long as no ReLU turns, and judge nothing: they are shown.
"""

from __future__ import annotations

import argparse
import ast
import fnmatch
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from zoo_factory.environments import environment

from torch_reference.measure import combined, compare, places_of
from torch_reference.steps import MODELS, SMOOTH
from torch_reference.table import page, summary, troubles

ROOT = Path(__file__).resolve().parents[2]
Row = dict[str, Any]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the command line as a namespace."""
    parser = argparse.ArgumentParser(
        prog="tools/against_torch", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only",
        metavar="PATTERN",
        action="append",
        help="models to compare instead (wildcards; repeatable; NAME+smooth is the smooth form)",
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=ROOT / "docs" / "against_torch.md", help="markdown page"
    )
    parser.add_argument(
        "--log", type=Path, default=ROOT / "build" / "against_torch" / "rows.jsonl", help="the rows"
    )
    parser.add_argument(
        "--files", type=Path, help="keep PyTorch's files here, one folder a model, and use them again"
    )
    parser.add_argument("--fresh", action="store_true", help="forget earlier rows")
    parser.add_argument("--redo", action="store_true", help="do rows with a trouble again")
    parser.add_argument("--seed", type=int, default=0, help="of weights, inputs and targets")
    parser.add_argument(
        "--shards",
        type=int,
        default=1,
        help="threads that share our batches; with kinks, judge smooth forms alone then",
    )
    parser.add_argument("--timeout", type=float, default=900, help="seconds for each side of one model")
    parser.add_argument(
        "--torch", metavar="PYTHON", help="use this Python with torch instead of an environment of our own"
    )
    parser.add_argument(
        "--cache", type=Path, default=Path.home() / ".cache/onnx-oto-zoo", help="environments"
    )
    return parser.parse_args(arguments)


def main() -> int:
    """Fill in the missing rows and write the page; return 1 if a model is not within the bounds."""
    args = parse()
    torch = args.torch or str(environment("torch", args.cache))
    args.log.parent.mkdir(parents=True, exist_ok=True)
    rows = {} if args.fresh else _read(args.log)
    names = _names(torch, args.only)
    for name in names:
        if name in rows and not (args.redo and troubles(rows[name])):
            continue
        if name.endswith(SMOOTH) and not rows.get(name.removesuffix(SMOOTH), {}).get("kinks", True):
            continue
        begin = time.perf_counter()
        row = {
            "model": name,
            **_compared(name, torch, args),
            "seconds": round(time.perf_counter() - begin, 1),
        }
        rows[name] = row
        with args.log.open("a", encoding="utf-8") as log:
            log.write(json.dumps(row) + "\n")
        print(
            f"{name} ({row['seconds']:.0f} s): {'; '.join(troubles(row)) or 'within'}"[:600],
            file=sys.stderr,
            flush=True,
        )
    shown = [rows[name] for name in names if name in rows]
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(page(shown), encoding="utf-8")
    print(f"{summary(shown)} -> {args.output}")
    return 1 if any(troubles(row) for row in shown) else 0


def _read(log: Path) -> dict[str, Row]:
    if not log.exists():
        return {}
    rows = (json.loads(line) for line in log.read_text(encoding="utf-8").splitlines() if line.strip())
    return {row["model"]: row for row in rows}


def _names(torch: str, only: list[str] | None) -> list[str]:
    done = _call([torch, "-m", "zoo_factory.worker", "list", "trained"], 300)
    if done.returncode:
        raise SystemExit(f"cannot list the networks with {torch}:\n{done.stderr.strip()[-2000:]}")
    names = ast.literal_eval(done.stdout.strip().splitlines()[-1])
    both = [form for name in names for form in (name, name + SMOOTH)]
    if not only:
        return [form for form in both if form.removesuffix(SMOOTH) in MODELS]
    return [form for form in both if any(fnmatch.fnmatchcase(form, pattern) for pattern in only)]


def _compared(name: str, torch: str, args: argparse.Namespace) -> Row:
    """Return the facts of one model, or the error of the side that failed."""
    with tempfile.TemporaryDirectory(prefix="against-torch-") as scratch:
        folder = args.files / name if args.files else Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "facts.json").exists():  # written last
            command = [torch, "-m", "torch_reference.theirs", name, str(folder), str(args.seed)]
            if trouble := _trouble("PyTorch", command, args.timeout):
                return {"error": trouble}
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        command = [sys.executable, "-m", "torch_reference.ours", str(folder), str(args.shards)]
        if trouble := _trouble("ours", command, args.timeout):
            return {"params": facts["params"], "error": trouble}
        return {"params": facts["params"], "kinks": facts["kinks"], **_measured(folder, facts)}


def _measured(folder: Path, facts: Row) -> Row:
    batches, places = [], None
    for index in range(facts["batches"]):
        with np.load(folder / f"ours-{index}.npz") as arrays:
            ours = dict(arrays)
        with np.load(folder / f"theirs-{index}.npz") as arrays:
            theirs = dict(arrays)
        places = places or places_of(ours, theirs, facts["parameters"])
        batches.append(compare(ours, theirs, facts["parameters"], places))
    return combined(batches)


def _trouble(side: str, command: list[str], seconds: float) -> str:
    """Run one side; return why it failed, "" if it did not."""
    try:
        done = _call(command, seconds)
    except subprocess.TimeoutExpired:
        return f"{side}: not finished in {seconds:g} s"
    if not done.returncode:
        return ""
    lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit {done.returncode}"]
    return f"{side}: {lines[-1][:500]}"


def _call(command: list[str], seconds: float) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join((str(ROOT), str(ROOT / "tools")))
    quiet = {"PYTHONWARNINGS": "ignore", "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=seconds, env={**os.environ, **quiet}
    )


if __name__ == "__main__":
    sys.exit(main())
