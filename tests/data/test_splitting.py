"""Samples that are set apart: none is in two parts, and a seed alone decides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnx_oto.data import Augment, Dataset, Input, Labels, Reading, Source, Table, Tables, in_order, open_data
from onnx_oto.errors import DataError, UsageError

FLOAT = np.dtype(np.float32)


def counted(samples: int, start: int = 0) -> np.ndarray:
    """Return samples that hold their own number."""
    return np.arange(start, start + samples, dtype=np.float32).reshape(-1, 1)


def fitted(path: Path, reading: Reading) -> Dataset:
    return open_data(path, reading).fit({"x": Input((1,), FLOAT)}, {})


def held(source: Source | None) -> list[int]:
    """Return the numbers of the samples of a split, in their order."""
    assert source is not None
    return [int(value) for batch in in_order(source, 7) for value in batch.inputs["x"][:, 0]]


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """Return the path of samples that nobody has split."""
    np.savez(tmp_path / "whole.npz", x_train=counted(200))
    return tmp_path / "whole.npz"


@pytest.mark.parametrize("val_share", [0.0, 0.001, 0.2, 0.9])
@pytest.mark.parametrize("test_share", [None, 0.001, 0.5])
def test_every_sample_is_in_one_part(whole: Path, val_share: float, test_share: float | None) -> None:
    reading = Reading(val_share=val_share, test_share=test_share, split_seed=3)
    opening, data = open_data(whole, reading), fitted(whole, reading)
    train, test = held(data.train), held(data.test)
    val = held(data.val) if data.val is not None else []
    assert sorted(train + val + test) == list(range(200))
    assert (opening.train.samples, opening.test.samples) == (len(train), len(test))
    assert (opening.val.samples if opening.val else 0) == len(val)
    assert len(test) == max(1, round(200 * (0.1 if test_share is None else test_share)))
    assert len(val) == (0 if not val_share else max(1, round((200 - len(test)) * val_share)))


def test_the_seed_of_the_split_decides_alone(whole: Path) -> None:
    first, same, other = (
        held(fitted(whole, Reading(val_share=0.2, split_seed=seed)).val) for seed in (1, 1, 2)
    )
    assert first == same != other


def test_what_was_set_apart_is_told(whole: Path) -> None:
    notes = fitted(whole, Reading(val_share=0.2, split_seed=4)).notes
    assert notes[-2:] == (
        "20 of 200 samples are test samples, drawn at random (--test-share 0.1, --split-seed 4)",
        "36 of 180 training samples are validation samples, drawn at random (--val-share 0.2, --split-seed 4)",
    )


def test_data_of_their_own_come_first(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    np.savez(path, x_train=counted(8), x_val=counted(3, 100), x_test=counted(4, 200))
    data = fitted(path, Reading())
    assert held(data.val) == [100, 101, 102]
    assert held(data.test) == [200, 201, 202, 203]
    with pytest.raises(
        UsageError, match=r"val-share is 0\.5, and the data have 3 validation samples of their own"
    ):
        open_data(path, Reading(val_share=0.5))
    with pytest.raises(
        UsageError, match=r"test-share is 0\.5, and the data have 4 test samples of their own"
    ):
        open_data(path, Reading(test_share=0.5))


def test_something_is_left_to_train_with(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x_train=counted(1))
    with pytest.raises(DataError, match=r"test-share is 0\.1, and there are 1 samples: none would be left"):
        open_data(tmp_path / "d.npz")
    np.savez(tmp_path / "d.npz", x_train=counted(2), x_test=counted(1))
    with pytest.raises(DataError, match=r"val-share is 0\.9, and there are 2 samples"):
        open_data(tmp_path / "d.npz", Reading(val_share=0.9))


def test_only_what_trains_is_augmented(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8)
    np.savez(tmp_path / "d.npz", x_train=images)
    opening = open_data(tmp_path / "d.npz", Reading(val_share=0.2))
    data = opening.fit({"x": Input((1, 8, 8), FLOAT)}, {}, augment=Augment(flip=True, crop=2))
    for source in (data.val, data.test):
        assert source is not None
        for batch in in_order(source, 5):
            assert np.array_equal(batch.inputs["x"][:, 0], images[batch.rows] * np.float32(1 / 255))


def test_labels_go_with_their_samples(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x_train=counted(60), y_train=np.arange(60))
    opening = open_data(tmp_path / "d.npz", Reading(val_share=0.3))
    data = opening.fit({"x": Input((1,), FLOAT)}, {"y": Labels(classes=60)})
    for source in (data.train, data.val, data.test):
        assert source is not None
        batch = source.batch(np.random.default_rng(0).permutation(len(source)), None)
        assert batch.inputs["x"][:, 0].tolist() == batch.targets["y"].tolist()


def test_what_has_no_meaning_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x_train=counted(60))
    with pytest.raises(UsageError, match=r"label is 'age': it has no meaning for '.*d\.npz' \(npz file with"):
        open_data(tmp_path / "d.npz", Reading(label="age"))


def test_columns_without_test_samples(tmp_path: Path) -> None:
    table = Table("train", {"": counted(50)}, {"y": np.arange(50) % 2})
    opening = open_data(Tables(table, classes=("a", "b"), notes=("made by hand",)), Reading(val_share=0.5))
    data = opening.fit({"x": Input((1,), FLOAT)}, {"y": Labels(classes=2)})
    assert (len(data.train), len(data.test)) == (23, 5)
    assert data.classes == ("a", "b")
    assert opening.fit({"x": Input((1,), FLOAT)}, {}).classes == ()  # nobody reads the labels
    assert data.notes[0] == "made by hand"
