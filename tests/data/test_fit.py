"""Layouts, scaling and augmentation of samples."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_oto.data import Augment, Input, Pixels, Source, Table, Tables, fit
from onnx_oto.errors import DataError

RNG = np.random.default_rng(0)


def images(stored: np.ndarray, shape: tuple[int, ...], dtype: type, augment: Augment) -> Source:
    """Return images as a model input reads them, augmented."""
    tables = Tables(Table("train", {"": stored}), Table("test", {"": stored}))
    return tables.fit({"x": Input(shape, np.dtype(dtype))}, {}, augment=augment).train


def shown(source: Source, *seed: int) -> np.ndarray:
    """Return all images as one draw shows them."""
    return source.batch(np.arange(len(source)), np.random.default_rng(seed)).inputs["x"]


@pytest.mark.parametrize(
    ("stored", "wanted", "served", "text"),
    [
        ((28, 28), (1, 28, 28), (1, 28, 28), "channel axis added"),
        ((28, 28), (28, 28, 1), (28, 28, 1), "channel axis added"),
        ((28, 28), (1, None, None), (1, 28, 28), "channel axis added"),
        ((1, 28, 28), (28, 28), (28, 28), "channel axis dropped"),
        ((28, 28, 1), (28, 28), (28, 28), "channel axis dropped"),
        ((28, 28, 1), (1, 28, 28), (1, 28, 28), "channels last moved to first"),
        ((8, 9, 3), (3, 8, 9), (3, 8, 9), "channels last moved to first"),
        ((8, 9, 3), (3, None, None), (3, 8, 9), "channels last moved to first"),
        ((3, 8, 9), (8, 9, 3), (8, 9, 3), "channels first moved to last"),
        ((3, 8, 9), (3, 8, 9), (3, 8, 9), "as stored"),
        ((28, 28), (784,), (784,), "flattened"),
        ((3, 4, 5), (60,), (60,), "flattened"),
        ((784,), (1, 28, 28), (1, 28, 28), "rows read as images"),
        ((5,), (5,), (5,), "as stored"),
        ((), (), (), "as stored"),
    ],
)
def test_layouts(
    stored: tuple[int, ...], wanted: tuple[int | None, ...], served: tuple[int, ...], text: str
) -> None:
    data = RNG.standard_normal((4, *stored)).astype(np.float32)
    source, note = fit(data, wanted, np.float32)
    batch = source.take(np.array([2, 0]))
    assert source.shape == served
    assert batch.shape == (2, *served)
    assert batch.flags.c_contiguous
    assert text in note
    assert len(source) == 4
    expected = data[[2, 0]]
    if text == "channels last moved to first":
        expected = expected.transpose(0, 3, 1, 2)
    if text == "channels first moved to last":
        expected = expected.transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(batch, expected.reshape(2, *served))


def test_uint8_is_scaled_and_stays_uint8_in_memory() -> None:
    images = np.array([[[0, 51], [102, 255]]], np.uint8)
    source, note = fit(images, (1, 2, 2), np.float32, name="x_train")
    assert source.stored is images
    batch = source.take(np.arange(len(source)))
    assert batch.dtype == np.float32
    np.testing.assert_allclose(batch, [[[[0, 0.2], [0.4, 1.0]]]], rtol=1e-6)
    assert (
        note == "x_train: 1 samples [2, 2] uint8, channel axis added, [1, 2, 2], scaled from 0..255 to [0, 1]"
    )


def test_uint8_for_an_integer_input_is_not_scaled() -> None:
    source, note = fit(np.array([[7]], np.uint8), (1,), np.int64)
    assert source.take(np.arange(len(source))).tolist() == [[7]]
    assert "scaled" not in note


@pytest.mark.parametrize(("wanted", "view"), [((3, 2, 2), (3, 1, 1)), ((2, 2, 3), (3,))])
def test_mean_and_std_per_channel(wanted: tuple[int, ...], view: tuple[int, ...]) -> None:
    images = RNG.integers(0, 256, (5, 2, 2, 3), np.uint8)
    mean, std = (0.1, 0.2, 0.3), (0.5, 1.0, 2.0)
    source, note = fit(images, wanted, np.float32, pixels=Pixels(mean, std))
    plain = fit(images, wanted, np.float64)[0].take(np.arange(5))
    expected = (plain - np.reshape(mean, view)) / np.reshape(std, view)
    np.testing.assert_allclose(source.take(np.arange(len(source))), expected, rtol=1e-5, atol=1e-6)
    assert "normalised with mean 0.1/0.2/0.3 and std 0.5/1/2" in note


def test_padding_is_zero_in_stored_values_and_only_when_asked_for() -> None:
    images = RNG.integers(1, 256, (3, 28, 28), np.uint8)
    source, note = fit(images, (1, 32, 32), np.float32, pixels=Pixels(pad=2))
    batch = source.take(np.arange(len(source)))
    assert batch.shape == (3, 1, 32, 32)
    np.testing.assert_allclose(batch[:, 0, 2:-2, 2:-2], images / 255, rtol=1e-6)
    assert not batch[:, :, :2].any()
    assert not batch[..., -2:].any()
    assert "padded with 2 zeros on each side" in note
    with pytest.raises(
        DataError,
        match=r"samples have shape \[28, 28\], the model reads \[1, 32, 32\]: ask for zero-p.* pad 2",
    ):
        fit(images, (1, 32, 32), np.float32)


@pytest.mark.parametrize(
    ("data", "wanted", "dtype", "pixels", "message"),
    [
        (np.ones((2, 28, 28)), (3, 32, 31), "f4", None, r"have shape \[28, 28\], .* reads \[3, 32, 31\]"),
        (np.ones((2, 12)), (3, 2, 2), "f4", None, r"shape \[12\], the model reads \[3, 2, 2\]: convert"),
        (np.ones((2, 3)), (3,), "i8", None, "x is float64, the model reads int64: convert it"),
        (np.ones((2, 3), "i8"), (3,), "u1", None, "x is int64, the model reads uint8"),
        (np.ones((2, 3), "i8"), (3,), "i8", Pixels(mean=(1.0,)), "mean and std are for floating-point"),
        (np.ones((2, 3)), (3,), "f4", Pixels(mean=(1.0, 2.0)), "mean has 2 values"),
        (np.ones((2, 3)), (3,), "f4", Pixels(mean=(np.nan,)), r"mean \[nan\] is not finite"),
        (np.ones((2, 5)), (9,), "f4", Pixels(pad=2), r"shape \[5\] have no clear height and width to pad"),
        (np.array([[0.0, 1], [1, np.nan]]), (2,), "f4", None, r"x\[1\] holds nan: every number must be"),
        (np.array([[0.0, 1], [1, 1e300]]), (2,), "f4", None, r"x\[1\] holds 1e\+300: .* finite as float32"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(
    data: np.ndarray, wanted: tuple[int, ...], dtype: str, pixels: Pixels | None, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        fit(data, wanted, dtype, pixels=pixels)


def test_a_bad_value_far_behind_is_found_with_its_index() -> None:
    data = np.zeros((9000, 3), np.float32)
    data[8765, 1] = -np.inf
    with pytest.raises(DataError, match=r"x_train\[8765\] holds -inf"):
        fit(data, (3,), np.float32, name="x_train")


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(DataError, match="pad -1"):
        Pixels(pad=-1)
    with pytest.raises(DataError, match=r"std \[0.0\]"):
        Pixels(std=(0.0,))
    with pytest.raises(DataError, match="crop -1"):
        Augment(crop=-1)


@pytest.mark.parametrize("layout", ["HW", "HWC", "CHW"])
def test_augmentation_makes_shifted_and_mirrored_copies(layout: str) -> None:
    """Every result is one of the 2 * 5 * 5 possible images.

    Over 200 images all kinds of flips and shifts occur.
    """
    plane = np.arange(1, 31, dtype=np.uint8).reshape(5, 6)
    one = {"HW": plane, "HWC": np.stack([plane] * 3, -1), "CHW": np.stack([plane] * 3)}[layout]
    stored = np.stack([one] * 200)
    batch = shown(images(stored, one.shape, np.uint8, Augment(flip=True, crop=2)), 1, 2)
    assert batch.shape == stored.shape
    planes = {"HW": batch, "HWC": batch[..., 0], "CHW": batch[:, 0]}[layout]
    possible = set()
    for flipped in (plane, plane[:, ::-1]):
        padded = np.pad(flipped, 2)
        possible |= {padded[a : a + 5, b : b + 6].tobytes() for a in range(5) for b in range(5)}
    found = {image.tobytes() for image in planes}
    assert found <= possible
    assert len(found) > 40
    if layout != "HW":
        other = batch[..., 2] if layout == "HWC" else batch[:, 2]
        np.testing.assert_array_equal(planes, other)


def test_augmentation_depends_on_the_seed_alone_and_leaves_the_data() -> None:
    stored = RNG.integers(0, 256, (20, 6, 6), np.uint8)
    before = stored.copy()
    change = Augment(flip=True, crop=1)
    source = images(stored, (1, 6, 6), np.float32, change)
    first, again, other = (shown(source, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(stored, before)
    assert str(change) == "random flip left to right and random shift by up to 1 pixels"


def test_augmentation_of_vectors_is_refused() -> None:
    with pytest.raises(DataError, match=r"no augmentation: .* no clear height and width: x_train \[7\]"):
        images(np.ones((3, 7)), (7,), np.float32, Augment(flip=True))
