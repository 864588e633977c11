"""`tools/hostile`: run onnx-oto over hostile inputs and their twins, or kill it at random moments.

A hostile input must be refused (or handled, where that is right too) in one line, in time, in little memory, without a
trace on the disk; its twin must be accepted. Exits 1 when anything failed.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hostile_corpus import kill
from hostile_corpus.case import Case, Trial
from hostile_corpus.corpus import corpus
from hostile_corpus.judge import Limits, judge, last_line
from hostile_corpus.process import ROOT, attempt, end_all
from hostile_corpus.report import Outcome, Result, failure_lines, table

SAY_EVERY = 15.0


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the command line as a namespace."""
    parser = argparse.ArgumentParser(
        prog="tools/hostile", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=75, help="random byte flips, and as many truncations")
    parser.add_argument("--seed", type=int, default=0, help="of everything random")
    parser.add_argument("--only", metavar="PATTERN", default="*", help="cases to run: kind/name (wildcards)")
    parser.add_argument("--jobs", type=int, default=2, help="commands at once")
    parser.add_argument("--list", action="store_true", help="print the names of the cases and end")
    parser.add_argument("--timeout", type=float, default=30, help="seconds that a command may take")
    parser.add_argument("--memory", type=float, default=2, help="GB that a command may take")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the files of every trial there")
    parser.add_argument("--source", type=Path, default=ROOT, help="folder that holds the onnx_oto to try")
    parser.add_argument(
        "--kill",
        type=int,
        nargs="?",
        const=100,
        metavar="N",
        help="kill prune and train N times each instead",
    )
    return parser.parse_args(arguments)


def main() -> int:
    """Run the cases and print the table."""
    args = parse()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end_all)
    if args.kill is not None:
        return kill.run(args.kill, args.seed, args.source)
    cases = [c for c in corpus(args.count, args.seed) if fnmatch.fnmatchcase(c.title, args.only)]
    if args.list:
        print("\n".join(case.title for case in cases))
        return 0
    if not cases:
        print(f"no case matches '{args.only}': see --list", file=sys.stderr)
        return 2
    skipped = [case for case in cases if case.unprivileged and os.geteuid() == 0]
    begin = time.perf_counter()
    results = list(_run([case for case in cases if case not in skipped], args))
    failed = [result for result in results if result.failures]
    if args.json:
        print(json.dumps({"results": [r.as_json() for r in results], "skipped": [c.title for c in skipped]}))
        return 1 if failed else 0
    for result in failed:
        print(failure_lines(result))
    print(table(results))
    print(
        f"{len(results)} cases, {len(failed)} failed, {len(skipped)} skipped (an administrator does not meet them), "
        f"{time.perf_counter() - begin:.0f} s"
    )
    return 1 if failed else 0


def _run(cases: list[Case], args: argparse.Namespace) -> Iterator[Result]:
    """Yield the results in the order of the cases; a trial that several cases share runs once."""
    names: dict[Trial, str] = {}
    for case in cases:
        names.setdefault(case.hostile, f"{case.title}-hostile")
        names.setdefault(case.twin, f"{case.title}-twin")
    said = time.perf_counter()
    with ThreadPoolExecutor(args.jobs) as pool:
        running = {trial: pool.submit(_outcome, trial, name, args) for trial, name in names.items()}
        for number, case in enumerate(cases, 1):
            yield Result(case, running[case.hostile].result(), running[case.twin].result())
            if time.perf_counter() - said > SAY_EVERY:
                said = time.perf_counter()
                print(f"{number} of {len(cases)} cases", file=sys.stderr, flush=True)


def _outcome(trial: Trial, name: str, args: argparse.Namespace) -> Outcome:
    limits = Limits(args.timeout, int(args.memory * 2**30))
    if args.keep is None:
        with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
            seen = attempt(trial, Path(folder), limits, source=args.source)
    else:
        folder = args.keep.resolve() / name.replace("/", "-")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        seen = attempt(trial, folder, limits, source=args.source)
    reasons = tuple(judge(trial, seen, limits))
    return Outcome(seen.code, seen.seconds, seen.memory, last_line(seen.stderr)[:300], reasons)


if __name__ == "__main__":
    sys.exit(main())
