"""Sources of every kind keep the same promises: functions of indices and generator, decoded when asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_oto.data import (
    Augment,
    Batch,
    Header,
    Input,
    Labels,
    Sample,
    Source,
    Table,
    Tables,
    batch_jobs,
    batches,
    in_order,
    made_ahead,
    prefetched,
    sample_shapes,
)
from onnx_oto.errors import DataError

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.int64]
FLOAT = np.dtype(np.float32)


@dataclass
class Decoded:
    """Images that are made when they are asked for, like files: image i holds i + a hundredth of its pixel's number."""

    count: int = 40
    dtype: np.dtype[Any] = FLOAT
    bad: int = -1
    asked: list[int] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.count, 4, 6)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, rows: Rows) -> Array:
        self.asked += rows.tolist()
        images = rows.reshape(-1, 1, 1) + np.arange(24).reshape(1, 4, 6) / 100
        images[rows == self.bad] = np.nan
        return images.astype(self.dtype)


@dataclass
class Lazy:
    """Labels that are made when they are asked for."""

    labels: Array
    asked: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.labels.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.labels.dtype

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: Rows) -> Array:
        self.asked += len(rows)
        return self.labels[rows]


LENGTH, IGNORED = 12, -100


@dataclass
class Sequences:
    """Sequences of different lengths; a batch is padded to the shortest bucket that holds it.

    It has inputs `ids` and `mask` [n, bucket] and target `y` [n, bucket]: the next id, and IGNORED where there is none.
    A session of fixed shapes has one bucket, the model's length.
    """

    lengths: list[int]
    buckets: tuple[int, ...] = (LENGTH,)

    def sequence(self, index: int, rng: np.random.Generator | None) -> Array:
        ids = (np.arange(self.lengths[index]) + index) % 50 + 1
        return ids if rng is None else ids[: max(2, int(rng.integers(2, len(ids) + 1)))]

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, indices: Rows, rng: np.random.Generator | None) -> Batch:
        sequences = [self.sequence(int(index), rng) for index in indices]
        longest = max(len(sequence) for sequence in sequences)
        shape = (len(sequences), next(bucket for bucket in self.buckets if bucket >= longest))
        ids, mask, labels = np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.full(shape, IGNORED)
        for row, sequence in enumerate(sequences):
            ids[row, : len(sequence)], mask[row, : len(sequence)] = sequence, 1
            labels[row, : len(sequence) - 1] = sequence[1:]
        return Batch({"ids": ids, "mask": mask.astype(np.float32)}, {"y": labels}, indices)


def columns() -> Source:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (40, 5, 7, 3), np.uint8), rng.integers(0, 9, (40, 5, 7))
    return fit({"": x}, y, Input((3, 5, 7), FLOAT), Labels((None, 5, 7), 9))


def decoded() -> Source:
    return fit({"": Decoded()}, np.arange(40), Input((1, 4, 6), FLOAT), Labels(classes=40))


def sequences() -> Source:
    return Sequences(np.random.default_rng(0).integers(2, LENGTH + 1, 40).tolist())


def fit(inputs: dict[str, Any], y: Any, wanted: Input, target: Labels) -> Source:
    tables = Tables(Table("train", inputs, {"y": y}), Table("test", inputs, {"y": y}))
    return tables.fit({"x": wanted}, {"y": target}, augment=Augment(flip=True, crop=2)).train


KINDS = (columns, decoded, sequences)


def equal(one: Batch, other: Batch) -> None:
    for a, b in ((one.inputs, other.inputs), (one.targets, other.targets)):
        assert list(a) == list(b)
        for name in a:
            assert a[name].dtype == b[name].dtype
            np.testing.assert_array_equal(a[name], b[name])
    np.testing.assert_array_equal(one.rows, other.rows)


@pytest.mark.parametrize("make", KINDS)
@given(rows=st.lists(st.integers(0, 39), min_size=1, max_size=20), seed=st.integers(0, 2**32))
def test_a_batch_is_a_function_of_indices_and_generator(
    make: Callable[[], Source], rows: list[int], seed: int
) -> None:
    source, indices = make(), np.array(rows)
    first, again = (source.batch(indices, np.random.default_rng(seed)) for _ in range(2))
    equal(first, again)
    for array in (*first.inputs.values(), *first.targets.values()):
        assert len(array) == len(rows)
        assert array.flags.c_contiguous
        assert array.flags.writeable


