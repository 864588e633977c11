"""Virtual environments, one per framework, made once and kept in the cache folder."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

TORCH = (
    ("torch==2.13.0", "onnx>=1.21", "onnxscript>=0.7", "numpy"),
    ("--no-deps", "torchvision==0.28.0", "timm==1.0.31"),
    ("transformers>=5.0", "pillow", "safetensors"),
)
REQUIREMENTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "torch": TORCH,
    "keras": (("tensorflow-cpu>=2.16", "tf2onnx>=1.17", "onnx"),),
    "jax": (("jax[cpu]", "jax2onnx", "flax", "onnx"),),
    "paddle": (("paddlepaddle", "paddle2onnx", "packaging", "setuptools"),),
    "sklearn": (("scikit-learn", "skl2onnx", "onnx"),),
}
"""Arguments of the `pip install` calls that make each environment, in order."""

FRAMEWORK_OF_SET = {
    "torchvision-table": "torch",
    "torchvision": "torch",
    "timm": "torch",
    "transformers": "torch",
    "extra": "torch",
    "open": "torch",
    "trained": "torch",
    "keras": "keras",
    "jax": "jax",
    "paddle": "paddle",
    "sklearn": "sklearn",
}


def environment(framework: str, cache: Path) -> Path:
    """Return the Python of the framework's environment under `cache`, made now unless it is there.

    Raises subprocess.CalledProcessError when a package cannot be installed; a half-made environment is not
    taken for a finished one.
    """
    folder = cache / framework
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    done = folder / "complete"
    if done.exists():
        return python
    print(f"making the {framework} environment in {folder}", file=sys.stderr)
    venv.create(folder, with_pip=True, clear=True)
    for arguments in REQUIREMENTS[framework]:
        subprocess.run([str(python), "-m", "pip", "install", "-q", *arguments], check=True)
    done.write_text("\n".join(" ".join(line) for line in REQUIREMENTS[framework]) + "\n", encoding="utf-8")
    return python
