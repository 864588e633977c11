"""Folders of images, one for each class or without labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnx_oto.data import TARGET, Augment, Dataset, Input, Labels, Pixels, Reading, open_data, sample_shapes
from onnx_oto.data.images.folders import ImageFolder
from onnx_oto.errors import DataError, UsageError

from .drawing import put

FLOAT = np.dtype(np.float32)
READ = {"image": Input((3, 8, 8), FLOAT)}


def fitted(root: Path, reading: Reading | None = None, classes: int = 3, **more: object) -> Dataset:
    return open_data(root, reading).fit(READ, {TARGET: Labels(classes=classes)}, **more)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return classes a, b, c with 3, 2 and 1 images to train and one each to test; their levels tell them apart."""
    for level, (name, count) in enumerate({"a": 3, "b": 2, "c": 1}.items()):
        for i in range(count):
            put(tmp_path / f"train/{name}/{i}.png", 8 + i, 8 + 2 * i, level=50 * level + i)
        put(tmp_path / f"val/{name}/0.PNG", level=50 * level)
    return tmp_path


def test_images_and_labels_belong_together(tree: Path) -> None:
    made = fitted(tree)
    assert made.classes == ("a", "b", "c")
    batch = made.train.batch(np.array([5, 0, 4, 2]), None)
    assert batch.targets[TARGET].tolist() == [2, 0, 1, 0]
    levels = np.array([100, 0, 51, 2], np.float32) / 255
    np.testing.assert_allclose(
        batch.inputs["image"], np.broadcast_to(levels[:, None, None, None], (4, 3, 8, 8)), rtol=1e-6
    )
    assert len(made.train), len(made.test) == (6, 3)
    assert made.val is None
    assert any("the test data are those of" in note for note in made.notes)
    assert any(note.startswith("3 classes, folders in their order: 'a', 'b', 'c'") for note in made.notes)


def test_train_val_and_test(tree: Path) -> None:
    for name in "abc":
        put(tree / f"test/{name}/1.jpg")
        put(tree / f"test/{name}/2.jpg")
    made = fitted(tree)
    assert made.val is not None
    assert (len(made.train), len(made.val), len(made.test)) == (6, 3, 6)


def test_a_test_folder_without_labels_is_not_used_where_there_is_another(tree: Path) -> None:
    put(tree / "test/1.jpg")
    made = fitted(tree)
    assert len(made.test) == 3
    assert any(note.endswith("test' has no folders of classes, it is not used") for note in made.notes)


def test_classes_alone_are_split_by_a_seed(tree: Path) -> None:
    opened = open_data(tree / "train", Reading(test_share=0.4))
    assert (opened.train.samples, opened.test.samples) == (4, 2)
    made = fitted(tree / "train", Reading(test_share=0.4))
    rows = [source.batch(np.arange(len(source)), None).rows.tolist() for source in (made.train, made.test)]
    assert sorted(rows[0] + rows[1]) == list(range(6))
    assert rows == [
        source.batch(np.arange(len(source)), None).rows.tolist()
        for each in [fitted(tree / "train", Reading(test_share=0.4))]
        for source in (each.train, each.test)
    ]


def test_validation_samples_are_set_apart(tree: Path) -> None:
    made = fitted(tree, Reading(val_share=0.5))
    assert made.val is not None
    assert (len(made.train), len(made.val), len(made.test)) == (3, 3, 3)
    with pytest.raises(UsageError, match="test-share"):
        open_data(tree, Reading(test_share=0.2)).test  # noqa: B018


@pytest.mark.parametrize("inside", ["", "train"])
def test_images_without_labels(tmp_path: Path, inside: str) -> None:
    for i in range(10):
        put(tmp_path / inside / f"{i}.jpg")
    opened = open_data(tmp_path)
    assert opened.train.targets == {}
    made = opened.fit(READ, {})
    assert made.classes == ()
    assert made.train.batch(np.arange(3), None).targets == {}
    assert (len(made.train), len(made.test)) == (9, 1)
    with pytest.raises(DataError, match="has images without labels, and the loss needs a target"):
        fitted(tmp_path)


