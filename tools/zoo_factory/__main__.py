"""`tools/zoo SET -o FOLDER`: make the models of a set, each in a process of its own, resumably."""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from zoo_factory.environments import FRAMEWORK_OF_SET, environment
from zoo_factory.options import Options

Facts = dict[str, object]

THREADS = {key: str(min(2, os.cpu_count() or 1)) for key in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
QUIET = {"HF_HUB_OFFLINE": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the command line as a namespace."""
    parser = argparse.ArgumentParser(prog="tools/zoo", description=__doc__)
    parser.add_argument("set", choices=sorted(FRAMEWORK_OF_SET), help="which models")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the ONNX files")
    parser.add_argument("--limit", type=int, help="at most this many models")
    parser.add_argument(
        "--only", metavar="PATTERN", action="append", help="names to make (wildcards; repeatable)"
    )
    parser.add_argument(
        "--bn",
        choices=("folded", "kept", "training"),
        default="folded",
        help="BatchNormalization; training: kept, and exported in training mode (with --exporter torchscript)",
    )
    parser.add_argument(
        "--exporter", choices=("dynamo", "torchscript"), default="dynamo", help="of torch sets"
    )
    parser.add_argument("--static", action="store_true", help="fix the batch size")
    parser.add_argument("--seed", type=int, default=0, help="of weights and statistics")
    parser.add_argument("--timeout", type=float, default=600, help="seconds for one model")
    parser.add_argument("--retry", action="store_true", help="try again what failed in an earlier run")
    parser.add_argument("--list", action="store_true", help="print the names of the set and stop")
    parser.add_argument("--python", help="use this Python instead of an environment of our own")
    parser.add_argument(
        "--cache", type=Path, default=Path.home() / ".cache/onnx-oto-zoo", help="environments"
    )
    return parser.parse_args(arguments)


def main() -> int:
    """Make what is asked for and missing; return 1 if a model of this run failed."""
    args = parse()
    if args.bn == "training" and args.exporter != "torchscript":
        print("--bn training needs --exporter torchscript: dynamo has no training mode", file=sys.stderr)
        return 2
    python = args.python or str(environment(FRAMEWORK_OF_SET[args.set], args.cache))
    names = _names(python, args.set, args.only, args.limit)
    if args.list:
        print("\n".join(names))
        return 0
    args.output.mkdir(parents=True, exist_ok=True)
    options = Options(args.bn, args.exporter, args.static, args.seed)
    failures = _Failures(args.output / "failures.json")
    server = _Server(python, args.set, options, args.timeout, args.output / "worker.log")
    made = there = failed = 0
    for i, name in enumerate(names, 1):
        path = args.output / f"{name}.onnx"
        if path.exists() or (name in failures.known and not args.retry):
            there += 1
            continue
        facts = server.make(name, path)
        failures.note(name, facts.get("error"))
        failed += "error" in facts
        made += "error" not in facts
        _append(args.output / "manifest.jsonl", {**facts, **asdict(options)})
        print(f"[{i}/{len(names)}] {name}: {_line(facts)}", file=sys.stderr, flush=True)
    server.close()
    print(f"{made} made, {there} skipped (there, or failed before), {failed} failed")
    return 1 if failed else 0


class _Failures:
    """The failures file: name -> reason, rewritten after every change."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: Facts = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def note(self, name: str, reason: object) -> None:
        """Record the failure, or forget an earlier one when `reason` is None."""
        self.known.pop(name, None)
        if reason is not None:
            self.known[name] = reason
        self.path.write_text(json.dumps(self.known, indent=1) + "\n", encoding="utf-8")


class _Server:
    """The worker process of a set, started again when it dies; its own chatter goes to the log file."""

    def __init__(self, python: str, set_name: str, options: Options, timeout: float, log: Path) -> None:
        self.command = [
            python,
            "-m",
            "zoo_factory.worker",
            "serve",
            set_name,
            json.dumps(asdict(options)),
            str(timeout),
        ]
        self.log = log
        self.process: subprocess.Popen[str] | None = None

    def make(self, name: str, path: Path) -> Facts:
        """Return the facts of a model, or its error."""
        process = self.process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps([name, str(path.resolve())]) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if answer:
            return dict(json.loads(answer))
        self.close()
        return {"model": name, "error": f"the worker died, see {self.log}", "seconds": 0}

    def _start(self) -> subprocess.Popen[str]:
        with self.log.open("a", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, **QUIET, **THREADS},
            )
        return self.process

    def close(self) -> None:
        """End the worker."""
        if self.process is not None:
            self.process.communicate()
            self.process = None


def _names(python: str, set_name: str, only: list[str] | None, limit: int | None) -> list[str]:
    listed = subprocess.run(
        [python, "-m", "zoo_factory.worker", "list", set_name], capture_output=True, text=True, check=False
    )
    if listed.returncode:
        raise SystemExit(f"cannot list the set {set_name!r} with {python}:\n{listed.stderr.strip()[-2000:]}")
    names: list[str] = json.loads(listed.stdout.strip().splitlines()[-1])
    if only:
        names = [n for n in names if any(fnmatch.fnmatchcase(n, pattern) for pattern in only)]
    return names[:limit]


def _append(path: Path, facts: Facts) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(facts) + "\n")


def _line(facts: Facts) -> str:
    if "error" in facts:
        return f"FAILED after {facts['seconds']} s: {facts['error']}"
    size = float(str(facts["bytes"])) / 1e6
    notes = ", ".join(f"{k} {v}" for k, v in facts.items() if k not in ("model", "bytes", "seconds"))
    return f"{size:.1f} MB in {facts['seconds']} s ({notes})"


if __name__ == "__main__":
    sys.exit(main())
