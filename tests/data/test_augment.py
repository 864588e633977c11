"""Zoom, cutout and colours: what the formulas say, alike for all that shows an image, and nothing else than before."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_oto.data import Augment, Dataset, Input, Labels, Pixels, Table, Tables, batches
from onnx_oto.data.augment import draw_all
from onnx_oto.data.colour import GREY, Ink, recolour
from onnx_oto.data.zoom import zoomed
from onnx_oto.errors import DataError

Array = npt.NDArray[Any]
FLOAT = np.dtype(np.float32)
PIXELS = 255


def fitted(
    inputs: dict[str, Array],
    y: Array,
    target: Labels,
    augment: Augment,
    dtype: npt.DTypeLike = FLOAT,
    **more: Any,
) -> Dataset:
    tables = Tables(Table("train", inputs, {"y": y}), Table("test", inputs, {"y": y}))
    wanted = {name or "x": Input(x.shape[1:], np.dtype(dtype)) for name, x in inputs.items()}
    return tables.fit(wanted, {"y": target}, augment=augment, **more)


def drawn(data: Dataset, seed: int = 1) -> tuple[dict[str, Array], Array]:
    batch = data.train.batch(np.arange(len(data.train)), np.random.default_rng(seed))
    return batch.inputs, batch.targets["y"]


@pytest.mark.parametrize(
    ("augment", "digest"),
    [
        (Augment(), "5767f40473a07a16"),
        (Augment(flip=True), "f3bf133dc14cfe0f"),
        (Augment(crop=3), "4fc757c9c5a59ea5"),
        (Augment(flip=True, crop=2), "db8b9ca4e595efc9"),
    ],
)
def test_flips_and_shifts_give_the_batches_that_they_always_gave(augment: Augment, digest: str) -> None:
    """The bytes of two epochs, as the version before zoom, colours and squares made them."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (40, 9, 11, 3), np.uint8), rng.integers(0, 5, 40)
    tables = Tables(Table("train", {"": x}, {"y": y}), Table("test", {"": x}, {"y": y}))
    data = tables.fit(
        {"x": Input((3, 9, 11), FLOAT)},
        {"y": Labels(classes=5)},
        pixels=Pixels((0.5,), (0.25,)),
        augment=augment,
    )
    found = hashlib.sha256()
    for epoch in range(2):
        for batch in batches(data.train, 8, seed=3, epoch=epoch):
            for array in (batch.inputs["x"], batch.targets["y"], batch.rows):
                found.update(array.tobytes())
    assert found.hexdigest()[:16] == digest


sides = st.integers(1, 9)
shares = st.floats(0, 1, allow_subnormal=False)


def by_the_book(plane: Array, box: tuple[float, ...], smooth: bool) -> Array:
    """Return what every pixel shows, one after the other."""
    sizes = plane.shape
    out = np.empty(sizes)
    for at in np.ndindex(*sizes):
        places = [sizes[a] * box[a] + (at[a] + 0.5) * box[a + 2] for a in (0, 1)]
        if not smooth:
            out[at] = plane[
                tuple(min(int(place), size - 1) for place, size in zip(places, sizes, strict=True))
            ]
            continue
        found = 0.0
        ends = [min(max(place - 0.5, 0), size - 1) for place, size in zip(places, sizes, strict=True)]
        for corner in np.ndindex(2, 2):
            pixel = [int(end) + c for end, c in zip(ends, corner, strict=True)]
            weight = np.prod([1 - abs(end - p) for end, p in zip(ends, pixel, strict=True)])
            if weight > 0:
                found += weight * plane[pixel[0], pixel[1]]
        out[at] = found
    return out


@given(height=sides, width=sides, box=st.tuples(shares, shares, shares, shares), smooth=st.booleans())
def test_a_part_is_enlarged_as_the_formula_says(
    height: int, width: int, box: tuple[float, ...], smooth: bool
) -> None:
    """float32 against float64 with numbers up to 255: 1e-3."""
    top, left, tall, wide = box
    box = (top * (1 - tall), left * (1 - wide), tall, wide)
    plane = np.random.default_rng(0).integers(0, 256, (height, width)).astype(np.float32)
    out = np.empty_like(plane)
    zoomed(plane, out, box, smooth=smooth)
    if smooth:
        np.testing.assert_allclose(out, by_the_book(plane, box, True), atol=1e-3)
    else:
        assert (out == by_the_book(plane, box, False)).mean() > 0.8  # a place on an edge falls to either side
        assert set(out.flat) <= set(plane.flat)


def test_the_whole_enlarged_is_the_whole() -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, 7, 5), np.uint8)
    for smooth in (True, False):
        out = np.empty_like(image)
        zoomed(image, out, (0.0, 0.0, 1.0, 1.0), smooth=smooth)
        np.testing.assert_array_equal(out, image)


