"""The study that chooses the defaults: ways to a smaller network of the same number of steps, at several budgets.

    .venv/bin/python tools/study run --data fashion_mnist.npz --runs DIR [--workers 2] [--hours 3]
    .venv/bin/python tools/study report --runs DIR [--plot study.svg]

run: every piece (a way, a budget, a seed) is an ordinary `onnx-oto train` in a folder of its own and a line in
DIR/pieces.jsonl; pieces that are done are not done again, one that was left goes on (`onnx-oto resume`), and no new one
begins after --hours. All ways see the same images the same number of times: those with two parts take half of the
epochs for each. 5,000 of the training images are set apart: by them the epoch that is handed back is chosen, and so may
defaults be. report: tables with mean and standard error over the seeds, of validation and test images, and with --plot
a picture of accuracy over MACs (needs matplotlib).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # the folder is run, not imported

from pieces import BUDGETS, WAYS
from report import picture, tables
from running import run


def names(text: str) -> list[str]:
    """Return what a list with commas names."""
    return [part.strip() for part in text.split(",") if part.strip()]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run", help="do what is not done yet")
    runs.add_argument("--data", type=Path, required=True, help="npz with x_train, y_train, x_test, y_test")
    runs.add_argument("--arch", default="resnet8", help="see make_demo_assets.py")
    runs.add_argument("--ways", type=names, default=list(WAYS))
    runs.add_argument("--budgets", type=lambda text: [float(part) for part in names(text)], default=BUDGETS)
    runs.add_argument("--seeds", type=lambda text: [int(part) for part in names(text)], default=[0, 1, 2])
    runs.add_argument("--epochs", type=int, default=12)
    runs.add_argument("--batch", type=int, default=64)
    runs.add_argument("--val", type=int, default=5000, help="training images that are set apart")
    runs.add_argument("--train", type=int, default=0, help="images to train on, 0 for all others")
    runs.add_argument("--workers", type=int, default=2, help="pieces side by side, each on one core")
    runs.add_argument("--device", default="cpu", help="see onnx-oto train --help")
    runs.add_argument("--hours", type=float, default=24.0)
    told = commands.add_parser("report", help="print tables of what is done")
    told.add_argument("--plot", type=Path)
    for each in (runs, told):
        each.add_argument("--runs", type=Path, required=True)
    options = parser.parse_args()
    if options.command == "run":
        run(options)
    print(tables(options.runs))
    if options.command == "report" and options.plot is not None:
        picture(options.runs, options.plot)


if __name__ == "__main__":
    main()