@pytest.mark.parametrize("make", KINDS)
@given(rows=st.lists(st.integers(0, 39), min_size=1, max_size=20))
def test_without_a_generator_every_sample_is_served_for_itself(
    make: Callable[[], Source], rows: list[int]
) -> None:
    source = make()
    together = source.batch(np.array(rows), None)
    for at, row in enumerate(rows):
        alone = source.batch(np.array([row]), None)
        for one, all_of in ((alone.inputs, together.inputs), (alone.targets, together.targets)):
            for name, array in one.items():
                np.testing.assert_array_equal(array[0], all_of[name][at])


@pytest.mark.parametrize("make", KINDS)
@given(
    size=st.integers(1, 40),
    seed=st.integers(0, 9),
    epoch=st.integers(0, 3),
    start=st.integers(0, 4),
    threads=st.integers(1, 4),
)
def test_training_goes_on_anywhere_on_any_number_of_threads(
    make: Callable[[], Source], size: int, seed: int, epoch: int, start: int, threads: int
) -> None:
    source = make()
    whole = list(batches(source, size, seed=seed, epoch=epoch))
    jobs = batch_jobs(source, size, seed=seed, epoch=epoch, start=start)
    rest = list(made_ahead(jobs, threads))
    assert len(rest) == max(len(whole) - start, 0)
    for one, other in zip(whole[start:], rest, strict=True):
        equal(one, other)


@pytest.mark.parametrize("make", KINDS)
def test_augmentation_changes_training_and_not_evaluation(make: Callable[[], Source]) -> None:
    source = make()
    name = next(iter(source.batch(np.arange(1), None).inputs))
    plain = np.concatenate([batch.inputs[name] for batch in in_order(source, 7)])
    assert len(plain) == 40
    changed = source.batch(np.arange(40), np.random.default_rng(0)).inputs[name]
    assert not np.array_equal(plain, changed)


def test_nothing_is_decoded_before_it_is_asked_for() -> None:
    images, labels = Decoded(), Lazy(np.arange(40))
    source = fit({"": images}, labels, Input((1, 4, 6), FLOAT), Labels(classes=40))
    walk = batches(source, 8, seed=0, epoch=0)
    assert images.asked == []
    assert labels.asked == 0
    batch = next(walk)
    assert images.asked == batch.rows.tolist()
    assert labels.asked == 8
    np.testing.assert_array_equal(batch.targets["y"], batch.rows)


def test_what_is_wrong_with_a_decoded_sample_is_told_when_it_is_asked_for() -> None:
    source = fit({"": Decoded(bad=17)}, np.arange(40), Input((1, 4, 6), FLOAT), Labels(classes=40))
    source.batch(np.array([3, 5]), None)
    with pytest.raises(DataError, match=r"x_train\[17\] holds nan: every number must be finite"):
        source.batch(np.array([3, 17, 5]), None)
    late = fit({"": Decoded()}, Lazy(np.arange(40)), Input((1, 4, 6), FLOAT), Labels(classes=30))
    with pytest.raises(DataError, match=r"y_train\[31\] is 31: labels are 0 to 29"):
        late.batch(np.array([2, 31]), None)
    with pytest.raises(DataError, match=r"y_train\[30\] is 30"):
        list(prefetched(in_order(late, 8)))


def test_types_and_shapes_of_what_is_not_decoded_yet_are_compared_at_once() -> None:
    images = Decoded()
    with pytest.raises(DataError, match=r"x_train: samples have shape \[4, 6\], the model reads \[1, 5, 6\]"):
        fit({"": images}, np.arange(40), Input((1, 5, 6), FLOAT), Labels(classes=40))
    with pytest.raises(DataError, match="x_train has 40 samples and y_train has 39"):
        fit({"": images}, np.arange(39), Input((1, 4, 6), FLOAT), Labels(classes=40))
    assert images.asked == []


@pytest.mark.parametrize("buckets", [(LENGTH,), (4, 8, LENGTH)])
def test_sequences_of_different_lengths_come_padded_with_what_does_not_count(
    buckets: tuple[int, ...],
) -> None:
    source = Sequences([2, 12, 7, 3, 3, 2, 8, 5, 5], buckets)
    found = list(in_order(source, 3))
    for batch in found:
        counted = batch.targets["y"] != IGNORED
        lengths = [source.lengths[row] for row in batch.rows]
        assert batch.inputs["mask"].sum(1).tolist() == lengths
        assert counted.sum(1).tolist() == [length - 1 for length in lengths]
        following = batch.inputs["ids"][:, 1:][counted[:, :-1]]
        np.testing.assert_array_equal(batch.targets["y"][:, :-1][counted[:, :-1]], following)
    widths = [batch.inputs["ids"].shape[1] for batch in found]
    assert widths == ([12, 12, 12] if len(buckets) == 1 else [12, 4, 8])


