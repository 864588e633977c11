"""`verify`: do two model files compute the same?"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_oto.errors import DataError, StorageError
from onnx_oto.model import load
from onnx_oto.verify import Verdict, compare


def verify_files(
    full: str | os.PathLike[str],
    compact: str | os.PathLike[str],
    *,
    inputs: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> Verdict:
    """Return the verdict on two model files, on random inputs or those of an npz file keyed by input name."""
    left, right = load(full), load(compact)
    names = [v.name for v in left.graph.input if v.name not in {t.name for t in left.graph.initializer}]
    feeds = None if inputs is None else [_read(inputs, names)]
    for model, path in ((right, compact),):
        theirs = [
            v.name for v in model.graph.input if v.name not in {t.name for t in model.graph.initializer}
        ]
        if theirs != names:
            raise DataError(f"'{path}' has inputs {theirs}, '{full}' has {names}: they cannot be compared")
    if len(left.graph.output) != len(right.graph.output):
        raise DataError(
            f"'{full}' has {len(left.graph.output)} outputs, '{compact}' has {len(right.graph.output)}"
        )
    return compare(left, right, seed=seed, inputs=feeds)


def _read(path: str | os.PathLike[str], names: list[str]) -> dict[str, npt.NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [n for n in names if n not in archive]
            if missing:
                raise DataError(f"'{path}' lacks input {missing[0]!r}: it holds {sorted(archive.files)}")
            return {name: archive[name] for name in names}
    except OSError as error:
        raise StorageError(f"cannot read '{path}': {error.strerror or error}") from None
    except ValueError as error:
        raise DataError(f"'{path}' is no npz file of plain arrays: {error}") from None