@given(least=st.floats(0.01, 1, exclude_max=True), seed=st.integers(0, 99))
def test_parts_are_as_large_as_was_asked_for_and_lie_within(least: float, seed: int) -> None:
    boxes = draw_all(50, np.random.default_rng(seed), Augment(zoom=least), steps=0, image=(9, 9)).boxes
    assert boxes is not None
    top, left, height, width = boxes.T
    area = height * width
    assert np.all((area >= least - 1e-9) & (area <= 1 + 1e-9))
    assert np.all((top >= 0) & (left >= 0) & (top + height <= 1 + 1e-9) & (left + width <= 1 + 1e-9))
    assert np.all((height / width <= 4 / 3 + 1e-9) & (height / width >= 3 / 4 - 1e-9))


@pytest.mark.parametrize("augment", [Augment(zoom=0.3), Augment(flip=True, crop=2, zoom=0.5)])
def test_the_identity_stays_the_identity_when_enlarged(augment: Augment) -> None:
    x = np.random.default_rng(0).standard_normal((30, 3, 8, 9)).astype(np.float32)
    inputs, target = drawn(fitted({"": x}, x, Labels((None, 3, 8, 9)), augment))
    np.testing.assert_array_equal(inputs["x"], target)
    assert len({image.tobytes() for image in inputs["x"]} & {image.tobytes() for image in x}) < 3


def test_masks_are_enlarged_with_their_images_and_stay_labels() -> None:
    """Where a mask and its image have the same numbers in halves, only the border between them may differ."""
    mask = np.zeros((40, 12, 12), np.int64)
    mask[:, :, 6:] = 200
    inputs, labels = drawn(
        fitted({"": mask.astype(np.float32)}, mask, Labels((None, 12, 12), 201), Augment(zoom=0.2))
    )
    assert set(np.unique(labels)) == {0, 200}
    clear = np.isin(inputs["x"], (0, 200))
    assert clear.mean() > 0.8
    np.testing.assert_array_equal(inputs["x"][clear], labels[clear])
    assert len({image.tobytes() for image in labels}) > 5


def test_a_larger_target_is_enlarged_around_the_same_part() -> None:
    ramp = np.broadcast_to(np.linspace(0, 1, 16, dtype=np.float32), (20, 1, 16, 16))
    small = ramp.reshape(20, 1, 8, 2, 8, 2).mean((3, 5))
    inputs, target = drawn(fitted({"": small}, ramp, Labels((None, 1, 16, 16)), Augment(zoom=0.3)))
    coarse = target.reshape(20, 1, 8, 2, 8, 2).mean((3, 5))
    np.testing.assert_allclose(coarse[..., 1:-1, 1:-1], inputs["x"][..., 1:-1, 1:-1], atol=0.04)


def test_integers_stay_integers() -> None:
    x = np.random.default_rng(0).integers(0, 2, (20, 8, 8)) * 200
    inputs, _ = drawn(fitted({"": x}, np.zeros(20, int), Labels(classes=1), Augment(zoom=0.5), np.int64))
    assert inputs["x"].dtype == np.int64
    assert set(np.unique(inputs["x"])) == {0, 200}


@pytest.mark.parametrize("shape", [(3, 10, 12), (10, 12, 3), (10, 12)])
def test_squares_are_blanked_to_what_the_model_reads_as_nothing(shape: tuple[int, ...]) -> None:
    x = np.full((60, *shape), 200, np.uint8)
    data = fitted(
        {"": x}, np.zeros(60, int), Labels(classes=1), Augment(cutout=5), pixels=Pixels((0.5,), (0.25,))
    )
    inputs, _ = drawn(data)
    flat = inputs["x"].reshape(60, -1)
    holes = (flat == 0).sum(axis=1) // (3 if len(shape) == 3 else 1)
    assert holes.max() == 25
    assert holes.min() >= 6  # a corner
    assert len(np.unique(flat)) == 2
    np.testing.assert_array_equal(data.test.batch(np.arange(60), None).inputs["x"] != 0, True)


def test_what_is_blanked_is_blanked_in_every_input_and_no_target() -> None:
    x = np.random.default_rng(0).random((30, 3, 8, 8)).astype(np.float32) + 0.1
    inputs = {"a": x, "b": x.repeat(2, 2).repeat(2, 3)}
    data = fitted(inputs, x[:, 0], Labels((None, 8, 8)), Augment(cutout=4))
    got, target = drawn(data)
    np.testing.assert_array_equal(got["a"].repeat(2, 2).repeat(2, 3), got["b"])
    assert (got["a"] == 0).any()
    np.testing.assert_array_equal(target, x[:, 0])
    assert data.notes[-1].endswith("colours and blanked squares do not change y_train")


@given(
    factors=st.tuples(*[st.floats(0, 2)] * 3),
    channels=st.sampled_from([0, 2, None]),
    top=st.sampled_from([1.0, 255.0]),
)
def test_colours_change_as_the_formula_says(
    factors: tuple[float, float, float], channels: int | None, top: float
) -> None:
    """Against float64: 2e-6 of white."""
    shape = {0: (3, 5, 4), 2: (5, 4, 3), None: (5, 4)}[channels]
    image = np.random.default_rng(0).random(shape) * top
    b, c, s = factors
    planes = image[None] if channels is None else np.moveaxis(image, channels, 0)

    def grey(planes: Array) -> Array:
        return np.asarray(planes[0] if len(planes) == 1 else np.tensordot(GREY.astype(float), planes, 1))

    planes = np.clip(planes * b, 0, top)
    planes = np.clip(grey(planes).mean() * (1 - c) + planes * c, 0, top)
    if channels is not None:
        planes = np.clip(grey(planes) * (1 - s) + planes * s, 0, top)
    expected = planes[0] if channels is None else np.moveaxis(planes, 0, channels)
    found = image[None].astype(np.float32)
    recolour(found, Ink(channels, top), np.array([factors]))
    np.testing.assert_allclose(found[0], expected, atol=2e-6 * top)