def test_classes_are_not_named_where_labels_are_not_read(tree: Path) -> None:
    assert open_data(tree).fit(READ, {}).classes == ()


@pytest.mark.parametrize(
    ("shape", "dtype", "served"),
    [
        ((3, 8, 8), np.float32, (3, 8, 8)),
        ((8, 8, 3), np.float32, (8, 8, 3)),
        ((1, 8, 8), np.float32, (1, 8, 8)),
        ((8, 8), np.float32, (8, 8)),
        ((4, 8, 8), np.uint8, (4, 8, 8)),
        ((64,), np.float32, (64,)),
    ],
)
def test_any_image_for_any_model(
    tree: Path, shape: tuple[int, ...], dtype: type, served: tuple[int, ...]
) -> None:
    reading = Reading(resize=(8, 8)) if len(shape) == 1 else None
    made = open_data(tree, reading).fit({"x": Input(shape, np.dtype(dtype))}, {})
    x = made.train.batch(np.arange(6), None).inputs["x"]
    assert x.shape == (6, *served)
    assert x.dtype == dtype


def test_sizes_that_a_model_leaves_open(tree: Path) -> None:
    patterns = {"x": (3, None, None)}
    with pytest.raises(
        DataError, match=r"'x' reads images of any size, and the files differ in it: .*--resize 224"
    ):
        sample_shapes(open_data(tree).train, patterns)
    assert sample_shapes(open_data(tree, Reading(resize=(20,))).train, patterns) == {"x": (3, 20, 20)}
    assert sample_shapes(open_data(tree, Reading(resize=(20, 24))).train, {"x": (None, None, 1)}) == {
        "x": (20, 24, 1)
    }
    assert sample_shapes(open_data(tree / "val").train, {"x": (1, None, None)}) == {"x": (1, 8, 8)}


def test_preparing_is_told_to_whoever_runs_the_model(tree: Path) -> None:
    made = fitted(tree, pixels=Pixels((0.5,), (0.25, 0.25, 0.5)))
    assert made.prepared == {"scale": 1 / 255, "mean": [0.5], "std": [0.25, 0.25, 0.5], "resize": 9}
    assert fitted(tree, Reading(resize=(10, 12))).prepared["resize"] == [10, 12]


