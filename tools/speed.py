"""Is a smaller model a faster one? Prunes models without training and measures them where they will be served.

    python tools/speed.py MODEL... --python /path/to/python [--threads 2] [--for macs=0.5,latency=0.5,sparsity=0.3]

For every model and goal: `onnx_oto.prune` with its defaults, full and compact model measured in turn by the runtime of
--python. One row each, in Markdown: MACs left, milliseconds, speed-up with the interval of the median, speed-up as a
share of what the MACs promise, and for a budget of latency how far off it is.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import onnx_oto
from onnx_oto.runtime.timing import Latencies

HEAD = (
    "| model | goal | groups removed | MACs left | full, ms | compact, ms | speed-up | of the MACs' | latency left |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


def row(model: Path, name: str, amount: float, python: str, threads: int, folder: Path) -> str:
    """Return a row of the table."""
    table = folder / f"{model.stem}.json"
    options = {name: amount, "python": python, "threads": threads}
    if name == "latency":
        options["table"] = table
    result = onnx_oto.prune(
        model, folder / "compact.onnx", **options, say=lambda text: print(text, file=sys.stderr)
    )
    summary, latency = result.summary, result.summary.latency
    if not isinstance(latency, Latencies):
        return f"| {model.stem} | {name} {amount:g} | not measured: {latency} |"
    faster = latency.full.median / latency.compact.median
    low, high = (1 / bound for bound in reversed(latency.ratio))
    promised = 1 / summary.macs.kept
    mark = " SLOWER" if latency.is_slower else ""
    return (
        f"| {model.stem} | {name} {amount:g} | {summary.removed / summary.prunable:.1%} | {summary.macs.kept:.1%} | "
        f"{latency.full.median:.3g} | {latency.compact.median:.3g} | {faster:.2f} ({low:.2f} to {high:.2f}){mark} | "
        f"{faster / promised:.2f} | {1 / faster:.3f} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--for", dest="goals", default="macs=0.5,latency=0.5")
    arguments = parser.parse_args()
    goals = [
        (name, float(amount)) for name, _, amount in (g.partition("=") for g in arguments.goals.split(","))
    ]
    print(HEAD, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for model in arguments.models:
            for name, amount in goals:
                try:
                    line = row(model, name, amount, arguments.python, arguments.threads, Path(folder))
                except onnx_oto.OtoError as error:
                    line = f"| {model.stem} | {name} {amount:g} | {error} |"
                print(line, flush=True)


if __name__ == "__main__":
    main()
