"""What augmentation changes, and that all that shows one image is changed alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_oto.data import Augment, Dataset, Input, Labels, Table, Tables
from onnx_oto.data.scene import Part, see
from onnx_oto.errors import DataError

Array = npt.NDArray[Any]
FLOAT = np.dtype(np.float32)
BOTH = Augment(flip=True, crop=3)


def fitted(inputs: dict[str, Array], y: Array, target: Labels, augment: Augment = BOTH) -> Dataset:
    """Return the same arrays as both splits, served as they are stored."""
    tables = Tables(Table("train", inputs, {"y": y}), Table("test", inputs, {"y": y}))
    wanted = {name or "x": Input(x.shape[1:], FLOAT) for name, x in inputs.items()}
    return tables.fit(wanted, {"y": target}, augment=augment)


def drawn(data: Dataset, seed: int = 1) -> tuple[dict[str, Array], Array]:
    """Return all training samples, augmented."""
    batch = data.train.batch(np.arange(len(data.train)), np.random.default_rng(seed))
    return batch.inputs, batch.targets["y"]


def formula(images: Array, flip: bool, crop: int, rng: np.random.Generator) -> Array:
    """Return images [n, H, W], mirrored and cut out of their zero-padded selves, by the book."""
    mirror = rng.random(len(images)) < 0.5
    shifts = rng.integers(0, 2 * crop + 1, (2, len(images)))
    height, width = images.shape[1:]
    cut = []
    for image, turned, down, right in zip(images, mirror, *shifts, strict=True):
        padded = np.pad(image[:, ::-1] if flip and turned else image, crop)
        cut.append(padded[down : down + height, right : right + width])
    return np.stack(cut)


@given(
    sizes=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    count=st.integers(1, 6),
    flip=st.booleans(),
    crop=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_images_are_mirrored_and_shifted_as_the_formula_says(
    sizes: tuple[int, int], count: int, flip: bool, crop: int, seed: int
) -> None:
    """Zeros move in, whatever the sizes. (A shift by the whole image leaves its last line: left out here.)"""
    crop = min(crop, min(sizes) - 1)
    images = np.random.default_rng(seed).integers(1, 256, (count, *sizes)).astype(np.float32)
    data = fitted({"": images}, np.zeros(count, int), Labels(classes=1), Augment(flip, crop))
    got, _ = drawn(data, seed)
    expected = formula(images, flip, crop, np.random.default_rng(seed))
    np.testing.assert_array_equal(got["x"], expected if flip or crop else images)


@pytest.mark.parametrize("shape", [(8, 8), (3, 8, 10), (8, 10, 3), (2, 8, 8), (1, 7, 9)])
def test_the_identity_stays_the_identity(shape: tuple[int, ...]) -> None:
    """The input as the target, both floats: a model that copies has no loss, augmented or not."""
    x = np.random.default_rng(0).standard_normal((30, *shape)).astype(np.float32)
    data = fitted({"": x}, x, Labels((None, *shape)))
    inputs, target = drawn(data)
    np.testing.assert_array_equal(inputs["x"], target)
    assert not np.array_equal(target, x)
    assert data.notes[-1] == (
        "augmentation, random flip left to right and random shift by up to 3 pixels of x_train: changes x_train, "
        "y_train; edges are repeated"
    )
    plain = data.test.batch(np.arange(30), None)
    np.testing.assert_array_equal(plain.targets["y"], x)
    np.testing.assert_array_equal(plain.inputs["x"], x)


def test_a_function_of_every_pixel_stays_that_function() -> None:
    """A target in another range than the images: whatever moves in must be related as all else is."""
    x = np.random.default_rng(0).integers(0, 256, (20, 3, 6, 6), np.uint8)
    y = x.astype(np.float32) / 127.5 - 1
    inputs, target = drawn(fitted({"": x}, y, Labels((None, 3, 6, 6))))
    np.testing.assert_allclose(target, inputs["x"] * 2 - 1, atol=1e-6)


@pytest.mark.parametrize("ignored", [None, 255, -100])
def test_masks_follow_their_images(ignored: int | None) -> None:
    """The label of a pixel is its value; where an image was shifted, the edge's label or the ignored one moves in."""
    mask = np.random.default_rng(0).integers(0, 200, (40, 7, 9), np.uint8)
    x = np.stack([mask] * 3, 1).astype(np.float32)
    data = fitted({"": x}, mask, Labels((None, 7, 9), 200, ignored))
    inputs, labels = drawn(data)
    assert labels.dtype == np.int64
    counted = labels != (ignored or -1)
    np.testing.assert_array_equal(inputs["x"][:, 1][counted], labels[counted])
    assert counted.all() == (ignored is None)
    assert (f"{ignored} moves into y_train" in data.notes[-1]) == (ignored is not None)
    assert (
        len({image.tobytes() for image in labels} & {image.astype(np.int64).tobytes() for image in mask}) < 10
    )


@pytest.mark.parametrize("times", [2, 3])
@pytest.mark.parametrize("channels_last", [False, True])
def test_super_resolution_is_shifted_by_as_much_of_the_image(times: int, channels_last: bool) -> None:
    """Every target pixel is its input pixel, enlarged: augmentation must keep that."""
    small = np.random.default_rng(0).standard_normal((30, 3, 8, 6)).astype(np.float32)
    large = small.repeat(times, 2).repeat(times, 3)
    axes = (0, 2, 3, 1) if channels_last else (0, 1, 2, 3)
    y = large.transpose(axes)
    data = fitted({"": small}, y, Labels((None, *y.shape[1:])))
    inputs, target = drawn(data)
    np.testing.assert_array_equal(target, inputs["x"].repeat(times, 2).repeat(times, 3).transpose(axes))
    assert f"y_train ({times} times the size, shifted {times} times as far)" in data.notes[-1]


