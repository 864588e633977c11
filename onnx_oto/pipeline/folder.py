"""The folder of a run."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnx_oto.errors import StorageError, UsageError

METRICS = "metrics.jsonl"
CHECKPOINT = "checkpoint.npz"
LAST_GOOD = "last-good.npz"
TRAINED = "trained.onnx"
COMPACT = "compact.onnx"
RESULT = "result.json"
FILES = (METRICS, CHECKPOINT, LAST_GOOD, TRAINED, COMPACT, RESULT)


def require_free(run: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Raise UsageError when the folder holds an earlier run that may not be replaced."""
    if not overwrite and (Path(run) / METRICS).exists():
        raise UsageError(f"'{run}' holds an earlier run: give another folder, or --overwrite")


def make_folder(run: str | os.PathLike[str]) -> Path:
    """Return the folder, made when missing, without the files of an earlier run.

    Raises StorageError when it cannot be written.
    """
    folder = Path(run)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            (folder / name).unlink(missing_ok=True)
        (folder / METRICS).touch()
    except OSError as error:
        raise StorageError(f"cannot write to the folder '{folder}': {error.strerror or error}") from None
    return folder


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write one JSON object. Raises StorageError."""
    try:
        path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write '{path}': {error.strerror or error}") from None