def test_colours_of_bytes_and_of_floats_are_the_same() -> None:
    x = np.random.default_rng(0).integers(0, 256, (20, 3, 6, 6), np.uint8)
    augment = Augment(brightness=0.4, contrast=0.4, saturation=0.4)
    found = [
        drawn(fitted({"": each}, np.zeros(20, int), Labels(classes=1), augment))[0]["x"]
        for each in (x, (x / PIXELS).astype(np.float32))
    ]
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
    assert found[0].min() >= 0
    assert found[0].max() <= 1 + 1e-6
    assert np.abs(found[0] - x / PIXELS).mean() > 0.05


@given(
    augment=st.builds(
        Augment,
        flip=st.booleans(),
        crop=st.integers(0, 3),
        zoom=st.sampled_from([1.0, 0.5]),
        cutout=st.integers(0, 4),
        brightness=st.sampled_from([0.0, 0.4]),
        saturation=st.sampled_from([0.0, 0.4]),
    ),
    seed=st.integers(0, 99),
)
def test_a_batch_is_a_function_of_indices_and_generator(augment: Augment, seed: int) -> None:
    """In range, of the same bytes twice, whatever is combined."""
    x = np.random.default_rng(0).integers(0, 256, (9, 7, 6, 3), np.uint8)
    data = fitted({"": x}, np.zeros(9, int), Labels(classes=1), augment)
    one, other = drawn(data, seed)[0]["x"], drawn(data, seed)[0]["x"]
    np.testing.assert_array_equal(one, other)
    assert one.flags.c_contiguous
    assert one.min() >= 0
    assert one.max() <= 1 + 1e-6


@given(seed=st.integers(0, 99))
def test_what_is_added_changes_nothing_of_what_comes_before(seed: int) -> None:
    """The same flips and shifts, and the same squares, with whatever else is asked for behind them."""
    x = np.random.default_rng(0).integers(1, 256, (9, 3, 7, 6), np.uint8)

    def of(**more: Any) -> Array:
        augment = Augment(flip=True, crop=2, **more)
        return drawn(fitted({"": x}, np.zeros(9, int), Labels(classes=1), augment), seed)[0]["x"]

    plain, cut, coloured = of(), of(cutout=3), of(cutout=3, brightness=0.5)
    kept = cut != 0
    np.testing.assert_array_equal(cut[kept], plain[kept])
    np.testing.assert_array_equal(coloured == 0, cut == 0)


IMAGE, MANY = (3, 8, 8), (5, 8, 8)


@pytest.mark.parametrize(
    ("x", "y", "target", "augment", "dtype", "message"),
    [
        (MANY, (), Labels(classes=2), Augment(brightness=0.1), FLOAT, r"brightness: x_train .* has 5, it is for"),
        ((8, 8), (), Labels(classes=2), Augment(saturation=0.1), FLOAT, "saturation: x_train .* has 1, it is for"),
        (IMAGE, IMAGE, Labels((None, *IMAGE)), Augment(contrast=0.1), FLOAT, "contrast: y_train shows the image"),
        (IMAGE, (), Labels(classes=2), Augment(contrast=0.1), np.int64, "contrast: the model reads x_train as int"),
        (IMAGE, (), Labels(classes=2), Augment(cutout=8), FLOAT, "cutout 8: x_train is 8 by 8 pixels: blank less"),
        ((9,), (), Labels(classes=2), Augment(zoom=0.5), FLOAT, "samples have no clear height and width"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(
    x: tuple[int, ...], y: tuple[int, ...], target: Labels, augment: Augment, dtype: Any, message: str
) -> None:
    kind = np.int64 if target.classes else np.float32
    with pytest.raises(DataError, match=message):
        fitted({"": np.zeros((4, *x), np.dtype(dtype))}, np.zeros((4, *y), kind), target, augment, dtype)


def test_floats_that_are_no_colours_are_refused_by_the_number_of_the_sample() -> None:
    x = np.zeros((6, 3, 8, 8), np.float32)
    x[4, 1, 2, 3] = 1.5
    with pytest.raises(
        DataError, match=r"x_train\[4\] holds 1.5: colours change in images of uint8, or of floats"
    ):
        fitted({"": x}, np.zeros(6, int), Labels(classes=1), Augment(brightness=0.1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"zoom": 0.0}, "zoom 0: give a share"),
        ({"cutout": -1}, "cutout -1"),
        ({"contrast": 2.0}, "contrast 2: give"),
    ],
)
def test_values_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Augment(**options)
