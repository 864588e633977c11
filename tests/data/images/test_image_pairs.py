"""Pairs of small and large images, cut into patches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnx_oto.data import (
    TARGET,
    Augment,
    Dataset,
    Input,
    Labels,
    Pixels,
    Reading,
    batches,
    in_order,
    open_data,
)
from onnx_oto.data.images.layout import pair_folders
from onnx_oto.data.images.patches import Recent
from onnx_oto.errors import DataError, UsageError

from .drawing import put

FLOAT = np.dtype(np.float32)


def fitted(
    root: Path, reading: Reading | None = None, *, scale: int = 2, side: int = 6, **more: object
) -> Dataset:
    """Return the data as a model reads them that makes larger images of [3, side, side]."""
    target = Labels((None, 3, side * scale, side * scale))
    return open_data(root, reading).fit({"lr": Input((3, side, side), FLOAT)}, {TARGET: target}, **more)


def two(
    folder: Path, number: int, height: int, width: int, scale: int = 2, lr: str = "LR", hr: str = "HR"
) -> None:
    """Write a large image, and its every `scale`-th pixel as the small one: a patch tells where it is from."""
    large = put(folder / hr / f"{number:04d}.png", height, width)
    pixels = np.asarray(Image.open(large))[::scale, ::scale]
    suffix = f"x{scale}" if "X" in lr else ""
    path = folder / lr / f"{number:04d}{suffix}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def served(image: Image.Image) -> np.ndarray:
    """Return an image as the model reads it: float32 [C, H, W] in [0, 1]."""
    return np.asarray(image).transpose(2, 0, 1).astype(np.float32) * np.float32(1 / 255)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for i in range(5):
        two(tmp_path / "train", i, 24 + 2 * i, 40 - 2 * i)
    two(tmp_path / "val", 9, 20, 28)
    return tmp_path


def test_patches_of_a_pair_are_of_the_same_place(tree: Path) -> None:
    train = fitted(tree).train
    for seed in range(5):
        batch = train.batch(np.arange(5), np.random.default_rng(seed))
        assert batch.inputs["lr"].shape == (5, 3, 6, 6)
        assert batch.targets[TARGET].shape == (5, 3, 12, 12)
        np.testing.assert_array_equal(batch.inputs["lr"], batch.targets[TARGET][:, :, ::2, ::2])
        assert batch.targets[TARGET].dtype == np.float32
        assert 0.9 < batch.targets[TARGET].max() <= 1


def test_places_come_from_the_generator_and_reach_every_edge(tmp_path: Path) -> None:
    for i in range(2):
        two(tmp_path / "train", i, 16, 16)
        two(tmp_path / "val", i, 16, 16)
    train = fitted(tmp_path).train
    whole = served(Image.open(tmp_path / "train/HR/0000.png"))
    seen = set()
    for seed in range(60):
        patch = train.batch(np.array([0]), np.random.default_rng(seed)).targets[TARGET][0]
        (place,) = [
            (y, x)
            for y in range(0, 5, 2)
            for x in range(0, 5, 2)
            if np.array_equal(whole[:, y : y + 12, x : x + 12], patch)
        ]
        seen.add(place)
    assert seen == {(y, x) for y in (0, 2, 4) for x in (0, 2, 4)}


def test_an_epoch_can_go_on_anywhere(tree: Path) -> None:
    train = fitted(tree, Reading(patches_per_image=3), augment=Augment(flip=True)).train
    assert len(train) == 15
    whole = list(batches(train, 4, seed=3, epoch=1))
    rest = list(
        batches(
            fitted(tree, Reading(patches_per_image=3), augment=Augment(flip=True)).train,
            4,
            seed=3,
            epoch=1,
            start=2,
        )
    )
    for a, b in zip(whole[2:], rest, strict=True):
        np.testing.assert_array_equal(a.inputs["lr"], b.inputs["lr"])
        np.testing.assert_array_equal(a.targets[TARGET], b.targets[TARGET])
    other = next(batches(train, 4, seed=3, epoch=2)).targets[TARGET]
    assert (other != whole[0].targets[TARGET]).any()


def test_evaluation_is_of_the_middle(tree: Path) -> None:
    (batch,) = in_order(fitted(tree, augment=Augment(flip=True)).test, 4)
    whole = served(Image.open(tree / "val/HR/0009.png"))
    np.testing.assert_array_equal(batch.targets[TARGET][0], whole[:, 4:16, 8:20])
    np.testing.assert_array_equal(batch.inputs["lr"], batch.targets[TARGET][:, :, ::2, ::2])


def test_a_flip_mirrors_both(tree: Path) -> None:
    plain, flipped = (fitted(tree, augment=augment).train for augment in (None, Augment(flip=True)))
    mirrored = 0
    for seed in range(4):
        rng = [np.random.default_rng(seed) for _ in range(2)]
        a, b = (source.batch(np.arange(5), r) for source, r in zip((plain, flipped), rng, strict=True))
        for i in range(5):
            same = np.array_equal(a.inputs["lr"][i], b.inputs["lr"][i])
            step = 1 if same else -1
            np.testing.assert_array_equal(a.inputs["lr"][i][..., ::step], b.inputs["lr"][i])
            np.testing.assert_array_equal(a.targets[TARGET][i][..., ::step], b.targets[TARGET][i])
            mirrored += not same
    assert 0 < mirrored < 20


def test_div2k_as_it_is_unpacked(tmp_path: Path) -> None:
    for split, numbers in (("train", (1, 2, 3)), ("valid", (801,))):
        for number in numbers:
            for scale in (2, 3, 4):
                two(
                    tmp_path, number, 48, 48, scale, f"DIV2K_{split}_LR_bicubic/X{scale}", f"DIV2K_{split}_HR"
                )
            two(tmp_path, number, 48, 48, 2, f"DIV2K_{split}_LR_unknown/X2", f"DIV2K_{split}_HR")
    for scale in (2, 3, 4):
        made = fitted(tmp_path, scale=scale)
        assert (len(made.train), len(made.test), made.val) == (3, 1, None)
        batch = made.train.batch(np.arange(3), np.random.default_rng(0))
        np.testing.assert_array_equal(batch.inputs["lr"], batch.targets[TARGET][:, :, ::scale, ::scale])
        assert any(
            f"{scale} times enlarged" in note and f"LR_bicubic/X{scale}'" in note for note in made.notes
        )
    with pytest.raises(DataError, match=r"enlarges images 6 times, .* has small ones for 2, 3, 4 times"):
        fitted(tmp_path, scale=6)


@pytest.mark.parametrize(
    "names",
    [
        ("HR", "LR"),
        ("hr", "lr"),
        ("HR", "LR_bicubic"),
        ("Flickr2K_HR", "Flickr2K_LR_bicubic"),
        ("target", "input"),
    ],
)
def test_pairs_without_splits(tmp_path: Path, names: tuple[str, str]) -> None:
    for i in range(10):
        two(tmp_path, i, 24, 24, 2, names[1], names[0])
    made = fitted(tmp_path, Reading(test_share=0.3))
    assert (len(made.train), len(made.test)) == (7, 3)
    assert not {*rows(made.train)} & {*rows(made.test)}


def rows(source: object) -> list[bytes]:
    return [image.tobytes() for batch in in_order(source, 4) for image in batch.inputs["lr"]]  # type: ignore[arg-type]


def test_patches_of_one_image_are_not_in_two_splits(tmp_path: Path) -> None:
    for i in range(10):
        put(tmp_path / f"HR/{i}.png", 24, 24, level=20 * i)
    made = fitted(tmp_path, Reading(test_share=0.2, val_share=0.25, patches_per_image=4))
    assert made.val is not None
    assert (len(made.train), len(made.val), len(made.test)) == (24, 2, 2)
    levels = [
        {image.max() for b in in_order(s, 50) for image in b.inputs["lr"]}
        for s in (made.train, made.val, made.test)
    ]
    assert [len(each) for each in levels] == [6, 2, 2]
    assert len(set.union(*levels)) == 10


def test_small_images_are_made_by_bicubic_scaling(tmp_path: Path) -> None:
    for i in range(3):
        put(tmp_path / f"train/HR/{i}.png", 50, 41)
        put(tmp_path / f"val/HR/{i}.png", 26, 26)
    made = fitted(tmp_path, scale=3)
    whole = Image.open(tmp_path / "train/HR/1.png").crop((0, 0, 39, 48))
    small = served(whole.resize((13, 16), Image.Resampling.BICUBIC))
    for seed in range(5):
        batch = made.train.batch(np.array([1]), np.random.default_rng(seed))
        found = batch.inputs["lr"][0]
        near = min(np.abs(small[:, y : y + 6, x : x + 6] - found).max() for y in range(11) for x in range(8))
        assert near == 0
    assert any("by bicubic scaling" in note for note in made.notes)
    with pytest.raises(
        DataError, match=r"has no small images, and the model makes 6x6 of 6x6: put what it reads into"
    ):
        fitted(tmp_path, scale=1)


def test_both_of_one_size(tmp_path: Path) -> None:
    for i in range(4):
        two(tmp_path, i, 16, 16, 1, "input", "target")
    batch = fitted(tmp_path, scale=1).train.batch(np.arange(3), np.random.default_rng(0))
    np.testing.assert_array_equal(batch.inputs["lr"], batch.targets[TARGET])


def test_inputs_are_normalised_and_targets_only_on_demand(tree: Path) -> None:
    pixels = Pixels((0.5, 0.4, 0.3), (0.25,))
    plain, prepared, alike = (
        fitted(tree, reading, pixels=p)
        for reading, p in ((None, None), (None, pixels), (Reading(target_pixels="inputs"), pixels))
    )
    a, b, c = (each.train.batch(np.arange(5), np.random.default_rng(0)) for each in (plain, prepared, alike))
    mean = np.reshape([0.5, 0.4, 0.3], (3, 1, 1))
    np.testing.assert_allclose(b.inputs["lr"], (a.inputs["lr"] - mean) / 0.25, atol=1e-5)
    np.testing.assert_array_equal(b.targets[TARGET], a.targets[TARGET])
    np.testing.assert_allclose(c.targets[TARGET], (a.targets[TARGET] - mean) / 0.25, atol=1e-5)
    assert prepared.prepared == {"scale": 1 / 255, "mean": [0.5, 0.4, 0.3], "std": [0.25]}
    bounded = Labels((None, 3, 12, 12), None, None, 0, 1)
    with pytest.raises(UsageError, match="target-pixels is 'inputs', and the loss reads numbers from 0 to 1"):
        open_data(tree, Reading(target_pixels="inputs")).fit(
            {"lr": Input((3, 6, 6), FLOAT)}, {TARGET: bounded}, pixels=pixels
        )


def test_channels_last_and_grey(tree: Path) -> None:
    made = open_data(tree).fit({"lr": Input((6, 6, 1), FLOAT)}, {TARGET: Labels((None, 12, 12, 3))})
    batch = made.train.batch(np.arange(5), np.random.default_rng(0))
    assert batch.inputs["lr"].shape == (5, 6, 6, 1)
    assert batch.targets[TARGET].shape == (5, 12, 12, 3)


def test_without_targets_the_folders_tell_the_scale(tree: Path) -> None:
    made = open_data(tree).fit({"lr": Input((3, 6, 6), FLOAT)}, {})
    batch = made.train.batch(np.arange(5), np.random.default_rng(0))
    assert batch.targets == {}
    same = fitted(tree).train.batch(np.arange(5), np.random.default_rng(0))
    np.testing.assert_array_equal(batch.inputs["lr"], same.inputs["lr"])


def test_a_patch_for_models_of_any_size(tree: Path) -> None:
    assert open_data(tree, Reading(patch=8)).train.inputs[""].shape == (8, 8, 3)
    with pytest.raises(DataError, match="patch 8: the model reads 6x6 pixels and no others"):
        fitted(tree, Reading(patch=8))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda tree: (tree / "train/LR/0003.png").unlink(),
            r"HR/0003\.png' has no partner in '.*LR': add it, or remove",
        ),
        (
            lambda tree: put(tree / "train/LR/0001.png", 9, 9),
            r"LR/0001\.png' is 9x9 and '.*HR/0001\.png' 26x38: that is not 2",
        ),
        (
            lambda tree: put(tree / "train/LR/0000.png", 9, 9),
            r"HR/0000\.png' is 24x40 and '.*LR/0000\.png' 9x9: that is no whole",
        ),
        (
            lambda tree: two(tree / "train", 2, 8, 8),
            r"HR/0002\.png' is 8x8, a patch of 6x6 enlarged 2 times does not fit",
        ),
        (
            lambda tree: (tree / "train/LR/0002.png").write_text("hello"),
            r"LR/0002\.png' cannot be decoded \(it is no image\)",
        ),
        (lambda tree: [p.unlink() for p in tree.glob("val/HR/*")], r"val/HR' holds no images"),
        (lambda tree: (tree / "train").rename(tree / "learn"), r"has images in 'HR' and none to train"),
        (lambda tree: put(tree / "train/GT/1.png"), r"has both 'GT' and 'HR': keep one of them"),
    ],
)
def test_what_is_wrong_is_named(tree: Path, spoil: object, message: str) -> None:
    spoil(tree)  # type: ignore[operator]
    with pytest.raises(DataError, match=message):
        fitted(tree).train.batch(np.arange(5), np.random.default_rng(0))


def test_bad_pairs_are_left_out_on_demand(tree: Path) -> None:
    (tree / "train/LR/0002.png").write_text("hello")
    (tree / "train/HR/0004.png").write_text("hello")
    made = fitted(tree, Reading(skip_bad_files=True))
    assert len(made.train) == 3
    made.train.batch(np.arange(3), np.random.default_rng(0))
    assert any(note.startswith("2 of 5 pairs are left out (--skip-bad-files)") for note in made.notes)


def test_more_small_images_than_large_ones(tree: Path) -> None:
    put(tree / "train/LR/0077.png")
    assert any("1 images without a larger one are left out" in note for note in fitted(tree).notes)


def test_losses_and_models_that_do_not_suit(tree: Path) -> None:
    inputs = {"lr": Input((3, 6, 6), FLOAT)}
    with pytest.raises(DataError, match="the loss reads labels, the targets are images"):
        open_data(tree).fit(inputs, {TARGET: Labels(classes=3)})
    with pytest.raises(DataError, match="makes 9x9 pixels of 6x6: that is no whole multiple"):
        open_data(tree).fit(inputs, {TARGET: Labels((None, 3, 9, 9))})


def test_classes_may_be_called_as_pairs_are(tmp_path: Path) -> None:
    for country in ("DE", "HR", "LR"):
        put(tmp_path / "train" / country / "1.jpg")
    assert pair_folders(str(tmp_path)) == {}


def test_images_that_were_decoded_last_are_kept_within_bounds(tmp_path: Path) -> None:
    paths = [str(put(tmp_path / f"{i}.png", 10, 10)) for i in range(4)]
    recent, made = Recent(700), []

    def make(path: str, channels: int) -> np.ndarray:
        made.append(path)
        return np.zeros((10, 10, channels), np.uint8)

    for at in (0, 1, 0, 2, 0, 1, 3):  # two of 300 bytes fit in
        recent.get(paths[at], 3, make)
    assert [paths.index(path) for path in made] == [0, 1, 2, 1, 3]