def test_headers_give_the_sizes_that_a_model_leaves_open() -> None:
    header = Header(9, {"": Sample((20, 30, 3), np.dtype(np.uint8))})
    assert sample_shapes(header, {"image": (3, None, None)}) == {"image": (3, 20, 30)}
    named = Header(9, {"ids": Sample((LENGTH,), np.dtype(np.int64)), "mask": Sample((LENGTH,), FLOAT)})
    assert sample_shapes(named, {"ids": (None,), "other": (None,)}) == {"ids": (LENGTH,)}
    with pytest.raises(
        DataError, match=r"input 'image': samples have shape \[20, 30, 3\], the model reads \[5, \?"
    ):
        sample_shapes(header, {"image": (5, None, None)})


@pytest.mark.parametrize(
    ("y", "target", "message"),
    [
        (
            np.array([0, 255, 3]),
            Labels((None,), 3, 255),
            r"y_train\[2\] is 3: labels are 0 to 2, .*; if 3 means 'no label', ignore",
        ),
        (
            np.array([0, -100, -1]),
            Labels((None,), 3, -100),
            r"y_train\[2\] is -1: .*ignore it \(--ignore-label -1\)",
        ),
        (
            np.zeros((4, 3)),
            Labels((None, 3), 3, 9),
            "y_train is float64: class labels are integers 0 to 2",
        ),
        (np.zeros((4, 2, 2), int), Labels((None, 2, 3), 3), r"has shape \[2, 2\], the loss reads \[2, 3\]"),
        (
            np.eye(3) - 0.5,
            Labels((None, 3), None, None, 0, 1),
            r"y_train\[0\] is -0.5: targets lie in 0 to 1",
        ),
        (np.array([1.0, np.inf, 0, 0]), Labels(), r"y_train\[1\] holds inf"),
        (np.full((4, 3), 255), Labels((None, 3), 3, 255), "y_train: every label is 255, which is ignored"),
    ],
)
def test_targets_that_a_loss_cannot_read(y: Array, target: Labels, message: str) -> None:
    with pytest.raises(DataError, match=message):
        fit({"": np.zeros((len(y), 4, 4), np.float32)}, y, Input((4, 4), FLOAT), target)


@given(
    labels=st.lists(st.integers(-3, 12), min_size=1, max_size=30),
    classes=st.integers(1, 10),
    ignored=st.sampled_from([None, -1, 11, 255]),
    kind=st.sampled_from([np.int8, np.int16, np.int64, np.float32]),
)
def test_labels_are_served_as_they_are_or_the_first_wrong_one_is_named(
    labels: list[int], classes: int, ignored: int | None, kind: type
) -> None:
    y = np.array(labels, kind)
    wrong = [i for i, label in enumerate(labels) if not 0 <= label < classes and label != ignored]
    tables = Tables(Table("train", {"": y}, {"y": y}), Table("test", {"": y}, {"y": y}))

    def served() -> Array:
        data = tables.fit({"x": Input((), np.dtype(np.float64))}, {"y": Labels((None,), classes, ignored)})
        return data.train.batch(np.arange(len(y)), None).targets["y"]

    if kind is np.float32:
        with pytest.raises(DataError, match="class labels are integers"):
            served()
    elif set(labels) == {ignored}:
        with pytest.raises(DataError, match=f"every label is {ignored}, which is ignored"):
            served()
    elif wrong:
        with pytest.raises(DataError, match=rf"y_train\[{wrong[0]}\] is {labels[wrong[0]]}:"):
            served()
    else:
        np.testing.assert_array_equal(served(), labels)


def test_masks_stay_small_in_memory() -> None:
    mask = np.zeros((40, 8, 8), np.uint8)
    tables = Tables(Table("train", {"": mask}, {"y": mask}), Table("test", {"": mask}, {"y": mask}))
    examples: Any = tables.fit({"x": Input((8, 8), FLOAT)}, {"y": Labels((None, 8, 8), 2)}).train
    assert examples.targets["y"].stored is mask
    assert examples.batch(np.arange(3), None).targets["y"].dtype == np.int64
