"""Time analysis and a 50 % prune against Torch-Pruning, side by side in one run.

    .venv/bin/python tools/side_by_side.py FOLDER --torch PYTHON [--models resnet50,densenet121,vit_b_32] [--runs 3]

FOLDER holds the models as `<torchvision name>.onnx` (tools/zoo torchvision-table -o FOLDER). PYTHON is the
interpreter of an environment with torch, torchvision and torch-pruning. The two tools take turns, each run in a
process of its own; the clock runs inside the processes, around the work alone (no imports, no loading of files, no
verification). Prints a Markdown table of medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

OURS = """
import json, sys, time
from onnx_oto.model import load, normal_form
from onnx_oto.surgery import compact
from onnx_oto.zigs import analyse, choose, score
model = load(sys.argv[1])
begin = time.perf_counter()
normal = normal_form(model, in_place=True)
analysis = analyse(normal.model, knowledge=normal.knowledge)
middle = time.perf_counter()
small = compact(analysis, choose(analysis, score(analysis, "magnitude"), 0.5).drop)
end = time.perf_counter()
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
begin = time.perf_counter()
tp.DependencyGraph().build_dependency(model, example_inputs=example)
middle = time.perf_counter()
pruner = tp.pruner.MagnitudePruner(
    model, example, importance=tp.importance.MagnitudeImportance(p=2), pruning_ratio=0.5,
    ignored_layers=ignored, num_heads=heads)
pruner.step()
end = time.perf_counter()
after = sum(p.numel() for p in model.parameters())
print(json.dumps({"analysis": middle - begin, "whole": end - middle, "removed": 1 - after / before}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--torch", required=True, help="python with torch, torchvision, torch-pruning")
    parser.add_argument("--models", default="resnet50,densenet121,vit_b_32")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    print(
        "| model | analysis, ours | Torch-Pruning | ratio | whole prune, ours | Torch-Pruning | ratio | removed |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in options.models.split(","):
        ours, theirs = [], []
        for _ in range(options.runs):
            ours.append(run([sys.executable, "-c", OURS, str(options.folder / f"{name}.onnx")]))
            theirs.append(run([options.torch, "-c", THEIRS, name]))
        cells = []
        for key in ("analysis", "whole"):
            a, b = (statistics.median(r[key] for r in rows) for rows in (ours, theirs))
            cells += [f"{a:.2f} s", f"{b:.2f} s", f"{a / b:.2f}"]
        shares = f"{ours[0]['removed']:.3f} / {theirs[0]['removed']:.3f}"
        print(f"| {name} | {' | '.join(cells)} | {shares} |", flush=True)


def run(command: list[str]) -> dict[str, float]:
    """Return what a process printed as its last line."""
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


if __name__ == "__main__":
    main()
