"""Measure how long the command line takes until it answers: medians of whole processes, in seconds.

.venv/bin/python tools/bench_startup.py [RUNS]

The cases take turns, so that what else the machine does meets all of them alike. `python -c pass` is the floor.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import onnx_oto

MODEL = Path(onnx_oto.__file__).parent / "assets" / "fashion_resnet.onnx"
OURS = [sys.executable, "-m", "onnx_oto"]
COMPLETE = {"_ONNX_OTO_COMPLETE": "bash_complete"}


def completion(line: str) -> dict[str, str]:
    """Return the environment by which bash asks for what may follow the last word of a line."""
    return {**COMPLETE, "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}


CASES: dict[str, tuple[list[str], dict[str, str], float | None]] = {
    "python -c pass": ([sys.executable, "-c", "pass"], {}, None),
    "import onnx_oto": ([sys.executable, "-c", "import onnx_oto"], {}, None),
    "--help": ([*OURS, "--help"], {}, 0.25),
    "--version": ([*OURS, "--version"], {}, 0.25),
    "a typo (inspct)": ([*OURS, "inspct"], {}, 0.25),
    "train --help": ([*OURS, "train", "--help"], {}, None),
    "completion of a command": (OURS, completion("onnx-oto in"), 0.3),
    "completion of an option": (OURS, completion("onnx-oto train --sp"), 0.3),
    "completion of a name": (OURS, completion("onnx-oto train --loss m"), 0.3),
    "inspect": ([*OURS, "inspect", str(MODEL)], {}, 0.6),
    "inspect --json": ([*OURS, "inspect", str(MODEL), "--json"], {}, 0.6),
}
"""What is run, what is added to its environment, and the most it should take."""


def seconds(command: list[str], environment: dict[str, str]) -> float:
    """Return the seconds of one process."""
    begin = time.perf_counter()
    subprocess.run(command, env={**os.environ, **environment}, capture_output=True, check=False)
    return time.perf_counter() - begin


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 11
    times: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(runs + 1):  # the first warms the disk's cache
        for name, (command, environment, _most) in CASES.items():
            times[name].append(seconds(command, environment))
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(
        f"medians of {runs} runs, Python {sys.version.split()[0]}, load {load:.1f} on {os.cpu_count()} cores"
    )
    for name, (_, _, most) in CASES.items():
        counted = times[name][1:]
        goal = "" if most is None else f"   at most {most}"
        print(f"{name:26} {statistics.median(counted):.3f}   (least {min(counted):.3f}){goal}")


if __name__ == "__main__":
    main()
