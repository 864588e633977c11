"""`tools/sweep FOLDER`: inspect and prune every ONNX file of a folder, one row each, resumably."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from sweep_table.table import RESULTS, Row, summary, table
from sweep_table.task import Task

ROOT = Path(__file__).resolve().parents[2]
RUNNING: set[int] = set()
"""Process groups of the probes under way: ended with the sweep."""


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the command line as a namespace."""
    parser = argparse.ArgumentParser(prog="tools/sweep", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of .onnx files, or one file")
    parser.add_argument("-o", "--output", type=Path, help="markdown table (default build/sweep/FOLDER.md)")
    parser.add_argument("--sparsity", type=float, default=0.5, help="share of lanes to remove everywhere")
    parser.add_argument("--by", default="magnitude", help="score of the lanes")
    parser.add_argument("--seed", type=int, default=0, help="of random scores and inputs")
    parser.add_argument("--only", metavar="PATTERN", default="*", help="file names without .onnx (wildcards)")
    parser.add_argument("--head-dims", action="store_true", help="attention keeps its heads")
    parser.add_argument("--jobs", type=int, default=1, help="models at once")
    parser.add_argument("--timeout", type=float, default=300, help="seconds for one model")
    parser.add_argument(
        "--memory", type=float, default=12, help="GB of address space for one model, 0: no limit"
    )
    parser.add_argument("--latency", type=float, default=1.0, help="seconds of timing per model, 0: none")
    parser.add_argument(
        "--stock",
        default="",
        metavar="PYTHON",
        help="verify in this environment's onnxruntime, also on feeds that lie beside a model (NAME.npz)",
    )
    parser.add_argument("--openvino", action="store_true", help="verify in that environment's OpenVINO, too")
    parser.add_argument("--source", type=Path, default=ROOT, help="folder that holds the onnx_oto to try")
    parser.add_argument("--fresh", action="store_true", help="forget earlier rows")
    parser.add_argument("--redo", action="append", choices=RESULTS, default=[], help="do such rows again")
    return parser.parse_args(arguments)


def main() -> int:
    """Fill in the missing rows; return 1 if any row is wrong or crashed."""
    args = parse()
    files = sorted(args.folder.glob(f"{args.only}.onnx")) if args.folder.is_dir() else [args.folder]
    if not files or not files[0].exists():
        print(f"no .onnx files that match '{args.only}' in '{args.folder}'", file=sys.stderr)
        return 2
    output = args.output or ROOT / "build" / "sweep" / f"{args.folder.stem}.md"
    output.parent.mkdir(parents=True, exist_ok=True)
    log = output.with_suffix(".jsonl")
    known = {} if args.fresh else _known(log, args.redo)
    settings = {"sparsity": args.sparsity, "by": args.by, "seed": args.seed, "head_dims": args.head_dims}
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    missing = [f for f in files if not _same(known.get(f.stem), settings)]
    with ThreadPoolExecutor(args.jobs) as pool:
        for row in pool.map(lambda f: {**_probe(f, args), **settings}, missing):
            known[row["model"]] = row
            _write(log, "".join(json.dumps(r) + "\n" for r in known.values()))
            print(_progress(row), file=sys.stderr, flush=True)
    rows = [known[f.stem] for f in files]
    _write(
        output, table(rows, f"{args.folder.name}: {args.sparsity:.0%} of every prunable dimension removed")
    )
    print(f"{summary(rows)} -> {output}")
    return 1 if any(row["result"] in ("wrong", "crash") for row in rows) else 0


def _end(number: int, frame: object) -> None:
    """End the probes and the sweep at once; the rows so far are in the log."""
    for group in RUNNING:
        os.killpg(group, signal.SIGKILL)
    os._exit(128 + number)


def _known(log: Path, redo: list[str]) -> dict[str, Row]:
    if not log.exists():
        return {}
    rows = (json.loads(line) for line in log.read_text(encoding="utf-8").splitlines() if line.strip())
    return {row["model"]: row for row in rows if row["result"] not in redo}


def _same(row: Row | None, settings: Row) -> bool:
    return row is not None and all(row.get(key) == value for key, value in settings.items())


def _write(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def _probe(path: Path, args: argparse.Namespace) -> Row:
    """Return the row of one model, probed in a process group of its own that is ended with it."""
    memory = int(args.memory * 2**30)
    task = Task(
        str(path.resolve()),
        args.sparsity,
        args.by,
        args.seed,
        args.stock,
        memory,
        args.latency,
        head_dims=args.head_dims,
        openvino=args.openvino,
    )
    command = [sys.executable, "-m", "sweep_table.probe", json.dumps(asdict(task))]
    begin = time.perf_counter()
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=args.source,  # `python -m` looks there first
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(args.source.resolve()), str(ROOT / "tools")))},
    ) as process:
        RUNNING.add(process.pid)
        try:
            out, err = process.communicate(timeout=args.timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, _ = process.communicate()
            err = f"not finished in {args.timeout:g} s"
        finally:
            RUNNING.discard(process.pid)
    row: Row = {"model": path.stem}
    for line in out.splitlines():
        if line.startswith("{"):
            row.update(json.loads(line))
    row["seconds"] = round(time.perf_counter() - begin, 2)
    if "result" not in row or process.returncode:
        row["result"], row["reason"] = "crash", _reason(row.get("stage"), process.returncode, err)
    return row


def _reason(stage: object, code: int, err: str) -> str:
    lines = [line.strip() for line in err.strip().splitlines() if line.strip()] or [f"exit {code}"]
    where = [line for line in lines if line.startswith("File ") and "onnx_oto" in line][-1:]
    signal_name = f" ({signal.Signals(-code).name})" if code < 0 else ""
    return f"in {stage or 'start'}{signal_name}: {' '.join([lines[-1][:300], *where])}"


def _progress(row: Row) -> str:
    shares = " ".join(f"{k} {row[k]:.3f}" for k in ("ceiling", "removed_params", "removed_macs") if k in row)
    return f"{row['model']}: {row['result']} {shares} {row.get('reason', '')}"[:400]


if __name__ == "__main__":
    sys.exit(main())
