"""Where pictures are cut."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from PIL import Image

from onnx_oto.data.images import framing, layout
from onnx_oto.data.images.framing import Frame, frame, picture
from onnx_oto.errors import DataError

SIZES = [(375, 500), (500, 375), (224, 300), (64, 64), (1000, 301), (33, 47)]


@pytest.mark.parametrize("module", [framing, layout])
def test_the_examples_are_right(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize(
    "cut", [frame((32, 32)), frame((24, 40)), frame((20, 20), (40,)), frame((20, 30), (50, 60))]
)
def test_resizing_a_box_is_resizing_the_whole_and_cutting(height: int, width: int, cut: Frame) -> None:
    """The recipe of torchvision: Resize, then CenterCrop, written out. Pillow's rounding may differ by one level."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))
    tall, wide = cut.resized(height, width)
    whole = np.asarray(image.resize((wide, tall), Image.Resampling.BILINEAR)).astype(int)
    top, left = round((tall - cut.height) / 2), round((wide - cut.width) / 2)
    box = cut.box(height, width)
    assert box is not None
    part = np.asarray(image.resize((cut.width, cut.height), Image.Resampling.BILINEAR, box)).astype(int)
    assert np.abs(part - whole[top : top + cut.height, left : left + cut.width]).max() <= 1


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_shorter_side_gets_its_length_and_proportions_stay(height: int, width: int) -> None:
    tall, wide = frame((224, 224)).resized(height, width)
    assert min(tall, wide) == 256
    assert max(tall, wide) == 256 * max(height, width) // min(height, width)


def test_what_has_the_size_already_is_taken_as_it_is_unless_a_size_is_asked_for() -> None:
    assert frame((32, 32)).box(32, 32) is None
    box = frame((32, 32), (40,)).box(32, 32)
    assert box is not None
    np.testing.assert_allclose(box, (3.2, 3.2, 28.8, 28.8))
    assert frame((32, 32), (32, 32)).box(64, 128) == (0, 0, 128, 64)


def test_less_than_the_model_reads_is_refused() -> None:
    with pytest.raises(DataError, match="resize 200 is less than the 224x224 pixels"):
        frame((224, 224), (200,))
    with pytest.raises(DataError, match="resize 300x200 is less"):
        frame((224, 224), (300, 200))


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        ((3, 8, 9), (8, 9, 3)),
        ((8, 9, 3), (8, 9, 3)),
        ((1, 8, 9), (8, 9, 1)),
        ((4, 8, 8), (8, 8, 4)),
        ((8, 9), (8, 9, 1)),
    ],
)
def test_what_a_model_reads_of_a_picture(shape: tuple[int, ...], found: tuple[int, ...]) -> None:
    assert picture("x", shape) == found


@pytest.mark.parametrize("shape", [(6, 8, 8), (2, 3, 8, 8), (7, 8, 9)])
def test_what_is_no_picture(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"'x' has samples of shape .*: that is no image"):
        picture("x", shape)


def test_vectors_need_a_size() -> None:
    with pytest.raises(DataError, match="reads 784 numbers: say which height and width images have"):
        picture("x", (784,))
    with pytest.raises(DataError, match="reads 784 numbers"):
        picture("x", (784,), (30, 30))
    assert picture("x", (2352,), (28,)) == (28, 28, 3)
