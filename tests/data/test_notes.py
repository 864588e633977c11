"""What is said of the data, and what would be ignored in silence is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnx_oto.data import Augment, Input, Labels, Pixels, Reading, open_data
from onnx_oto.errors import DataError

FLOAT = np.dtype(np.float32)


def save(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(
        path, **{f"{key}_{split}": value for key, value in arrays.items() for split in ("train", "test")}
    )
    return path


def test_target_images_are_read_as_the_inputs_are(tmp_path: Path) -> None:
    x, y = (np.random.default_rng(i).integers(0, 256, (4, 6, 8, 3), np.uint8) for i in range(2))
    opening = open_data(save(tmp_path / "d.npz", x=x, y=y))
    inputs, target = {"x": Input((3, 6, 8), FLOAT)}, {"y": Labels(shape=(None, 3, 6, 8))}
    data = opening.fit(inputs, target)
    assert (
        "y_train: 4 samples [6, 8, 3] uint8, channels last moved to first, [3, 6, 8], scaled from 0..255 to [0, 1]: "
        "images"
    ) in data.notes
    batch = data.train.batch(np.array([2, 0]), None)
    scaled = y[[2, 0]].transpose(0, 3, 1, 2) * np.float32(1 / 255)
    np.testing.assert_array_equal(batch.targets["y"], scaled)
    pixels = Pixels((0.1, 0.2, 0.3), (0.5,))
    data = opening.fit(inputs, target, pixels=pixels)
    np.testing.assert_array_equal(data.train.batch(np.array([2, 0]), None).targets["y"], scaled)
    assert any(note.endswith("images, not normalised (--target-pixels)") for note in data.notes)
    alike = open_data(tmp_path / "d.npz", Reading(target_pixels="inputs")).fit(inputs, target, pixels=pixels)
    batch = alike.train.batch(np.array([2, 0]), None)
    mean = np.array([0.1, 0.2, 0.3])[:, None, None]
    np.testing.assert_allclose(batch.targets["y"], (scaled - mean) / 0.5, atol=1e-6)
    np.testing.assert_allclose(
        batch.inputs["x"], (x[[2, 0]].transpose(0, 3, 1, 2) / 255 - mean) / 0.5, atol=1e-6
    )


def test_grey_targets_of_coloured_inputs_are_scaled_and_not_normalised(tmp_path: Path) -> None:
    x, y = np.zeros((4, 6, 8, 3), np.uint8), np.full((4, 6, 8), 51, np.uint8)
    opening = open_data(save(tmp_path / "d.npz", x=x, y=y), Reading(target_pixels="inputs"))
    inputs, target = {"x": Input((3, 6, 8), FLOAT)}, {"y": Labels(shape=(None, 1, 6, 8))}
    data = opening.fit(inputs, target, pixels=Pixels((0.1, 0.2, 0.3), (0.5,)))
    assert np.allclose(data.train.batch(np.arange(4), None).targets["y"], 0.2)


def test_target_images_are_flipped_with_the_inputs(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (30, 6, 8, 3), np.uint8)
    opening = open_data(save(tmp_path / "d.npz", x=x, y=x))
    inputs, target = {"x": Input((3, 6, 8), FLOAT)}, {"y": Labels(shape=(None, 3, 6, 8))}
    data = opening.fit(inputs, target, augment=Augment(flip=True, crop=2))
    batch = data.train.batch(np.arange(30), np.random.default_rng(0))
    np.testing.assert_array_equal(batch.targets["y"], batch.inputs["x"])
    assert not np.array_equal(batch.targets["y"], data.train.batch(np.arange(30), None).targets["y"])


def test_masks_and_numbers_are_said_to_stay_as_they_are(tmp_path: Path) -> None:
    images = np.ones((4, 1, 6, 6), np.uint8)
    masks = Labels(shape=(None, 1, 6, 6), low=0.0, high=1.0)
    data = open_data(save(tmp_path / "d.npz", x=images, y=images)).fit(
        {"x": Input((1, 6, 6), FLOAT)}, {"y": masks}
    )
    assert "y_train: targets [1, 6, 6] uint8, numbers from 0 to 255 as they are" in data.notes
    assert data.train.batch(np.arange(4), None).targets["y"].max() == 1
    ages = np.full((4, 2), 40, np.uint8)
    opening = open_data(save(tmp_path / "a.npz", x=images, y=ages[:, :1]))
    data = opening.fit({"x": Input((1, 6, 6), FLOAT)}, {"y": Labels(shape=(None, 1))})
    assert data.train.batch(np.arange(4), None).targets["y"].max() == 40
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