def test_augmentation_works_on_equal_shapes_and_its_generator_decides(tree: Path) -> None:
    for path in tree.glob("train/*/*.png"):
        put(path, 16, 20)
    train = fitted(tree, augment=Augment(flip=True, crop=2)).train
    rows = np.arange(6)
    first, again, other = (
        train.batch(rows, np.random.default_rng(seed)).inputs["image"] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_bad_file_is_named_when_it_is_asked_for(tree: Path) -> None:
    path = tree / "train/b/1.png"
    path.write_bytes(path.read_bytes()[:45])
    train = fitted(tree).train
    train.batch(np.array([0, 1, 2, 3, 5]), None)
    with pytest.raises(DataError, match=r"train/b/1\.png' cannot be decoded"):
        train.batch(np.array([4]), None)


def test_bad_files_are_left_out_on_demand(tree: Path) -> None:
    path = tree / "train/a/1.png"
    path.write_bytes(path.read_bytes()[:45])
    opened = open_data(tree, Reading(skip_bad_files=True))
    assert opened.train.samples == 5
    made = opened.fit(READ, {TARGET: Labels(classes=3)})
    assert made.train.batch(np.arange(5), None).targets[TARGET].tolist() == [0, 0, 1, 1, 2]
    assert any(note.startswith("1 of 6 images are left out (--skip-bad-files): '") for note in made.notes)
    for path in tree.glob("val/*/*"):
        path.write_text("hello")
    with pytest.raises(
        DataError, match=r"val': no image can be decoded: .*val/a/0\.PNG' cannot be decoded \(it is no image"
    ):
        open_data(tree, Reading(skip_bad_files=True))


def test_a_class_that_training_does_not_know(tree: Path) -> None:
    (tree / "val/b").rename(tree / "val/bb")
    with pytest.raises(
        DataError, match=r"val/bb' is a class without a folder in the training data, which have 3: 'a'"
    ):
        open_data(tree)


def test_classes_without_images_keep_their_places(tree: Path) -> None:
    (tree / "train/aa").mkdir()
    (tree / "val/a/0.PNG").unlink()
    made = fitted(tree, classes=4)
    assert made.classes == ("a", "aa", "b", "c")
    assert made.test.batch(np.arange(2), None).targets[TARGET].tolist() == [2, 3]
    assert any("train' has no images of 1 of 4 classes: 'aa'" in note for note in made.notes)
    assert any("val' has no images of 2 of 4 classes: 'a', 'aa'" in note for note in made.notes)


def test_what_lies_beside_is_left_out_and_said(tree: Path) -> None:
    put(tree / "train/loose.png")
    (tree / "train/a/list.txt").touch()
    notes = fitted(tree).notes
    assert any(
        note.endswith("train/loose.png'") and "beside the folders of classes" in note for note in notes
    )
    assert any(note.endswith("train/a/list.txt'") and "no image" in note for note in notes)


def test_splits_that_do_not_go_together(tree: Path) -> None:
    for name in "abc":
        (tree / f"val/{name}/0.PNG").rename(tree / f"val/{name}.png")
        (tree / f"val/{name}").rmdir()
    with pytest.raises(
        DataError, match=r"train' has a folder for each class and '.*val' has none: arrange both alike"
    ):
        open_data(tree)
    (tree / "train").rename(tree / "learn")
    with pytest.raises(DataError, match="has a folder 'val' and none called 'train'"):
        open_data(tree)


def test_an_empty_split_is_named(tree: Path) -> None:
    for path in tree.glob("val/*/*"):
        path.unlink()
    with pytest.raises(DataError, match="val' holds no images"):
        open_data(tree)


def test_what_the_model_cannot_read(tree: Path) -> None:
    with pytest.raises(DataError, match="has 3 folders of classes, the model has 2 classes"):
        fitted(tree, classes=2)
    with pytest.raises(DataError, match="the loss reads numbers: choose a loss of labels"):
        open_data(tree).fit(READ, {TARGET: Labels((None, 3))})
    with pytest.raises(DataError, match=r"the model has 2 inputs, a, b, and .* has images for one"):
        open_data(tree).fit({"a": READ["image"], "b": READ["image"]}, {})
    with pytest.raises(UsageError, match="label is 'y': it has no meaning for"):
        open_data(tree, Reading(label="y"))


def test_numbers_as_names_are_in_their_order(tmp_path: Path) -> None:
    for name in ("0", "1", "2", "10"):
        put(tmp_path / name / "1.jpg")
    opened = open_data(tmp_path)
    assert isinstance(opened, ImageFolder)
    assert opened.classes == ("0", "1", "2", "10")


def test_pixels_are_those_of_the_usual_recipe(tmp_path: Path) -> None:
    """Resize to 256, centre crop of 224, as every model of ImageNet is judged: written out with Pillow."""
    for i in range(2):
        put(tmp_path / f"a/{i}.png", 375, 500)
    image = Image.open(tmp_path / "a/1.png").resize((341, 256), Image.Resampling.BILINEAR)
    wanted = np.asarray(image)[16:240, 58:282].transpose(2, 0, 1).astype(np.float32) / 255
    made = open_data(tmp_path, Reading(test_share=0.5)).fit({"x": Input((3, 224, 224), FLOAT)}, {})
    source = made.train if made.train.batch(np.array([0]), None).rows[0] == 1 else made.test
    np.testing.assert_allclose(source.batch(np.array([0]), None).inputs["x"][0], wanted, atol=1.01 / 255)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for name in ("plane", "ship", "train"):
        put(tmp_path / name / "1.jpg")
    opened = open_data(tmp_path)
    assert isinstance(opened, ImageFolder)
    assert opened.classes == ("plane", "ship", "train")


def test_folders_beside_splits_are_left_out_and_said(tree: Path) -> None:
    put(tree / "figures/1.jpg")
    (tree / "devkit").mkdir()
    notes = fitted(tree).notes
    assert "left out what lies beside the folders of splits: 'figures'" in notes
