"""Whole images in place of the patches of pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnx_oto.data import (
    TARGET,
    Batch,
    Input,
    Labels,
    Reading,
    in_order,
    open_data,
    takes_any_size,
    trial,
    wholes,
)
from onnx_oto.errors import DataError

from .drawing import put
from .test_image_pairs import FLOAT, fitted, served, tree, two

__all__ = ["tree"]


def every(source: object, multiple: int = 1) -> list[Batch]:
    found = wholes(source, multiple)  # type: ignore[arg-type]
    assert found is not None
    return list(in_order(found, 64))


def test_every_image_has_its_own_size(tree: Path) -> None:
    for i, (height, width) in enumerate([(20, 28), (34, 18)]):
        two(tree / "val", 20 + i, height, width)
    batches = every(fitted(tree).test)
    assert [batch.inputs["lr"].shape for batch in batches] == [(1, 3, 10, 14), (1, 3, 10, 14), (1, 3, 17, 9)]
    assert [batch.rows.tolist() for batch in batches] == [[0], [1], [2]]
    for batch, number in zip(batches, (9, 20, 21), strict=True):
        for name, array in (("HR", batch.targets[TARGET]), ("LR", batch.inputs["lr"])):
            np.testing.assert_array_equal(array[0], served(Image.open(tree / f"val/{name}/{number:04d}.png")))


def test_what_is_over_a_multiple_is_cut_off_both(tree: Path) -> None:
    two(tree / "val", 20, 34, 46)
    first, second = every(fitted(tree).test, 4)
    assert (first.inputs["lr"].shape, second.inputs["lr"].shape) == ((1, 3, 8, 12), (1, 3, 16, 20))
    large = served(Image.open(tree / "val/HR/0020.png"))
    np.testing.assert_array_equal(second.targets[TARGET][0], large[:, :32, :40])
    np.testing.assert_array_equal(second.inputs["lr"][0], large[:, :32:2, :40:2])
    with pytest.raises(DataError, match=r"0009.png' is 20x28, less than the 32 pixels on a side .*never"):
        every(fitted(tree).test, 16)


def test_small_ones_are_made_of_the_whole_image(tmp_path: Path) -> None:
    for i in range(3):
        put(tmp_path / f"train/HR/{i}.png", 50, 41)
        put(tmp_path / f"val/HR/{i}.png", 47, 40)
    batch = every(fitted(tmp_path, scale=3).test, 2)[1]
    whole = Image.open(tmp_path / "val/HR/1.png").crop((0, 0, 39, 45))
    small = served(whole.resize((13, 15), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(batch.inputs["lr"][0], small[:, :14, :12])
    np.testing.assert_array_equal(batch.targets[TARGET][0], served(whole)[:, :42, :36])


def test_those_that_were_set_apart(tmp_path: Path) -> None:
    for i in range(10):
        put(tmp_path / f"HR/{i}.png", 24, 24 + 2 * i, level=20 * i)
    made = fitted(tmp_path, Reading(test_share=0.2, val_share=0.25, patches_per_image=4))
    for source in (made.val, made.test):
        patches = [image.max() for batch in in_order(source, 9) for image in batch.inputs["lr"]]  # type: ignore[arg-type]
        batches = every(source)
        assert [batch.inputs["lr"].max() for batch in batches] == patches
        for batch in batches:
            level = round(float(batch.inputs["lr"].max()) * 255) // 20
            assert batch.inputs["lr"].shape == (1, 3, 12, 12 + level)


def test_channels_last_and_grey(tree: Path) -> None:
    last = open_data(tree).fit({"lr": Input((6, 6, 3), FLOAT)}, {TARGET: Labels((None, 12, 12, 3))}).test
    grey = open_data(tree).fit({"lr": Input((1, 6, 6), FLOAT)}, {TARGET: Labels((None, 1, 12, 12))}).test
    flat = open_data(tree).fit({"lr": Input((6, 6), FLOAT)}, {TARGET: Labels((None, 12, 12))}).test
    shapes = [(b.inputs["lr"].shape, b.targets[TARGET].shape) for s in (last, grey, flat) for b in every(s)]
    assert shapes == [
        ((1, 10, 14, 3), (1, 20, 28, 3)),
        ((1, 1, 10, 14), (1, 1, 20, 28)),
        ((1, 10, 14), (1, 20, 28)),
    ]
    np.testing.assert_array_equal(every(flat)[0].inputs["lr"], every(grey)[0].inputs["lr"][:, 0])
    assert [takes_any_size(s, {"lr": p}) for s in (last, flat) for p in ((None, None, 3), (None, None))] == [
        True,
        False,
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [((3, None, None), True), ((None, None, None), True), ((3, 6, None), False), ((3, None, 6), False)],
)
def test_models_of_open_height_and_width(tree: Path, pattern: tuple[int | None, ...], expected: bool) -> None:
    test = fitted(tree).test
    assert takes_any_size(test, {"lr": pattern}) is expected
    assert not takes_any_size(test, {})


def test_a_trial_of_any_size(tree: Path) -> None:
    batch = trial(fitted(tree).test, 7, 9)
    assert (batch.inputs["lr"].shape, batch.targets[TARGET].shape) == ((1, 3, 7, 9), (1, 3, 14, 18))
    assert trial(open_data(tree).fit({"lr": Input((3, 6, 6), FLOAT)}, {}).test, 7, 9).targets == {}


def test_other_samples_are_no_patches(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x_train=np.zeros((4, 3, 6, 6), np.float32), y_train=np.arange(4))
    made = open_data(tmp_path / "d.npz").fit({"x": Input((3, 6, 6), FLOAT)}, {})
    assert wholes(made.test) is None
    assert not takes_any_size(made.test, {"x": (3, None, None)})
