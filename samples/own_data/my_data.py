"""Data that a function makes: here log files with one measurement a line, turned into windows of a signal."""

import csv
from pathlib import Path

import numpy as np

WINDOW = 32


def load():
    """Return the arrays of `signals/*.csv`: x float32 [windows, 2, 32], and y, the machine that each is from."""
    arrays = {}
    for split in ("train", "test"):
        samples, labels = [], []
        for label, path in enumerate(sorted(Path("signals").glob(f"*-{split}.csv"))):
            with path.open(newline="") as file:
                rows = np.array(
                    [[float(row["pressure"]), float(row["flow"])] for row in csv.DictReader(file)]
                )
            windows = rows[: len(rows) // WINDOW * WINDOW].reshape(-1, WINDOW, 2).transpose(0, 2, 1)
            samples.append(windows.astype(np.float32))
            labels.append(np.full(len(windows), label))
        arrays |= {f"x_{split}": np.concatenate(samples), f"y_{split}": np.concatenate(labels)}
    return arrays
