"""Time analysis and a 50 % prune against Torch-Pruning, side by side in one run.

    .venv/bin/python tools/side_by_side.py FOLDER --torch PYTHON [--models resnet50,swin_t] [--runs 3] [--cpu]

FOLDER holds the models as `<torchvision name>.onnx` (tools/zoo torchvision-table -o FOLDER). PYTHON is the
interpreter of an environment with torch, torchvision and torch-pruning. The two tools take turns, each run in a
process of its own; the clock runs inside the processes, around the work alone (no imports, no loading of files, no
verification). A run of Torch-Pruning that takes longer than --limit is ended. --cpu: seconds of the processor, of one
thread, for a machine that others use too. Prints a Markdown table of medians.

Analysis is what each needs to know which channels depend on each other: ours the normal form (which includes shape
inference), labels and lanes; theirs a forward pass that is traced, and the dependency graph of its modules.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

OURS = """
import json, sys, time
import onnx.reference, onnx_graphsurgeon, onnx_oto.surgery.knife
from onnx_oto.model import load, normal_form
from onnx_oto.model.graph.payloads import Payloads
from onnx_oto.surgery import compact
from onnx_oto.zigs import analyse, choose, score
payloads = Payloads()
model = load(sys.argv[1], payloads=payloads)
clock = getattr(time, sys.argv[2])
begin = clock()
normal = normal_form(model, in_place=True)
analysis = analyse(normal.model, knowledge=normal.knowledge, payloads=payloads)
middle = clock()
small = compact(analysis, choose(analysis, score(analysis, "magnitude"), 0.5).drop)
end = clock()
left = analyse(small).params
print(json.dumps({"analysis": middle - begin, "whole": end - begin, "removed": 1 - left / analysis.params}))
"""

THEIRS = """
import json, sys, time
import torch
library = torch.library.Library("torchvision", "DEF")
library.define("nms(Tensor a, Tensor b, float c) -> Tensor")
library.define("qnms(Tensor a, Tensor b, float c) -> Tensor")
import torchvision
import torch_pruning as tp
torch.manual_seed(0)
model = getattr(torchvision.models, sys.argv[1])(weights=None).eval()
example = torch.randn(1, 3, 224, 224)
before = sum(p.numel() for p in model.parameters())
ignored = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m.out_features == 1000]
heads = {m: m.num_heads for m in model.modules() if isinstance(m, torch.nn.MultiheadAttention)}
clock = getattr(time, sys.argv[2])
begin = clock()
tp.DependencyGraph().build_dependency(model, example_inputs=example)
middle = clock()
pruner = tp.pruner.MagnitudePruner(
    model, example, importance=tp.importance.MagnitudeImportance(p=2), pruning_ratio=0.5,
    ignored_layers=ignored, num_heads=heads)
pruner.step()
end = clock()
after = sum(p.numel() for p in model.parameters())
print(json.dumps({"analysis": middle - begin, "whole": end - middle, "removed": 1 - after / before}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--torch", required=True, help="python with torch, torchvision, torch-pruning")
    parser.add_argument("--models", default="resnet50,densenet121,vit_b_32,convnext_tiny,swin_t")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--limit", type=float, default=250.0, help="seconds of one run")
    parser.add_argument("--cpu", action="store_true", help="seconds of the processor, of one thread")
    options = parser.parse_args()
    clock = "process_time" if options.cpu else "perf_counter"
    environment = os.environ | (dict.fromkeys(THREADS, "1") if options.cpu else {})
    print(
        "| model | analysis, ours | Torch-Pruning | ratio | whole prune, ours | Torch-Pruning | ratio | removed |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in options.models.split(","):
        ours, theirs = [], []
        for _ in range(options.runs):
            model = str(options.folder / f"{name}.onnx")
            ours.append(run([sys.executable, "-c", OURS, model, clock], environment))
            if None not in theirs:
                theirs.append(run([options.torch, "-c", THEIRS, name, clock], environment, options.limit))
        cells = []
        for key in ("analysis", "whole"):
            own, other = median(ours, key), median(theirs, key)
            told = f"over {options.limit:.0f} s" if other is None else f"{other:.2f} s"
            ratio = "" if own is None or other is None else f"{own / other:.2f}"
            cells += [f"{own:.2f} s", told, ratio]
        shares = " / ".join("-" if row is None else f"{row['removed']:.3f}" for row in (ours[0], theirs[0]))
        print(f"| {name} | {' | '.join(cells)} | {shares} |", flush=True)


def median(rows: list[dict[str, float] | None], key: str) -> float | None:
    """Return the median of the runs, None if one was ended."""
    found = [row[key] for row in rows if row is not None]
    return statistics.median(found) if len(found) == len(rows) else None


def run(
    command: list[str], environment: dict[str, str], limit: float | None = None
) -> dict[str, float] | None:
    """Return what a process printed as its last line, None if it was ended after so many seconds."""
    try:
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, env=environment, timeout=limit
        )
    except subprocess.TimeoutExpired:
        return None
    result: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


if __name__ == "__main__":
    main()