def test_labels_of_a_coarser_grid_are_shifted_by_whole_labels() -> None:
    coarse = np.random.default_rng(0).integers(0, 9, (30, 5, 5))
    x = coarse.repeat(4, 1).repeat(4, 2).astype(np.float32)
    data = fitted({"": x}, coarse, Labels((None, 5, 5), 9), Augment(flip=True, crop=9))
    inputs, labels = drawn(data)
    np.testing.assert_array_equal(inputs["x"][:, ::4, ::4], labels)
    assert len({image.tobytes() for image in labels}) == 30
    assert (
        "shift by up to 8 pixels of x_train: changes x_train, y_train (1/4 times the size" in data.notes[-1]
    )
    with pytest.raises(DataError, match=r"crop 3: x_train has to be shifted by 4 pixels .*: give at least 4"):
        fitted({"": x}, coarse, Labels((None, 5, 5), 9), BOTH)


def test_classification_is_as_before() -> None:
    x = np.random.default_rng(0).integers(1, 255, (30, 6, 6)).astype(np.float32)
    y = np.arange(30) % 3
    data = fitted({"": x}, y, Labels(classes=3))
    inputs, target = drawn(data)
    np.testing.assert_array_equal(target, y)
    np.testing.assert_array_equal(inputs["x"], formula(x, True, 3, np.random.default_rng(1)))
    assert data.notes[-1].endswith("changes x_train; zeros move in; y_train is left as it is")


def test_several_inputs() -> None:
    """Two views of a scene, one twice as large, are changed alike; a vector beside them is not."""
    rng = np.random.default_rng(0)
    small = rng.standard_normal((20, 1, 6, 8)).astype(np.float32)
    inputs = {"small": small, "large": small.repeat(2, 2).repeat(2, 3)[:, 0], "facts": rng.random((20, 5))}
    data = fitted(inputs, rng.random((20, 4)), Labels((None, 4)))
    got, target = drawn(data)
    np.testing.assert_array_equal(got["small"].repeat(2, 2).repeat(2, 3)[:, 0], got["large"])
    assert not np.array_equal(got["small"], small)
    np.testing.assert_array_equal(got["facts"], inputs["facts"].astype(np.float32))
    plain = data.train.batch(np.arange(20), None)
    np.testing.assert_array_equal(target, plain.targets["y"])
    assert "x_train__large (2 times the size" in data.notes[-1]
    assert "x_train__facts" not in data.notes[-1].split("changes")[1].split(";")[0]
    assert "y_train [4] is left as it is: positions in it would no longer fit the images" in data.notes[-1]


@pytest.mark.parametrize(
    ("shape", "image", "axes", "unit"),
    [
        ((32, 48), (3, 32, 48), (0, 1), 1),
        ((21, 32, 48), (3, 32, 48), (1, 2), 1),
        ((32, 48, 2), (3, 32, 48), (0, 1), 1),
        ((64, 96), (3, 32, 48), (0, 1), 2),
        ((8, 12), (3, 32, 48), (0, 1), 1),
        ((17, 17), (3, 65, 65), (0, 1), 1),
        ((64, 64, 64), (3, 64, 64), (1, 2), 1),
        ((64, 64, 64), (64, 64, 3), (0, 1), 1),
        ((3, 64, 64), (64, 64, 3), (1, 2), 1),
        ((4, 4), (3, 32, 32), None, 0),  # a matrix, as likely as not
        ((4, 4), (3, 4, 4), (0, 1), 1),
        ((17, 2), (3, 32, 48), None, 0),
        ((20, 20), (3, 32, 32), None, 0),
        ((32, 32), (3, 32, 48), None, 0),
        ((1024,), (3, 32, 32), None, 0),
        ((), (3, 32, 32), None, 0),
        ((5, 3, 32, 32), (3, 32, 32), None, 0),
    ],
)
def test_what_shows_the_image(
    shape: tuple[int, ...], image: tuple[int, ...], axes: tuple[int, int] | None, unit: int
) -> None:
    scene = see(Augment(flip=True), {"x": Part("x", image)}, {"y": Part("y", shape)})
    view = scene.targets.get("y")
    assert (view and view.axes) == axes
    assert view is None or view.unit == unit
    assert scene.inputs["x"].fill == (0 if axes is None else None)


def test_images_that_cannot_be_shifted_alike_are_refused() -> None:
    parts = {"a": Part("x_train__a", (3, 32, 32)), "b": Part("x_train__b", (3, 20, 20))}
    assert see(Augment(flip=True), parts, {}).inputs["b"].unit == 0
    with pytest.raises(DataError, match="crop 2: x_train__b is no whole multiple or part of x_train__a"):
        see(Augment(crop=2), parts, {})
    with pytest.raises(DataError, match=r"no clear height and width: a \[7\], b \[12, 64, 48\]"):
        see(Augment(flip=True), {"a": Part("a", (7,)), "b": Part("b", (12, 64, 48))}, {})
