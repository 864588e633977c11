"""Data sets for models with one or several inputs, labels, and batches."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_oto.data import (
    Augment,
    Dataset,
    Input,
    Labels,
    Source,
    Table,
    Tables,
    batches,
    fit_batch,
    in_order,
)
from onnx_oto.errors import DataError

FLOAT = np.dtype(np.float32)
IMAGE = {"image": Input((1, 4, 4), FLOAT)}


def tables(x: np.ndarray | None = None, y: np.ndarray | None = None, **named: np.ndarray) -> Tables:
    """Return the same table twice, as training and as test data."""
    inputs = named or {"": np.zeros((10, 4, 4), np.uint8) if x is None else x}
    target = np.arange(10) % 3 if y is None else y
    return Tables(Table("train", inputs, {"y": target}), Table("test", inputs, {"y": target}))


def counted(samples: int) -> Dataset:
    """Return samples whose only value and whose label is their number."""
    x = np.arange(samples, dtype=np.float32).reshape(-1, 1)
    return tables(x, np.arange(samples)).fit({"x": Input((1,), FLOAT)}, {"y": Labels(classes=samples)})


def test_one_input_takes_the_models_name() -> None:
    data = tables().fit(IMAGE, {"y": Labels(classes=3)})
    batch = data.train.batch(np.array([4, 2]), None)
    assert list(batch.inputs) == ["image"]
    assert batch.inputs["image"].shape == (2, 1, 4, 4)
    assert batch.targets["y"].dtype == np.int64
    assert batch.targets["y"].tolist() == [1, 2]
    assert batch.rows.tolist() == [4, 2]
    assert len(data.notes) == 2
    assert data.notes[1].startswith("x_test: 10 samples")


def test_several_inputs_are_served_by_name() -> None:
    table = tables(a=np.ones((10, 2)), b=np.zeros((10, 3), np.int32))
    inputs = {"a": Input((2,), FLOAT), "b": Input((None,), np.dtype(np.int64))}
    batch = table.fit(inputs, {"y": Labels(classes=3)}).test.batch(np.arange(4), None).inputs
    assert batch["a"].dtype == np.float32
    assert batch["b"].dtype == np.int64
    assert batch["b"].shape == (4, 3)


@pytest.mark.parametrize(
    ("table", "inputs", "message"),
    [
        (
            tables(),
            {"a": Input((4, 4), FLOAT), "b": Input((2,), FLOAT)},
            "has 2 inputs: name the arrays x_train__a, x_tr",
        ),
        (tables(a=np.ones((10, 2))), {"b": Input((2,), FLOAT)}, "'x_train__b' is missing: the model reads b"),
        (
            tables(a=np.ones((10, 2)), b=np.ones((10, 2))),
            {"a": Input((2,), FLOAT)},
            "'x_train__b': the model has no such input, it reads a",
        ),
        (
            tables(np.zeros((10, 5, 5))),
            IMAGE,
            r"x_train: samples have shape \[5, 5\], the model reads \[1, 4, 4\]",
        ),
    ],
)
def test_inputs_that_do_not_match_are_named(table: Tables, inputs: dict[str, Input], message: str) -> None:
    with pytest.raises(DataError, match=message):
        table.fit(inputs, {"y": Labels(classes=3)})


@pytest.mark.parametrize(
    ("y", "labels", "message"),
    [
        (
            np.array([0] * 7 + [3, 0, 0]),
            Labels(classes=3),
            r"y_train\[7\] is 3: labels are 0 to 2, the model has 3",
        ),
        (np.array([0] * 9 + [-1]), Labels(classes=3), r"y_train\[9\] is -1"),
        (np.zeros(10), Labels(classes=3), "y_train is float64: class labels are integers 0 to 2"),
        (np.zeros((10, 3), int), Labels(classes=3), r"one target has shape \[3\], .* store their argmax"),
        (np.array([0.0] * 4 + [np.nan] + [0] * 5), Labels(), r"y_train\[4\] holds nan"),
        (
            np.array([0.0] * 4 + [1.5] + [0] * 5),
            Labels((None,), None, None, 0, 1),
            r"y_train\[4\] is 1.5: targets lie in 0 to 1",
        ),
        (np.zeros((10, 2)), Labels((None, 3)), r"y_train: one target has shape \[2\], the loss reads \[3\]"),
    ],
)
def test_labels_that_do_not_fit_are_named(y: np.ndarray, labels: Labels, message: str) -> None:
    with pytest.raises(DataError, match=message):
        tables(y=y).fit(IMAGE, {"y": labels})


@pytest.mark.parametrize(
    ("y", "labels", "shape", "dtype"),
    [
        (np.zeros((10, 1), np.uint8), Labels(classes=3), (10,), np.int64),
        (np.zeros((10, 4, 4), np.int32), Labels((None, None, None), classes=3), (10, 4, 4), np.int64),
        (np.zeros(10), Labels((None, 1)), (10, 1), np.float32),
        (np.zeros((10, 2), bool), Labels((None, 2), None, None, 0, 1), (10, 2), np.float32),
    ],
)
def test_targets_as_the_loss_reads_them(
    y: np.ndarray, labels: Labels, shape: tuple[int, ...], dtype: type
) -> None:
    target = tables(y=y).fit(IMAGE, {"y": labels}).train.batch(np.arange(10), None).targets["y"]
    assert target.shape == shape
    assert target.dtype == dtype


def test_a_loss_without_a_target_needs_none() -> None:
    inputs = {"": np.zeros((10, 4, 4), np.uint8)}
    bare = Tables(Table("train", inputs), Table("test", inputs))
    assert bare.fit(IMAGE, {}).train.batch(np.arange(2), None).targets == {}
    with pytest.raises(DataError, match="'y_train' is missing: the loss needs a target"):
        bare.fit(IMAGE, {"y": Labels(classes=3)})


def run(data: Source, size: int, *, seed: int = 1, epoch: int = 0) -> list[list[int]]:
    """Return the numbers of the samples in each batch of an epoch."""
    return [batch.rows.tolist() for batch in batches(data, size, seed=seed, epoch=epoch)]


def test_an_epoch_shows_every_sample_once_and_drops_the_rest() -> None:
    data = counted(23).train
    epoch = run(data, 5)
    assert [len(batch) for batch in epoch] == [5, 5, 5, 5]
    assert len({label for batch in epoch for label in batch}) == 20
    for batch in batches(data, 5, seed=1, epoch=0):
        np.testing.assert_array_equal(batch.inputs["x"][:, 0], batch.targets["y"])
        np.testing.assert_array_equal(batch.rows, batch.targets["y"])


def test_order_depends_on_seed_and_epoch() -> None:
    data = counted(40).train
    assert run(data, 8) == run(data, 8)
    assert run(data, 8) != run(data, 8, seed=2)
    assert run(data, 8) != run(data, 8, epoch=1)
    assert run(data, 8)[0] != list(range(8))


def test_an_epoch_can_go_on_anywhere_augmentation_included() -> None:
    images = np.random.default_rng(0).integers(0, 255, (30, 4, 4), np.uint8)
    change = Augment(flip=True, crop=2)
    data = tables(images, np.arange(30)).fit(IMAGE, {"y": Labels(classes=30)}, augment=change).train
    whole = list(batches(data, 7, seed=3, epoch=2))
    rest = list(batches(data, 7, seed=3, epoch=2, start=2))
    assert len(rest) == len(whole) - 2
    for a, b in zip(whole[2:], rest, strict=True):
        np.testing.assert_array_equal(a.rows, b.rows)
        np.testing.assert_array_equal(a.inputs["image"], b.inputs["image"])


def test_every_batch_and_epoch_is_augmented_in_its_own_way() -> None:
    """All images are equal, so batches differ by their augmentation alone."""
    images = np.tile(np.arange(1, 17, dtype=np.uint8).reshape(1, 4, 4), (24, 1, 1))
    change = Augment(flip=True, crop=2)
    data = tables(images, np.zeros(24, int)).fit(IMAGE, {"y": Labels(classes=1)}, augment=change).train
    seen = [
        batch.inputs["image"].tobytes() for epoch in (0, 1) for batch in batches(data, 8, seed=0, epoch=epoch)
    ]
    assert len(set(seen)) == 6


def test_less_data_than_a_batch() -> None:
    data = counted(3).train
    with pytest.raises(DataError, match="3 samples: not one batch of 8"):
        next(batches(data, 8, seed=0, epoch=0))
    size, note = fit_batch(len(data), 8)
    assert note is not None
    assert sorted(run(data, size)[0]) == [0, 1, 2]


def test_evaluation_goes_in_order_to_the_last_sample() -> None:
    data = counted(10).test
    seen = [batch.rows.tolist() for batch in in_order(data, 4)]
    assert seen == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert all(batch.inputs["x"][:, 0].tolist() == batch.rows.tolist() for batch in in_order(data, 4))
