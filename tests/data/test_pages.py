"""Mapped files are read at a bounded resident memory, and as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from onnx_oto.data import Input, Labels, Table, Tables, batch_jobs, in_order, made_ahead
from onnx_oto.data import pages as module
from onnx_oto.data.pages import pages_of

COUNT, SIZE = 3000, 32 << 10
MIB = 1 << 20


@pytest.fixture
def mapped(tmp_path: Path) -> np.ndarray:
    """Return 94 MiB of samples in a file; the first number of each is its own."""
    path = tmp_path / "x.npy"
    written = np.lib.format.open_memmap(path, "w+", np.float32, (COUNT, SIZE // 4))
    written[:] = np.arange(COUNT)[:, None]
    written.flush()
    del written
    return np.asarray(np.load(path, mmap_mode="r"))


def resident() -> int:
    return int(psutil.Process().memory_info().rss)


@pytest.mark.skipif(module._ADVICE is None, reason="this system cannot be told")
@pytest.mark.parametrize("most", [4 * MIB, 1 << 40])
def test_resident_memory_does_not_grow_with_what_was_read(
    mapped: np.ndarray, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checked, trained on and evaluated: three times 94 MiB; with the limit out of reach they stay."""
    monkeypatch.setattr(module, "MOST_HELD", most)
    before = resident()
    y = np.arange(COUNT) % 3
    tables = Tables(*(Table(split, {"": mapped}, {"y": y}) for split in ("train", "test")))
    data = tables.fit({"x": Input((SIZE // 4,), np.dtype(np.float32))}, {"y": Labels(classes=3)})
    grown = [resident() - before]
    for batch in made_ahead(batch_jobs(data.train, 16, seed=0, epoch=0), 2):
        np.testing.assert_array_equal(batch.inputs["x"][:, -1], batch.rows)
        grown.append(resident() - before)
    for batch in in_order(data.test, 50):
        np.testing.assert_array_equal(batch.inputs["x"][:, 0], batch.rows)
        grown.append(resident() - before)
    if most == 4 * MIB:
        assert max(grown) < 40 * MIB
    else:
        assert max(grown) > 80 * MIB


@pytest.mark.parametrize(
    "samples", [np.zeros((3, 2)), np.broadcast_to(np.zeros(()), (3, 2)), [1, 2], np.zeros(4)[:2].view()]
)
def test_what_is_not_mapped_has_no_pages(samples: Any) -> None:
    assert pages_of(samples) is None


def test_what_is_written_to_is_left_alone(tmp_path: Path) -> None:
    """Giving pages of a private copy back would lose what was written."""
    np.save(tmp_path / "x.npy", np.zeros((4, 2)))
    assert pages_of(np.load(tmp_path / "x.npy", mmap_mode="c")) is None
    assert pages_of(np.load(tmp_path / "x.npy", mmap_mode="r+")) is None
    assert pages_of(np.asarray(np.load(tmp_path / "x.npy", mmap_mode="r"))) is not None
