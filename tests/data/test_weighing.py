"""What samples and labels count for, and mixed samples: functions of indices and generator, exact sums."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_oto.data import Dataset, Input, Labels, Table, Tables, Weighed, require_mixable, weigh
from onnx_oto.data.weighing import label_counts
from onnx_oto.errors import DataError, UsageError
from onnx_oto.losses import ENTRY_WEIGHT, OTHER, OTHER_WEIGHT

Array = npt.NDArray[Any]
FLOAT = np.dtype(np.float32)


def fitted(y: Array, target: Labels, weights: Array | None = None) -> Dataset:
    x = np.random.default_rng(0).random((len(y), 3, 4)).astype(np.float32)
    tables = Tables(Table("train", {"": x}, {"y": y}, weights), Table("test", {"": x}, {"y": y}))
    return tables.fit({"x": Input((3, 4), FLOAT)}, {"y": target})


def test_samples_count_for_what_the_data_say() -> None:
    y, w = np.arange(8) % 4, np.linspace(0, 2, 8)
    data = fitted(y, Labels(classes=4), w)
    train = weigh(data, {"y": Labels(classes=4)}).train
    batch = train.batch(np.array([7, 1, 1]), None)
    np.testing.assert_allclose(batch.targets[ENTRY_WEIGHT], w[[7, 1, 1]], rtol=1e-6)
    assert set(batch.targets) == {"y", ENTRY_WEIGHT}
    assert set(data.test.batch(np.arange(2), None).targets) == {"y"}
    assert "w_train: what samples count for in the loss" in data.notes


def test_labels_count_for_what_was_asked_and_ignored_ones_for_nothing() -> None:
    y = np.array([[0, 1], [2, 9], [1, 1]])
    target = Labels((None, 2), 3, 9)
    train = weigh(
        fitted(y, target, np.array([1.0, 2.0, 0.5])), {"y": target}, classes=(1.0, 10.0, 100.0)
    ).train
    found = train.batch(np.arange(3), None).targets[ENTRY_WEIGHT]
    np.testing.assert_array_equal(found, np.array([[1, 10], [200, 0], [5, 5]], np.float32))


def test_balanced_classes_count_alike_in_the_sum() -> None:
    y = np.array([0] * 9 + [1] * 3 + [3] * 6 + [-100] * 2)
    target = Labels(classes=5, ignored=-100)
    data = weigh(fitted(y, target), {"y": target}, classes="balanced")
    weights = data.train.batch(np.arange(20), None).targets[ENTRY_WEIGHT]
    sums = [weights[y == label].sum() for label in (0, 1, 3)]
    np.testing.assert_allclose(sums, [6, 6, 6], rtol=1e-6)
    assert weights[y == -100].sum() == 0
    assert data.notes[-1] == "class weights: 0.667, 2, 0, 1, 0"


def test_labels_are_counted_without_decoding_images() -> None:
    class Decoded:
        shape, dtype = (150, 3, 4), FLOAT

        def __len__(self) -> int:
            return 150

        def __getitem__(self, rows: Array) -> Array:
            raise AssertionError("an image was decoded")

    y = np.arange(150) % 3
    tables = Tables(*(Table(split, {"": Decoded()}, {"y": y}) for split in ("train", "test")))
    data = tables.fit({"x": Input((3, 4), FLOAT)}, {"y": Labels(classes=3)})
    assert label_counts(data.train, Labels(classes=3)).tolist() == [50, 50, 50]


@given(
    mixup=st.sampled_from([0.1, 0.4, 1.0]),
    seed=st.integers(0, 99),
    rows=st.lists(st.integers(0, 11), min_size=1, max_size=9),
)
def test_mixed_labels_add_up_to_their_samples(mixup: float, seed: int, rows: list[int]) -> None:
    """Inputs are the sum that the weights say; weights of both labels add up to 1 where both count."""
    y = np.array([0, 1, 2, -100] * 3)
    target = Labels(classes=3, ignored=-100)
    plain = fitted(y, target).train
    train = Weighed(plain, target, mixup=mixup)
    indices = np.array(rows)
    first, again = (train.batch(indices, np.random.default_rng(seed)) for _ in range(2))
    for name, array in (*first.inputs.items(), *first.targets.items()):
        np.testing.assert_array_equal(array, {**again.inputs, **again.targets}[name])
    own, other = first.targets["y"], first.targets[OTHER]
    np.testing.assert_array_equal(own, y[indices])
    assert sorted(other) == sorted(own)
    share, rest = first.targets[ENTRY_WEIGHT], first.targets[OTHER_WEIGHT]
    assert np.all(share[own == -100] == 0)
    assert np.all(rest[other == -100] == 0)
    both = (own != -100) & (other != -100)
    np.testing.assert_allclose((share + rest)[both], 1, rtol=1e-6)
    assert np.all(share[own != -100] >= 0.5)
    x = plain.batch(indices, None).inputs["x"]
    spread = np.ptp(x, axis=0) + 1e-6
    assert np.all(np.abs(first.inputs["x"] - x) <= spread * 0.5 + 1e-6)
    unmixed = train.batch(indices, None)
    np.testing.assert_array_equal(unmixed.inputs["x"], x)
    assert OTHER not in unmixed.targets


def test_numbers_are_mixed_as_their_inputs_are() -> None:
    """The target is a linear function of the input: it stays one."""
    x = np.random.default_rng(0).random((20, 3, 4)).astype(np.float32)
    y = (x * 3 - 1).astype(np.float32)
    tables = Tables(*(Table(split, {"": x}, {"y": y}) for split in ("train", "test")))
    data = tables.fit({"x": Input((3, 4), FLOAT)}, {"y": Labels((None, 3, 4))})
    train = weigh(data, {"y": Labels((None, 3, 4))}, mixup=1.0).train
    batch = train.batch(np.arange(20), np.random.default_rng(3))
    np.testing.assert_allclose(batch.targets["y"], batch.inputs["x"] * 3 - 1, atol=1e-5)
    assert not np.array_equal(batch.inputs["x"], x)
    assert batch.targets["y"].dtype == np.float32


@pytest.mark.parametrize(
    ("classes", "target", "message"),
    [
        ((1.0, 2.0), Labels(classes=3), "class-weights has 2 numbers, the model has 3 classes"),
        ((1.0,), Labels(), "class-weights are for class labels, and this loss reads none"),
        ("balanced", Labels(), "class-weights are for class labels"),
    ],
)
def test_weights_of_other_classes_are_refused(classes: Any, target: Labels, message: str) -> None:
    y = np.zeros(6, int if target.classes else np.float32)
    with pytest.raises(UsageError, match=message):
        weigh(fitted(y, target), {"y": target}, classes=classes)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.array([1.0, -1, 1]), r"w_train\[1\] is -1: it has to be at least 0"),
        (np.array([1.0, np.nan, 1]), r"w_train\[1\] holds nan"),
        (np.zeros(3), "w_train: every sample counts for nothing"),
        (np.ones((3, 2)), r"w_train has shape \(3, 2\): store one number for every sample"),
        (np.ones(2), "x_train has 3 samples and w_train has 2: they must agree"),
        (np.array(["a", "b", "c"]), "w_train has dtype <U1: store numbers"),
    ],
)
def test_weights_that_cannot_be_used(weights: Array, message: str) -> None:
    with pytest.raises(DataError, match=message):
        fitted(np.zeros(3, int), Labels(classes=1), weights)


def test_integers_are_not_mixed() -> None:
    with pytest.raises(
        DataError, match="mixup: input 'ids' reads integers, which cannot be mixed: leave mixup out"
    ):
        require_mixable({"ids": Input((3,), np.dtype(np.int64))}, {})
