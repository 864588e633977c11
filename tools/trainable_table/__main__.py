"""`tools/trainable`: train every model for some steps on one batch, and write which can be trained.

Without --source the models are made by `tools/zoo` first (a long time and tens of gigabytes). Rows are kept, one JSON
line a model, so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from trainable_table.collection import PARTS, make
from trainable_table.forks import end, prepare, printed, process
from trainable_table.probe import Task, probe
from trainable_table.table import RESULTS, Row, page, summary

ROOT = Path(__file__).resolve().parents[2]
RUNNING: set[int] = set()
"""Process groups of the probes under way: ended with the tool."""
LOCK = threading.Lock()


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the command line as a namespace."""
    parser = argparse.ArgumentParser(
        prog="tools/trainable", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--source",
        type=Path,
        action="append",
        help="folder of .onnx files to try (repeatable) instead of making them",
    )
    parser.add_argument(
        "--also", type=Path, action="append", default=[], help="a folder beside those that are made"
    )
    parser.add_argument("--zoo", type=Path, default=ROOT / "build" / "zoo", help="where models are made")
    parser.add_argument("--cache", type=Path, help="environments of tools/zoo")
    parser.add_argument("--limit", type=int, help="at most this many models of each set")
    parser.add_argument(
        "--only", metavar="PATTERN", default="*", help="NAME or FOLDER/NAME of the models (wildcards)"
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=ROOT / "docs" / "trainable.md", help="markdown page"
    )
    parser.add_argument(
        "--log", type=Path, default=ROOT / "build" / "trainable" / "rows.jsonl", help="one row a model"
    )
    parser.add_argument("--jobs", type=int, default=1, help="models at once")
    parser.add_argument("--timeout", type=float, default=600, help="seconds for one model")
    parser.add_argument("--samples", type=int, default=5, help="of the batch")
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0, help="of inputs, targets and training")
    parser.add_argument("--backend", default="auto", help="of `onnx-oto train`")
    parser.add_argument("--redo", action="append", choices=RESULTS, default=[], help="do such rows again")
    parser.add_argument(
        "--beside", type=Path, metavar="LOG", help="show the rows of another backend beside those of --log"
    )
    parser.add_argument("--note", default="", help="a paragraph of the page, such as what has not been run")
    parser.add_argument("--page", action="store_true", help="write the page from the rows there are and stop")
    return parser.parse_args(arguments)


def main() -> int:
    """Fill in the missing rows and write the page; return 1 if something is wrong or crashed."""
    args = parse()
    args.log.parent.mkdir(parents=True, exist_ok=True)
    rows = read(args.log)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    if not args.page:
        prepare(ROOT)
        kept = {name: row for name, row in rows.items() if row["result"] not in args.redo}
        missing = [(name, path) for name, path in _models(args) if name not in kept]
        missing.sort(key=lambda each: each[1].stat().st_size)  # what is soon known comes first
        with ThreadPoolExecutor(args.jobs) as pool:
            for i, row in enumerate(pool.map(lambda each: _probe(*each, args), missing), 1):
                rows[row["model"]] = row
                _append(args.log, row)
                print(f"[{i}/{len(missing)}] {_progress(row)}", file=sys.stderr, flush=True)
    shown = [rows[name] for name in sorted(rows) if is_meant(name, args.only)]
    args.output.parent.mkdir(parents=True, exist_ok=True)
    beside = read(args.beside) if args.beside else {}
    _write(args.output, page(shown, "tools/trainable", beside, args.note))
    print(f"{summary(shown)} -> {args.output}")
    return 1 if any(row["result"] in ("wrong", "crash") for row in shown) else 0


def _models(args: argparse.Namespace) -> Iterator[tuple[str, Path]]:
    """Yield the name FOLDER/NAME and the file of every model that is asked for."""
    folders = args.source
    if folders is None:
        parts = [part for part in PARTS if _may_match(part.name, args.only)]
        folders = [*args.also, *(make(part, args.zoo, args.cache, args.limit) for part in parts)]
    for folder in folders:
        files = sorted(folder.resolve().glob("*.onnx"))
        if not files:
            print(f"no .onnx files in '{folder}'", file=sys.stderr)
        for path in files:
            name = f"{path.parent.name}/{path.stem}"
            if is_meant(name, args.only):
                yield name, path


def is_meant(name: str, pattern: str) -> bool:
    """Say whether a pattern names FOLDER/NAME, or NAME in whatever folder.

    >>> is_meant("extra/unet", "unet*"), is_meant("extra/unet", "extra/*"), is_meant("extra/unet", "extra")
    (True, True, False)
    """
    return fnmatch.fnmatchcase(name if "/" in pattern else name.split("/")[1], pattern)


def _may_match(part: str, pattern: str) -> bool:
    return "/" not in pattern or fnmatch.fnmatchcase(part, pattern.split("/")[0])


def read(log: Path) -> dict[str, Row]:
    """Return the rows by model, the last one of each."""
    if not log.exists():
        return {}
    rows = (json.loads(line) for line in log.read_text(encoding="utf-8").splitlines() if line.strip())
    return {row["model"]: row for row in rows}


def _probe(name: str, path: Path, args: argparse.Namespace) -> Row:
    """Return the row of one model, tried in a process group of its own that is ended with it."""
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="trainable-", ignore_cleanup_errors=True) as folder:
        task = Task(str(path), folder, args.samples, args.steps, args.seed, args.backend)
        row = {"model": name, **_run(task, args.timeout)}
    row.pop("stage", None)
    return {**row, "seconds": round(time.perf_counter() - begin, 1)}


def _run(task: Task, timeout: float) -> Row:
    """Return what a probe says of its task, and how it ends."""
    folder = Path(task.folder)
    tried = process(probe, folder, task)
    with LOCK:  # starting one changes what all threads share
        tried.start()
    assert tried.pid is not None
    RUNNING.add(tried.pid)
    try:
        tried.join(timeout)
        late = tried.exitcode is None
        if late:
            end(tried.pid)
            tried.join()
    finally:
        RUNNING.discard(tried.pid)
    row: Row = {}
    for line in printed(folder, "out").splitlines():
        if line.startswith("{"):
            row.update(json.loads(line))
    if late:
        return {
            **row,
            "result": "timeout",
            "reason": f"in {row.get('stage')}: not finished in {timeout:g} s",
        }
    if "result" not in row:
        last = printed(folder, "err").strip().splitlines()[-1:] or [f"exit {tried.exitcode}"]
        return {**row, "result": "crash", "reason": f"in {row.get('stage')}: {last[0][:300]}"}
    return row


def _end(number: int, frame: object) -> None:
    """End the probes and the tool at once; the rows so far are in the log."""
    for group in RUNNING:
        end(group)
    os._exit(128 + number)


def _append(path: Path, row: Row) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def _write(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def _progress(row: Row) -> str:
    losses = f" {row['first']:.4g} -> {row['last']:.4g}" if "first" in row else ""
    return f"{row['model']} ({row['seconds']:.0f} s): {row['result']}{losses} {row.get('reason', '')}"[:300]


if __name__ == "__main__":
    sys.exit(main())
