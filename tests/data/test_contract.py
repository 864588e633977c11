"""What every kind of data keeps to, on a small data set of each (kinds.py)."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kinds import KINDS, Written

from onnx_oto.data import OPENERS, Dataset, Input, Labels, Opening, Source, batches, in_order, open_data
from onnx_oto.errors import OtoError

NOT_CONTRACTED = ("pairs",)
"""Patches are not what is stored: tests/data/images/test_image_pairs.py."""


@pytest.fixture(params=KINDS)
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Written:
    folder = tmp_path / "data"
    folder.mkdir()
    return KINDS[request.param](folder)


def opened(written: Written) -> Opening:
    return open_data(written.path, written.reading)


def fitted(written: Written, dtype: type = np.float32) -> Dataset:
    opening = opened(written)
    wanted = {"y": Labels(classes=100)} if written.y else {}
    return opening.fit({"x": Input(opening.train.inputs[""].shape, np.dtype(dtype))}, wanted)


def expected(written: Written, split: str, rows: np.ndarray) -> np.ndarray:
    stored = written.x[split][rows]
    return stored * np.float32(1 / 255) if stored.dtype == np.uint8 else stored.astype(np.float32)


def arrays(source: Source, rows: np.ndarray) -> list[np.ndarray]:
    batch = source.batch(rows, None)
    return [*batch.inputs.values(), *batch.targets.values(), batch.rows]


def test_every_kind_has_a_row() -> None:
    known = {*KINDS, *NOT_CONTRACTED}
    assert set(OPENERS) <= known, f"add {sorted(set(OPENERS) - known)} to tests/data/kinds.py"


def test_headers_are_what_comes(written: Written) -> None:
    opening, data = opened(written), fitted(written)
    for split in ("train", "test"):
        header, source = getattr(opening, split), getattr(data, split)
        assert header.samples == len(source)
        stored = header.inputs[""]
        first = written.x["train"]
        assert stored.shape == first.shape[1:] or (*stored.shape, 1) == first.shape[1:]
        assert set(header.targets) == ({"y"} if written.y else set())
        if written.y:
            assert header.targets["y"].shape == ()
    assert data.classes == written.classes


def test_values_are_those_that_were_written(written: Written) -> None:
    data = fitted(written)
    whole = len(data.train) + (0 if "test" in written.x else len(data.test))
    assert whole == len(written.x["train"])
    for split, source in (("train", data.train), ("test", data.test)):
        origin = split if split in written.x else "train"
        for batch in in_order(source, 8):
            np.testing.assert_array_equal(batch.inputs["x"], expected(written, origin, batch.rows))
            assert batch.inputs["x"].dtype == np.float32
            assert batch.inputs["x"].flags.c_contiguous
            if written.y:
                assert batch.targets["y"].dtype == np.int64
                assert batch.targets["y"].tolist() == written.y[origin][batch.rows].tolist()


def test_any_order_of_rows_gives_those_rows(written: Written) -> None:
    train = fitted(written).train
    every = np.arange(len(train))
    whole = arrays(train, every)
    for seed in range(3):
        rows = np.random.default_rng(seed).choice(every, 17)
        for one, other in zip(arrays(train, rows), whole, strict=True):
            np.testing.assert_array_equal(one, other[rows])


def test_batches_belong_to_whoever_asked_for_them(written: Written) -> None:
    train = fitted(written).train
    rows = np.arange(5)
    first = train.batch(rows, None)
    for array in (*first.inputs.values(), *first.targets.values()):
        array[...] = 0
    again = fitted(written).train.batch(rows, None)
    for name, array in train.batch(rows, None).inputs.items():
        np.testing.assert_array_equal(array, again.inputs[name])


def test_an_epoch_is_the_same_however_often_it_is_opened(written: Written) -> None:
    one, other = (list(batches(fitted(written).train, 4, seed=5, epoch=2)) for _ in range(2))
    assert len(one) == len(other) > 0
    for a, b in zip(one, other, strict=True):
        assert a.inputs["x"].tobytes() == b.inputs["x"].tobytes()
        assert a.rows.tolist() == b.rows.tolist()


def test_validation_samples_are_nobody_elses(written: Written) -> None:
    made = replace(written, reading=replace(written.reading, val_share=0.25))
    data, plain = fitted(made), fitted(written)
    assert data.val is not None
    rows = [np.concatenate([b.rows for b in in_order(s, 9)]) for s in (data.train, data.val)]
    assert not set(rows[0]) & set(rows[1])
    former = np.concatenate([batch.rows for batch in in_order(plain.train, 9)])
    assert sorted(np.concatenate(rows)) == sorted(former)
    test = [np.concatenate([batch.inputs["x"] for batch in in_order(each.test, 9)]) for each in (data, plain)]
    np.testing.assert_array_equal(*test)


def test_labels_beyond_the_classes_are_named(written: Written) -> None:
    if not written.y:
        pytest.skip("it has no labels")
    opening = opened(written)
    with pytest.raises(
        OtoError,
        match=r"(y_t(rain|est)\[\d+\] is \d: labels are 0 to 1|has 3 folders of classes), the model has 2 classes",
    ):
        opening.fit(
            {"x": Input(opening.train.inputs[""].shape, np.dtype(np.float32))}, {"y": Labels(classes=2)}
        )


@pytest.mark.parametrize("damage", ["empty", "half", "foreign"])
def test_damage_is_an_error_of_ours_that_names_a_file(
    written: Written, damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file of the data set in turn is emptied, cut in two, or something else."""
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "data"
    harmless = {"tokenizer.json", "batches.meta.txt"} if damage == "empty" else set()
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name not in harmless)
    assert files
    for file in files:
        content = file.read_bytes()
        file.write_bytes(
            {"empty": b"", "half": content[: len(content) // 2], "foreign": b"\x89FOREIGN\xff\xfe"}[damage]
        )
        if file.suffix == ".py":
            shutil.rmtree(folder / "__pycache__", ignore_errors=True)
        wanted = replace(written, path=Path(str(written.path)))
        if is_right_without(file, damage, wanted):
            file.write_bytes(content)
            continue
        with pytest.raises(OtoError) as caught:
            read_all(wanted)
        assert "\n" not in str(caught.value)
        assert file.name in str(caught.value) or file.stem in str(caught.value)
        file.write_bytes(content)
    read_all(written)


def is_right_without(file: Path, damage: str, written: Written) -> bool:
    """Say whether what is left is whole: half of some lines is lines; a module that was imported stays so."""
    return (damage == "half" and file.suffix in (".txt", ".csv", ".bin")) or file.suffix == ".py"


def read_all(written: Written) -> None:
    data = fitted(written)
    for source in (data.train, data.test):
        for _ in in_order(source, 8):
            pass


def test_a_folder_without_known_files(tmp_path: Path) -> None:
    (tmp_path / "readme.md").write_text("hello")
    with pytest.raises(OtoError, match="is no data that can be read: give npz file"):
        open_data(tmp_path)
