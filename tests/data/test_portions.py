"""Some samples of a batch are what the whole batch has there, and no others are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnx_oto.data import Augment, Batch, Input, Labels, Source, Table, Tables, batch_jobs, open_data
from onnx_oto.data.buckets import Along, Bucketed, lengths_of
from onnx_oto.data.callables import _Source
from onnx_oto.data.portions import Divisible, portion_of
from onnx_oto.data.repeating import Repeated
from onnx_oto.data.source import SAMPLE_WEIGHT
from onnx_oto.data.splitting import Chosen
from onnx_oto.data.weighing import Weighed

COUNT = 12
EVERY = Augment(flip=True, crop=2, zoom=0.5, cutout=3, brightness=0.2)


class Watched:
    """A column that notes which rows were read."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.read = values, set[int]()
        self.shape, self.dtype = values.shape, values.dtype

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        self.read.update(np.asarray(rows).tolist())
        return self.values[rows]


def images(augment: Augment | None = EVERY, *, weighted: bool = False) -> tuple[Source, Watched]:
    """Return images as a source, and the column that they are read from."""
    rng = np.random.default_rng(0)
    column = Watched(rng.integers(0, 256, (COUNT, 3, 8, 8)).astype(np.uint8))
    weights = rng.random(COUNT).astype(np.float32) if weighted else None
    table = Table("train", {"image": column}, {"y": rng.integers(0, 3, COUNT)}, weights)
    wanted = {"image": Input((3, 8, 8), np.dtype(np.float32))}
    found = Tables(table, table).fit(wanted, {"y": Labels((None,), 3)}, augment=augment).train
    column.read.clear()
    return found, column


def sequences() -> Source:
    rng = np.random.default_rng(1)
    ids = rng.integers(1, 9, (COUNT, 20))
    ids[np.arange(20)[None] >= rng.integers(1, 20, COUNT)[:, None]] = 0
    table = Table("train", {"ids": ids}, {"y": ids})
    source = Tables(table, table).fit({"ids": Input((20,), ids.dtype)}, {"y": Labels((None, 20), 9, -1)})
    along = Along(("ids",), 0, {"ids": 0}, {"y": 0}, {"y": -1})
    return Bucketed(source.train, along, (4, 8, 20), lengths_of(source.train, along))


def unknown() -> Source:
    return Bucketed(sequences().source, sequences().along, (4, 8, 20))  # type: ignore[attr-defined]


LABELS = Labels((None,), 3)
SOURCES: dict[str, Callable[[], Source]] = {
    "columns": lambda: images()[0],
    "as they are": lambda: images(None)[0],
    "a part": lambda: Chosen(images()[0], np.arange(COUNT)[::-1].copy()),
    "repeated": lambda: Repeated(images()[0], 1),
    "weighed": lambda: Weighed(images(weighted=True)[0], LABELS),
    "mixed": lambda: Weighed(images(weighted=True)[0], LABELS, np.ones(3, np.float32), 0.4),
    "sequences": sequences,
    "sequences of unknown lengths": unknown,
    "of a function": lambda: _Source("f", images()[0]),
}


def require_equal(found: Batch, whole: Batch, keep: np.ndarray) -> None:
    np.testing.assert_array_equal(found.rows, whole.rows[keep])
    for ours, all_ in ((found.inputs, whole.inputs), (found.targets, whole.targets)):
        assert ours.keys() == all_.keys()
        for name, array in ours.items():
            np.testing.assert_array_equal(array, all_[name][keep])
            assert array.dtype == all_[name].dtype


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
def test_a_portion_is_what_the_whole_batch_has_there(make: Callable[[], Source]) -> None:
    source = make()
    for seed, keep in enumerate(([0, 1, 2], [3, 4, 5, 6], [2, 5])):
        rows = np.random.default_rng(seed).permutation(COUNT)[:7]
        for drawn in (lambda s: np.random.default_rng(s), lambda s: None):
            whole = source.batch(rows, drawn(seed))
            require_equal(portion_of(source, rows, drawn(seed), np.array(keep)), whole, np.array(keep))


def test_patches(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    for folder in ("train", "val"):
        for number in range(5):
            for part, side in (("LR", 12), ("HR", 24)):
                place = tmp_path / folder / part / f"{number:04d}.png"
                place.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)).save(place)
    source = (
        open_data(tmp_path)
        .fit(
            {"lr": Input((3, 6, 6), np.dtype(np.float32))},
            {"y": Labels((None, 3, 12, 12))},
            augment=Augment(flip=True),
        )
        .train
    )
    assert isinstance(source, Divisible)
    rows, keep = np.array([4, 2, 0, 3]), np.array([1, 3])
    whole = source.batch(rows, np.random.default_rng(1))
    require_equal(portion_of(source, rows, np.random.default_rng(1), keep), whole, keep)


def test_no_other_samples_are_read() -> None:
    source, column = images()
    jobs = [list(batch_jobs(source, 6, seed=1, epoch=0, keep=np.arange(3) + start)) for start in (0, 3)]
    read = []
    for own in jobs:
        column.read.clear()
        for job in own:
            job()
        read.append(set(column.read))
    assert len(read[0]) == len(read[1]) == COUNT // 2
    assert not read[0] & read[1]


def test_what_is_not_divisible_is_read_whole() -> None:
    class Foreign:
        def __init__(self) -> None:
            self.source = images()[0]

        def __len__(self) -> int:
            return COUNT

        def batch(self, indices: np.ndarray, rng: np.random.Generator | None) -> Batch:
            return self.source.batch(indices, rng)

    rows, keep = np.arange(6), np.array([4, 5])
    whole = images()[0].batch(rows, np.random.default_rng(0))
    require_equal(portion_of(Foreign(), rows, np.random.default_rng(0), keep), whole, keep)
    assert SAMPLE_WEIGHT not in whole.targets
