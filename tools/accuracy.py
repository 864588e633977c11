"""Compare sparse training with dense training of the same length, over several seeds.

    .venv/bin/python tools/accuracy.py MODEL --data DATA --runs FOLDER [--epochs 8] [--sparsity 0.6] [--seeds 0,1,2]

Every run is an ordinary `onnx-oto train` in a folder of its own; finished runs are read, not repeated, so an
interrupted comparison goes on where it stopped. Prints a Markdown table: test accuracy of the compact (or dense)
model, parameters and MACs kept, wall time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--sparsity", type=float, default=0.6)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--scopes", default="global", help="global, dimension, or both with a comma")
    parser.add_argument("options", nargs="*", help="further options of `onnx-oto train`, behind --")
    arguments = parser.parse_args()
    kinds = {"dense": ["--optimizer", "dense"]}
    for scope in arguments.scopes.split(","):
        kinds[f"dhspg, {scope}"] = ["--scope", scope, "--sparsity", str(arguments.sparsity)]
    rows: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    for seed in arguments.seeds.split(","):
        for kind, options in kinds.items():
            folder = arguments.runs / f"{kind.replace(', ', '-')}-{arguments.epochs}-{seed}"
            rows[kind].append(run(arguments, folder, [*options, "--seed", seed]))
    print(table(rows, arguments))


def run(arguments: argparse.Namespace, folder: Path, options: list[str]) -> dict[str, Any]:
    """Return the result of one training run, from its folder if it is finished."""
    result = folder / "result.json"
    if not result.exists():
        command = [
            sys.executable,
            "-m",
            "onnx_oto",
            "train",
            str(arguments.model),
            "--data",
            str(arguments.data),
        ]
        command += ["--run", str(folder), "--epochs", str(arguments.epochs), "--overwrite", *options]
        subprocess.run([*command, *arguments.options], check=True, stdout=subprocess.DEVNULL)
    content: dict[str, Any] = json.loads(result.read_text())
    return content


def table(rows: dict[str, list[dict[str, Any]]], arguments: argparse.Namespace) -> str:
    """Return the results as a Markdown table, one line per kind of training."""
    lines = [
        f"{arguments.model.name}, {arguments.data.name}, {arguments.epochs} epochs, "
        f"sparsity {arguments.sparsity}, seeds {arguments.seeds}",
        "",
        "| training | accuracy by seed | mean | groups zero | parameters kept | MACs kept | seconds |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for kind, results in rows.items():
        values = [r["metric"]["compact"] for r in results]
        last = results[-1]
        lines.append(
            f"| {kind} | {', '.join(f'{v:.4f}' for v in values)} | {statistics.mean(values):.4f} "
            f"| {last['sparsity']['achieved']:.4f} | {last['params']['after'] / last['params']['before']:.1%} "
            f"| {last['macs']['after'] / last['macs']['before']:.1%} "
            f"| {statistics.mean(r['seconds'] for r in results):.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
