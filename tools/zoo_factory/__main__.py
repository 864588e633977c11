"""`tools/zoo SET -o FOLDER`: make the models of a set, each in a process of its own, resumably."""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from zoo_factory.environments import FRAMEWORK_OF_SET, environment
from zoo_factory.options import Options

Facts = dict[str, object]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the command line as a namespace."""
    parser = argparse.ArgumentParser(prog="tools/zoo", description=__doc__)
    parser.add_argument("set", choices=sorted(FRAMEWORK_OF_SET), help="which models")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the ONNX files")
    parser.add_argument("--limit", type=int, help="at most this many models")
    parser.add_argument(
        "--only", metavar="PATTERN", action="append", help="names to make (wildcards; repeatable)"
    )
    parser.add_argument("--bn", choices=("folded", "kept"), default="folded", help="BatchNormalization")
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
    python = args.python or str(environment(FRAMEWORK_OF_SET[args.set], args.cache))
    names = _names(python, args.set, args.only, args.limit)
    if args.list:
        print("\n".join(names))
        return 0
    args.output.mkdir(parents=True, exist_ok=True)
    options = Options(args.bn, args.exporter, args.static, args.seed)
    failures = _Failures(args.output / "failures.json")
    made = there = failed = 0
    for i, name in enumerate(names, 1):
        path = args.output / f"{name}.onnx"
        if path.exists() or (name in failures.known and not args.retry):
            there += 1
            continue
        facts = _make(python, args.set, name, path, options, args.timeout)
        failures.note(name, facts.get("error"))
        failed += "error" in facts
        made += "error" not in facts
        _append(args.output / "manifest.jsonl", {**facts, **asdict(options)})
        print(f"[{i}/{len(names)}] {name}: {_line(facts)}", file=sys.stderr, flush=True)
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


def _make(python: str, set_name: str, name: str, path: Path, options: Options, timeout: float) -> Facts:
    """Return the facts of a model made in a process of its own, or its error. The process group is ended."""
    command = [
        python,
        "-m",
        "zoo_factory.worker",
        "make",
        set_name,
        name,
        str(path),
        json.dumps(asdict(options)),
    ]
    threads = {key: str(min(2, os.cpu_count() or 1)) for key in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    begin = time.perf_counter()
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, **threads, "HF_HUB_OFFLINE": "1", "TF_CPP_MIN_LOG_LEVEL": "3"},
    ) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            out, err = "", f"not finished in {timeout:g} s"
        except KeyboardInterrupt:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode == 0:
        return dict(json.loads(out.strip().splitlines()[-1]))
    path.with_name(path.name + ".partial").unlink(missing_ok=True)
    lines = [line.strip() for line in err.strip().splitlines() if line.strip()] or ["no message"]
    return {
        "model": name,
        "error": f"exit {process.returncode}: " + " | ".join(lines[-3:])[-600:],
        "seconds": round(time.perf_counter() - begin, 1),
    }


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
