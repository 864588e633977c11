"""The proof that a device computes of vectors what numpy computes of arrays, before anything is trained there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_oto.errors import UnsupportedError
from onnx_oto.runtime.resident.room import Room
from onnx_oto.runtime.resident.vector import Vector

SIZE, GROUPS, WIDTH = 2048, 20, 32
FARTHEST = 1e-4
"""Relative to the largest element. Roundings make 1e-6; TF32 would make 1e-3."""


def require_exact(room: Room) -> None:
    """Raise UnsupportedError, naming the operation, where a device computes otherwise than numpy."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, SIZE)).astype(np.float32)
    x[-WIDTH:] = y[-WIDTH:] = 0.0
    labels = np.minimum(np.arange(SIZE) // 100, GROUPS).astype(np.int32)
    factors = rng.standard_normal(GROUPS + 1).astype(np.float32)
    rows = np.arange(SIZE, dtype=np.int32).reshape(-1, WIDTH)[:, ::-1].copy()
    rows_of_rows = np.array([np.arange(len(rows)), np.full(len(rows), len(rows))], np.int32)
    places, which = np.array([5, 900, 7], np.int32), np.array([1, 0, 1], np.int32)
    copies = np.array([[900, SIZE - 1], [5, 7]], np.int32)
    a, b = Vector.of(room, x), Vector.of(room, y)
    tied = x.copy()
    tied[[5, 7]] = x[5] + x[7]

    def adaptive(x: Any, y: Any) -> Any:
        return (x * 0.9 + y) / (np.sqrt(np.square(y) * 0.1) + 1e-3) - x * 2

    cases: dict[str, tuple[Callable[[], Any], npt.NDArray[Any]]] = {
        "a step": (lambda: adaptive(a, b), adaptive(x, y)),
        "a choice": (lambda: np.where(a > 0, b, a), np.where(x > 0, y, x)),
        "factors of groups": (lambda: a.spread(factors, labels) * a, factors[labels] * x),
        "zeros of groups": (
            lambda: np.where(a.spread(factors > 0, labels), b, a),
            np.where((factors > 0)[labels], y, x),
        ),
        "sums of groups": (lambda: a.sums([(a, b)], [rows])[0], (x * y).reshape(-1, WIDTH).sum(1)),
        "sums of sums": (lambda: a.sums([(b, b)], [rows, rows_of_rows])[0], np.array([np.dot(y, y), 0.0])),
        "a norm": (lambda: np.array(a.square_norm()), np.dot(x, x)),
        "gradients of copies": (lambda: _tied(a, places, copies, which), tied),
    }
    for name, (run, expected) in cases.items():
        found = np.asarray(run())
        if not np.abs(found - expected).max() <= FARTHEST * np.abs(expected).max():
            device = room.device
            raise UnsupportedError(
                f"device {device.name!r}: {device.provider} computes {name} otherwise than numpy, so a kernel of it is "
                "wrong: use another version of it, or --device cpu"
            )


def _tied(x: Vector, *arrays: npt.NDArray[np.int32]) -> Vector:
    found = x.copy()
    found.add_up(*arrays)
    return found
