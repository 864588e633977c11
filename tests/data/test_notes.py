"""What is said of the data, and what would be ignored in silence is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnx_oto.data import Augment, Input, Labels, Pixels, open_data
from onnx_oto.errors import DataError

FLOAT = np.dtype(np.float32)


def save(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(
        path, **{f"{key}_{split}": value for key, value in arrays.items() for split in ("train", "test")}
    )
    return path


def test_targets_of_pixels_are_said_to_stay_as_they_are(tmp_path: Path) -> None:
    images = np.zeros((4, 1, 6, 6), np.uint8)
    opening = open_data(save(tmp_path / "d.npz", x=images, y=images))
    notes = opening.fit({"x": Input((1, 6, 6), FLOAT)}, {"y": Labels(shape=(None, 1, 6, 6))}).notes
    assert "y_train: targets [1, 6, 6] uint8, numbers from 0 to 255 as they are" in notes
    labels = open_data(save(tmp_path / "l.npz", x=images, y=np.zeros(4, np.int64)))
    notes = labels.fit({"x": Input((1, 6, 6), FLOAT)}, {"y": Labels(classes=2)}).notes
    assert not [note for note in notes if note.startswith("y")]


def test_mean_and_std_of_vectors_are_refused(tmp_path: Path) -> None:
    opening = open_data(save(tmp_path / "d.npz", x=np.zeros((4, 5), np.float32), y=np.zeros(4, np.int64)))
    with pytest.raises(DataError, match="x_train: its samples are vectors, mean and std are for images"):
        opening.fit({"x": Input((5,), FLOAT)}, {"y": Labels(classes=2)}, pixels=Pixels((0.5,), (0.5,)))


def test_a_crop_that_may_leave_nothing_is_refused(tmp_path: Path) -> None:
    images = np.zeros((4, 1, 6, 8), np.uint8)
    opening = open_data(save(tmp_path / "d.npz", x=images, y=np.zeros(4, np.int64)))
    inputs = {"x": Input((1, 6, 8), FLOAT)}
    opening.fit(inputs, {"y": Labels(classes=2)}, augment=Augment(crop=5))
    with pytest.raises(DataError, match="crop 6: x_train is 6 pixels high and 8 wide, nothing may be left"):
        opening.fit(inputs, {"y": Labels(classes=2)}, augment=Augment(crop=6))
