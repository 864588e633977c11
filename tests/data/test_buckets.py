"""Sequences that are filled up: lengths, batches of similar ones, cut without losing an entry that counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_oto.data import Dataset, Input, Labels, Source, Table, Tables, batch_jobs
from onnx_oto.data.buckets import STEP, Along, Bucketed, alike, lengths_of, sizes_for

Array = npt.NDArray[Any]
PAD, IGNORED, FULL = 0, -100, 40
ALONG = Along(("ids",), PAD, {"ids": 0, "mask": 0, "parts": 1}, {"y": 0}, {"y": IGNORED})


def filled(lengths: list[int]) -> Dataset:
    """Return samples whose ids are 1, 2, ... up to their length; three inputs along the same places."""
    places = np.arange(FULL)
    there = places[None] < np.array(lengths)[:, None]
    ids = np.where(there, places + 1, PAD)
    y = np.tile(places, (len(lengths), 1))  # labels behind the ends, too
    inputs = {"ids": ids, "mask": there.astype(np.float32), "parts": np.stack([ids, ids], 1)}
    tables = Tables(*(Table(split, inputs, {"y": y}) for split in ("train", "test")))
    wanted = {name: Input(x.shape[1:], x.dtype) for name, x in inputs.items()}
    return tables.fit(wanted, {"y": Labels((None, FULL), FULL, IGNORED)})


some = st.lists(st.integers(1, FULL), min_size=1, max_size=30)


@given(lengths=some)
def test_lengths_are_those_of_what_is_not_filled_up(lengths: list[int]) -> None:
    assert lengths_of(filled(lengths).train, ALONG).tolist() == lengths


def test_padding_within_a_sample_and_nothing_but_padding() -> None:
    values = np.array([[3, 0, 5, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 9]])
    assert Along(("ids",), 0, {"ids": 0}).lengths({"ids": values}).tolist() == [3, 1, 5]
    doubled = {"ids": values[:, None].repeat(2, 1)}
    assert Along(("ids",), 0, {"ids": 1}).lengths(doubled).tolist() == [3, 1, 5]
    two = {"types": values * 0, "ids": values}
    assert Along(("types", "ids"), 0, {"types": 0, "ids": 0}).lengths(two).tolist() == [3, 1, 5]


@given(lengths=some, sizes=st.lists(st.integers(1, FULL - 1), max_size=3, unique=True))
def test_a_batch_is_cut_to_the_smallest_size_that_holds_it(lengths: list[int], sizes: list[int]) -> None:
    """Nothing that counts is lost; labels behind the end of a sample count for nothing."""
    data = filled(lengths)
    ends = (*sorted(sizes), FULL)
    source: Source = Bucketed(data.train, ALONG, ends)
    whole = data.train.batch(np.arange(len(lengths)), None)
    batch = source.batch(np.arange(len(lengths)), None)
    size = min(end for end in ends if end >= max(lengths))
    assert [batch.inputs[name].shape for name in ("ids", "mask", "parts")] == [
        (len(lengths), size),
        (len(lengths), size),
        (len(lengths), 2, size),
    ]
    np.testing.assert_array_equal(batch.inputs["parts"], whole.inputs["parts"][..., :size])
    for row, length in enumerate(lengths):
        assert batch.targets["y"][row, :length].tolist() == list(range(length))
        assert np.all(batch.targets["y"][row, length:] == IGNORED)
    for array in (*batch.inputs.values(), *batch.targets.values()):
        assert array.flags.c_contiguous
    assert whole.targets["y"][0, -1] == FULL - 1  # what was stored is left alone


@given(lengths=some, most=st.integers(1, 100))
def test_sizes_hold_every_sample_and_are_few(lengths: list[int], most: int) -> None:
    most = max(most, *lengths)
    sizes = sizes_for(np.array(lengths), most)
    assert max(lengths) <= sizes[-1] <= most
    assert len(sizes) <= 4
    assert list(sizes) == sorted(set(sizes))
    assert all(size % STEP == 0 or size == most for size in sizes)


@given(count=st.integers(1, 300), size=st.integers(1, 9), seed=st.integers(0, 9))
def test_every_sample_is_in_one_batch_and_batches_are_alike(count: int, size: int, seed: int) -> None:
    count -= count % size
    lengths = np.random.default_rng(0).integers(1, 100, max(count, 1))
    order = np.random.default_rng(seed).permutation(count)
    made = list(alike(order, lengths, size, np.random.default_rng(seed)))
    assert sorted(np.concatenate([*made, np.zeros(0, np.int64)]).tolist()) == sorted(order.tolist())
    assert all(len(rows) == size for rows in made)
    again = list(alike(order, lengths, size, np.random.default_rng(seed)))
    assert [rows.tolist() for rows in again] == [rows.tolist() for rows in made]


def test_batches_of_similar_lengths_waste_little() -> None:
    """Of places that are filled up, against batches as they come."""
    lengths = np.random.default_rng(0).integers(1, FULL + 1, 640)
    order = np.random.default_rng(1).permutation(640)

    def wasted(batches: Any) -> float:
        return float(np.mean([1 - lengths[rows].mean() / lengths[rows].max() for rows in batches]))

    plain = wasted(order.reshape(-1, 16))
    assert wasted(alike(order, lengths, 16, np.random.default_rng(0))) < 0.2 * plain


@pytest.mark.parametrize("start", [0, 1, 4])
def test_training_goes_on_anywhere(start: int) -> None:
    lengths = np.random.default_rng(0).integers(1, FULL + 1, 50)
    source = Bucketed(filled(lengths.tolist()).train, ALONG, (16, FULL))

    def rows(start: int, epoch: int = 0) -> list[list[int]]:
        jobs = batch_jobs(source, 8, seed=1, epoch=epoch, start=start, lengths=lengths)
        return [job().rows.tolist() for job in jobs]

    assert rows(start) == rows(0)[start:]
    assert len(rows(0)) == 6
    assert rows(0) != rows(0, epoch=1)
