"""`tools/against_oto`: the published DHSPG and ours, step by step: the largest difference of a parameter, per step.

Both train the same small network (two residual convolutions, a concatenation, BatchNormalization) from the same weights
on the same batches; each takes its gradients at its own parameters. In float64 the rule of `dhspg-published` has to
stay within 1e-9 of the package's; in float32 rounding grows with the steps, and is shown. The columns behind it say how
many groups are zero with the package, with `dhspg-published` and with `dhspg`, our default.

The package is installed beside PyTorch's environment, without what it requires: its optimizer needs torch alone.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from zoo_factory.environments import environment

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "only-train-once==2.0.16"


def parse() -> argparse.Namespace:
    """Return the command line as a namespace."""
    parser = argparse.ArgumentParser(
        prog="tools/against_oto", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=60, help="optimizer steps of every case (default: 60)")
    parser.add_argument("--every", type=int, default=5, help="show every so many steps (default: 5)")
    parser.add_argument("--time", action="store_true", help="time steps at the size of a ResNet-18 instead")
    parser.add_argument("--package", type=Path, help="folder that holds only_train_once, in place of our own")
    parser.add_argument("--torch", metavar="PYTHON", help="use this Python with torch, in place of our own")
    parser.add_argument(
        "--cache", type=Path, default=Path.home() / ".cache/onnx-oto-zoo", help="environments"
    )
    return parser.parse_args()


def main() -> int:
    """Run the comparison where torch is; return 1 if the two are not the same rule."""
    args = parse()
    torch = args.torch or str(environment("torch", args.cache))
    package = args.package or installed(torch, args.cache)
    module = "oto_reference.timing" if args.time else "oto_reference.compare"
    command = [torch, "-m", module, str(package), str(args.steps), str(args.every)]
    paths = os.pathsep.join((str(ROOT), str(ROOT / "tools")))
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, check=False).returncode


def installed(torch: str, cache: Path) -> Path:
    """Return the folder that holds the package, put there now unless it is."""
    folder = cache / PACKAGE.replace("==", "-")
    if not (folder / "only_train_once").is_dir():
        print(f"putting {PACKAGE} into {folder}", file=sys.stderr)
        command = [torch, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), PACKAGE]
        subprocess.run(command, check=True)
    return folder


if __name__ == "__main__":
    sys.exit(main())
