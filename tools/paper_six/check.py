"""Compare the networks with PyTorch's: the same weights give the same outputs, and as many parameters.

    PYTHONPATH=tools .venv/bin/python -m paper_six.check --torch ENVIRONMENT/bin/python [NETWORK...]

ENVIRONMENT has torch and torchvision. ResNet-18, ResNet-50, VGG16, DenseNet-121 and ConvNeXt-T are torchvision's, with
OTO's first and last layers for small images; the others are written down in `modules`. First values are compared too:
the spread of every weight with 2,000 numbers or more, with that of the network as PyTorch makes it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import numpy_helper

from paper_six.form import Form
from paper_six.networks import NETWORKS

SMALL, LARGE = Form(3, 32, 10), Form(3, 224, 1000)
CASES = {
    **{f"{name}-small": (name, SMALL) for name in NETWORKS},
    **{f"{name}-large": (name, LARGE) for name in ("resnet18", "resnet50", "vgg16", "vgg16_bn")},
    **{f"{name}-large": (name, LARGE) for name in ("densenet121", "convnext_t", "stacked_unets")},
    "stacked_unets-28": ("stacked_unets", Form(1, 28, 10)),
}
TOLERANCE = 1e-4
"""Of the largest output: float32 sums in another order, over as many layers as there are."""
SPREAD = 0.1


def main() -> int:
    """Print a line for every case; return 1 if one differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--torch", required=True, help="interpreter of an environment with torch and torchvision"
    )
    parser.add_argument("cases", nargs="*", help=", ".join(CASES))
    asked = parser.parse_args()
    wrong = 0
    for case in asked.cases or CASES:
        with tempfile.TemporaryDirectory(prefix="paper-check-") as scratch:
            found = compared(case, asked.torch, Path(scratch))
        bad = found["error"] > TOLERANCE or found["parameters"][0] != found["parameters"][1]
        bad |= found["spread"] is not None and found["spread"] > SPREAD
        wrong += bad
        print(f"{'WRONG ' if bad else ''}{case}: {json.dumps(found)}", flush=True)
    return 1 if wrong else 0


def compared(case: str, torch: str, folder: Path) -> dict[str, object]:
    """Return what the other side found: error, parameters (ours, theirs), spread."""
    name, form = CASES[case]
    model = NETWORKS[name](form, 0)
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    rng = np.random.default_rng(0)
    for key, value in arrays.items():  # so that a mistake in any of them shows
        if (value.ndim == 1 and value.dtype == np.float32) or key.endswith("layer_scale"):
            arrays[key] = rng.uniform(0.5, 1.5, value.shape).astype(np.float32)
    first = {tensor.name: float(numpy_helper.to_array(tensor).std()) for tensor in model.graph.initializer}
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(arrays[tensor.name], tensor.name))
    x = rng.normal(size=(2, form.channels, form.size, form.size)).astype(np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"image": x})
    np.savez(folder / "ours.npz", **{f"p|{key}": value for key, value in arrays.items()}, x=x, y=y)
    (folder / "first.json").write_text(json.dumps(first), encoding="utf-8")
    command = [torch, "-m", "paper_six.modules", name, case.rpartition("-")[2], str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{case}: {done.stderr.strip()[-2000:]}")
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    sys.exit(main())
