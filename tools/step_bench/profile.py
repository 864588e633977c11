"""Where a step's time goes in ONNX Runtime: python -m step_bench.profile FOLDER [STEPS] [--by-shape].

FOLDER: as `step_bench.theirs` writes it. Prints milliseconds of a step by operator (median over the steps of each
kernel, added up), over all shards.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from onnx_oto.runtime import gradient_jobs
from step_bench.ours import session_for


def profiled(folder: Path, steps: int, threads: int, backend: str) -> tuple[list[Any], int]:
    """Return the events of the kernels of some steps, a list for each session, and the number of shards."""
    scratch = Path(tempfile.mkdtemp(prefix="profile-"))
    numbers = itertools.count()  # two sessions of one second would write one file
    plain = gradient_jobs.session_options

    def with_profile(_: int) -> Any:
        options = plain(threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(scratch / str(next(numbers)))
        return options

    gradient_jobs.session_options = with_profile
    session, _, batch, target = session_for(folder, backend)
    for _ in range(steps + 1):
        session.step(batch, target)
    shards = session.shards
    opened = [shard._session for form in session._forms for shard in form.shards]
    files = [Path(each.end_profiling()) for each in opened]
    return [json.loads(path.read_text(encoding="utf-8")) for path in files], shards


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("steps", type=int, nargs="?", default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--backend", default="auto", help="in this environment, which has to be the training build's"
    )
    parser.add_argument("--by-shape", action="store_true")
    parser.add_argument(
        "--least", type=float, default=0.01, help="share of a step below which a row is left out"
    )
    options = parser.parse_args()
    logs, count = profiled(options.folder, options.steps, options.threads, options.backend)
    total: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for events in logs:
        kernels = defaultdict(list)
        for event in events:
            if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
                kernels[event["args"]["node_index"], event["name"]].append(event)
        for found in kernels.values():
            own = found[1:]
            if not own:
                continue
            arguments = own[0]["args"]
            key = arguments["op_name"]
            if options.by_shape:
                shapes = [next(iter(each.values())) for each in arguments["input_type_shape"]]
                key += " " + " ".join("x".join(map(str, shape)) or "()" for shape in shapes)
            total[key] += statistics.median(event["dur"] for event in own) / 1e3
            calls[key] += 1
    whole = sum(total.values())
    print(f"{count} shards, {whole:.1f} ms in kernels, all shards together")
    for key, ms in total.most_common():
        if ms >= options.least * whole:
            print(f"{ms:9.2f} ms {100 * ms / whole:5.1f}% {calls[key]:4d} x {key}")


if __name__ == "__main__":
    main()
