"""Tables in parquet and CSV: which columns are what, and what is said of rows that do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from kinds import images, png

from onnx_oto.data import Dataset, Input, Labels, Reading, open_data
from onnx_oto.data.source import SAMPLE_WEIGHT
from onnx_oto.errors import DataError, OtoError, UsageError

FLOAT = np.dtype(np.float32)


def parquet(path: Path, row_group_size: int = 7, **columns: Any) -> Path:
    pa.parquet.write_table(pa.table(columns), path, row_group_size=row_group_size)
    return path


def csv(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def fitted(
    path: Path, reading: Reading | None = None, classes: int | None = 3, **shapes: tuple[int, ...]
) -> Dataset:
    inputs = {name: Input(shape, FLOAT) for name, shape in shapes.items()}
    return open_data(path, reading).fit(inputs, {} if classes is None else {"y": Labels(classes=classes)})


def train(data: Dataset) -> tuple[dict[str, np.ndarray], Any, np.ndarray]:
    batch = data.train.batch(np.arange(len(data.train)), None)
    return batch.inputs, batch.targets.get("y"), batch.rows


def read(data: Dataset) -> None:
    """Read all samples."""
    for source in (data.train, data.test):
        source.batch(np.arange(len(source)), None)


def test_numbers_are_one_vector_in_the_order_of_the_columns(tmp_path: Path) -> None:
    b, a, y = np.arange(20.0), np.arange(20), np.arange(20) % 3
    path = parquet(tmp_path / "d.parquet", b=b, target=y, a=a, c=a % 2 == 0)
    data = fitted(path, x=(3,))
    inputs, labels, rows = train(data)
    np.testing.assert_array_equal(inputs["x"], np.stack([b, a, a % 2 == 0], 1)[rows])
    assert labels.tolist() == y[rows].tolist()
    assert data.notes[0].endswith(
        "the input is a vector of the columns 'b', 'a', 'c'; the label is column 'target'"
    )
    inputs, _, rows = train(fitted(path, Reading(column=("a", "b"), label="c"), 2, x=(2,)))
    np.testing.assert_array_equal(inputs["x"], np.stack([a, b], 1)[rows])


def test_integers_stay_integers(tmp_path: Path) -> None:
    path = parquet(tmp_path / "d.parquet", a=np.arange(20), b=np.arange(20, dtype=np.int8))
    dataset = open_data(path).fit({"ids": Input((2,), np.dtype(np.int64))}, {})
    assert dataset.train.batch(np.arange(3), None).inputs["ids"].dtype == np.int64


def test_numbers_as_targets(tmp_path: Path) -> None:
    y = np.linspace(0, 1, 20)
    data = open_data(parquet(tmp_path / "d.parquet", x=np.arange(20.0), y=y)).fit(
        {"x": Input((1,), FLOAT)}, {"y": Labels(shape=(None, 1))}
    )
    _, targets, rows = train(data)
    np.testing.assert_allclose(targets[:, 0], y[rows], rtol=1e-6)


@pytest.mark.parametrize("kind", ["list", "large", "fixed", "nested", "tensor"])
def test_lists_are_tensors(tmp_path: Path, kind: str) -> None:
    x = np.arange(120, dtype=np.float32).reshape(20, 2, 3)
    flat = {
        "list": pa.list_(pa.float32()),
        "large": pa.large_list(pa.float32()),
        "fixed": pa.list_(pa.float32(), 6),
    }
    if kind == "nested":
        column: Any = pa.array(x.tolist(), pa.list_(pa.list_(pa.float32(), 3)))
    elif kind == "tensor":
        column = pa.FixedShapeTensorArray.from_numpy_ndarray(x)
    else:
        column = pa.array(x.reshape(20, 6).tolist(), flat[kind])
    path = parquet(tmp_path / "d.parquet", x=column, y=np.arange(20) % 3)
    shape = (2, 3) if kind in ("nested", "tensor") else (6,)
    inputs, _, rows = train(fitted(path, x=shape))
    np.testing.assert_array_equal(inputs["x"], x.reshape(20, *shape)[rows])


def test_columns_of_several_kinds_are_inputs_by_name(tmp_path: Path) -> None:
    x = np.arange(40, dtype=np.float32).reshape(20, 2)
    path = parquet(tmp_path / "d.parquet", a=x.tolist(), b=np.arange(20.0), y=np.arange(20) % 3)
    inputs, _, rows = train(fitted(path, a=(2,), b=()))
    np.testing.assert_array_equal(inputs["a"], x[rows])
    np.testing.assert_array_equal(inputs["b"], rows)


def test_columns_that_the_model_does_not_read(tmp_path: Path) -> None:
    x = np.arange(40, dtype=np.float32).reshape(20, 2)
    path = parquet(tmp_path / "d.parquet", vector=x.tolist(), id=np.arange(20), y=np.arange(20) % 3)
    message = r"the inputs are 'vector', 'id', the model reads 'x': name the columns of .*d\.parquet' .* by --column"
    with pytest.raises(DataError, match=message):
        fitted(path, x=(2,))
    inputs, _, rows = train(fitted(path, Reading(column=("vector",)), x=(2,)))
    np.testing.assert_array_equal(inputs["x"], x[rows])


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("mapped", [False, True])
def test_images_are_decoded_when_they_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, binary: bool, mapped: bool
) -> None:
    if mapped:
        monkeypatch.setattr("onnx_oto.data.archive.MAPPED_BYTES", 100)
    x = images(6, 5, 3)["train"]
    cells: list[Any] = [png(image) for image in x]
    kind = pa.binary() if binary else pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    if not binary:
        cells = [{"bytes": cell, "path": None} for cell in cells]
    path = parquet(tmp_path / "d.parquet", img=pa.array(cells, kind), label=np.arange(30) % 3)
    for _ in range(2):
        data = fitted(path, Reading(cache=tmp_path / "cache"), x=(3, 6, 5))
        inputs, _, rows = train(data)
        np.testing.assert_array_equal(inputs["x"], (x[rows] * np.float32(1 / 255)).transpose(0, 3, 1, 2))
    assert len(list((tmp_path / "cache").glob("*.npy"))) == (3 if mapped else 0)


def test_grey_images_have_one_channel_and_are_coloured_among_coloured_ones(tmp_path: Path) -> None:
    grey = images(6, 5)["train"]
    cells = [png(image) for image in grey]
    path = parquet(tmp_path / "d.parquet", img=cells)
    assert open_data(path).train.inputs[""].shape == (6, 5, 1)
    cells[7] = png(images(6, 5, 3)["train"][7])
    data = fitted(parquet(tmp_path / "d.parquet", img=cells), classes=None, x=(3, 6, 5))
    inputs, _, rows = train(data)
    np.testing.assert_array_equal(inputs["x"][0, 1], grey[rows[0]] * np.float32(1 / 255))


def test_images_of_other_sizes(tmp_path: Path) -> None:
    cells = [png(image) for image in images(6, 5)["train"]]
    cells[-1] = png(np.zeros((9, 9), np.uint8))
    path = parquet(tmp_path / "d.parquet", img=cells)
    with pytest.raises(
        DataError, match=r"'img', row 29: the image has 9 x 9 pixels, others 6 x 5: .* --resize 6x5"
    ):
        open_data(path)
    dataset = open_data(path, Reading(resize=(4, 3))).fit({"x": Input((1, 4, 3), FLOAT)}, {})
    assert dataset.train.batch(np.arange(27), None).inputs["x"].shape == (27, 1, 4, 3)
    many = [png(np.zeros((6, 5), np.uint8))] * 90 + cells[-1:]
    dataset = open_data(parquet(tmp_path / "m.parquet", img=many)).fit({"x": Input((1, 6, 5), FLOAT)}, {})
    with pytest.raises(DataError, match="'img', row 90: the image has 9 x 9 pixels, others 6 x 5"):
        read(dataset)


def test_damaged_images_are_named(tmp_path: Path) -> None:
    good = [png(image) for image in np.random.default_rng(0).integers(0, 256, (90, 40, 40), np.uint8)]
    for bad in (b"", b"hello", good[0][:200]):
        cells = [*good[:80], bad, *good[81:]]
        path = parquet(tmp_path / "d.parquet", 100, img=cells)
        dataset = open_data(path).fit({"x": Input((1, 40, 40), FLOAT)}, {})
        with pytest.raises(
            DataError, match=r"d\.parquet', column 'img', row 80: the image cannot be decoded"
        ):
            read(dataset)


def test_words_become_classes_in_their_order(tmp_path: Path) -> None:
    words = np.array(["b", "a", "ü", "a"] * 6)
    path = csv(tmp_path / "d.csv", "x,label\n" + "".join(f"{i},{w}\n" for i, w in enumerate(words)))
    data = fitted(path, x=(1,))
    _, labels, rows = train(data)
    assert data.classes == ("a", "b", "ü")
    assert [data.classes[label] for label in labels] == words[rows].tolist()
    assert "labels are words: 3 classes in alphabetical order, a, b, ü" in data.notes
    path = parquet(tmp_path / "d.parquet", x=np.arange(24), label=pa.array(words).dictionary_encode())
    assert fitted(path, x=(1,)).classes == ("a", "b", "ü")


def test_a_test_set_with_a_class_of_its_own(tmp_path: Path) -> None:
    csv(tmp_path / "train.csv", "x,label\n1,a\n2,b\n")
    csv(tmp_path / "test.csv", "x,label\n1,a\n2,c\n")
    with pytest.raises(
        DataError, match=r"test\.csv', column 'label' has the label 'c', which no training sample has"
    ):
        fitted(tmp_path, x=(1,))


def test_splits_of_a_folder(tmp_path: Path) -> None:
    for name, first in (("train", 0), ("validation-00000-of-00001", 100), ("test", 200)):
        parquet(tmp_path / f"{name}.parquet", x=np.arange(first, first + 5))
    data = fitted(tmp_path, classes=None, x=(1,))
    assert data.val is not None
    found = [s.batch(np.arange(5), None).inputs["x"][0, 0] for s in (data.train, data.val, data.test)]
    assert found == [0, 100, 200]


def test_whole_numbers_that_end_further_on_are_floats(tmp_path: Path) -> None:
    """pyarrow guesses types from the first megabyte."""
    rows = [f"{i},{i % 3}" for i in range(250_000)]
    rows[249_000] = "0.5,1"
    path = csv(tmp_path / "d.csv", "x,label\n" + "\n".join(rows) + "\n")
    inputs, _, order = train(fitted(path, x=(1,)))
    x = np.arange(250_000, dtype=np.float32)
    x[249_000] = 0.5
    np.testing.assert_array_equal(inputs["x"][:, 0], x[order])


def test_one_split_may_have_floats_where_the_other_has_whole_numbers(tmp_path: Path) -> None:
    csv(tmp_path / "train.csv", "x,y\n1,0\n2,1\n")
    csv(tmp_path / "test.csv", "x,y\n1.5,0\n2,1\n")
    data = fitted(tmp_path, x=(1,))
    assert data.test.batch(np.arange(2), None).inputs["x"].ravel().tolist() == [1.5, 2.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"d\.csv' is empty \(0 bytes\)"),
        ("x,y\n", r"x_train has shape \(0, 1\): the first axis counts|column 'x' holds null"),
        (
            "x,y\n1,0\n2\n",
            r"d\.csv' is no CSV file, or a damaged one \(CSV parse error: Expected 2 columns, got 1",
        ),
        ("x,x\n1,0\n", "has two columns 'x': rename one of them"),
        ("x,y\n1,0\n,1\n3,2\n", r"d\.csv', column 'x', row 1 is empty: fill it or remove the row"),
        ("x,y\n1,0\nNA,1\n3,2\n", "column 'x', row 1 is empty"),
        ("x,y\n1,0\nnan,1\n3,2\n", "column 'x', row 1 (is|holds) (empty|nan)"),
        ("x,y\n1,0\ninf,1\n3,2\n", "column 'x', row 1 is inf: every number must be finite"),
        (
            "x,y\n1,0\nbig,1\n3,2\n",
            r"column 'x' holds text: if it is the label, --label x, or else name the",
        ),
        ("x,y\n2020-01-01,0\n2020-01-02,1\n", "column 'x' holds date32.*, which is not read: name others"),
        ("y\n1\n", "has no column but 'y': there is nothing that the model could read"),
        ("x,y\n1,0.5\n2,1\n", r"y_train is double|y_train is float64: class labels are integers"),
    ],
)
def test_csv_files_that_do_not_fit(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        fitted(csv(tmp_path / "d.csv", text), x=(1,))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("reading", "message"),
    [
        (Reading(label="age"), r"label is 'age': .*d\.csv' has 'x', 'y', 'label'"),
        (Reading(column=("age",), label="y"), r"column is 'age': .*d\.csv' has 'x', 'y', 'label'"),
        (
            Reading(column=("x", "y"), label="y"),
            "column 'y' is the label or a weight: it cannot be anything else too",
        ),
        (
            Reading(weight_column="y", label="y"),
            "column 'y' is the label or a weight: it cannot be anything else too",
        ),
        (Reading(weight_column="age", label="y"), r"weight-column is 'age': .*d\.csv' has 'x', 'y', 'label'"),
        (Reading(), "has columns 'y', 'label': say which is the label, --label y"),
    ],
)
def test_columns_that_are_not_there(tmp_path: Path, reading: Reading, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_data(csv(tmp_path / "d.csv", "x,y,label\n1,2,3\n"), reading)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([[1.0, 2.0]] * 9 + [[1.0]], r"column 'a', row 9 holds 1 entries, others 2: all must have one shape"),
        ([[1.0, 2.0]] * 9 + [[1.0, None]], "column 'a', row 9 lacks a number"),
        ([[1.0, 2.0]] * 9 + [None], "column 'a', row 9 is empty"),
        ([1.0] * 9 + [None], "column 'a', row 9 is empty"),
        ([1.0] * 9 + [np.nan], "column 'a', row 9 is nan: every number must be finite"),
    ],
)
@pytest.mark.parametrize("rows", [5, 50])
def test_cells_that_do_not_fit(tmp_path: Path, column: list[Any], message: str, rows: int) -> None:
    path = parquet(tmp_path / "d.parquet", rows, a=column, y=np.arange(10) % 3)
    with pytest.raises(
        DataError, match=message.replace("holds 1 entries, others 2: all", "(has|holds).*: all")
    ):
        fitted(path, x=(2,) if isinstance(column[0], list) else (1,))


def test_files_that_do_not_agree(tmp_path: Path) -> None:
    parquet(tmp_path / "train.parquet", a=np.arange(5), y=np.arange(5))
    parquet(tmp_path / "test.parquet", b=np.arange(5), y=np.arange(5))
    with pytest.raises(DataError, match=r"test\.parquet' lacks column 'a', .*train\.parquet' has it"):
        open_data(tmp_path)
    parquet(tmp_path / "test.parquet", a=["u"] * 5, y=np.arange(5))
    with pytest.raises(DataError, match=r"column 'a' holds a number in .* and a word in"):
        open_data(tmp_path)
    csv(tmp_path / "test.csv", "a,y\n1,2\n")
    with pytest.raises(DataError, match="holds parquet and CSV files: keep those of one kind"):
        open_data(tmp_path)
    for name in ("train.parquet", "test.csv"):
        (tmp_path / name).unlink()
    with pytest.raises(
        DataError, match=r"holds test\.parquet, and no training data: name their file train\.parquet"
    ):
        open_data(tmp_path)


def test_damaged_parquet_is_never_another_exception(tmp_path: Path) -> None:
    path = parquet(tmp_path / "d.parquet", a=np.random.default_rng(0).random(100), y=np.arange(100) % 3)
    good = path.read_bytes()
    said = []
    for position in range(0, len(good), 11):
        damaged = bytearray(good)
        damaged[position] ^= 0xFF
        for content in (bytes(damaged), good[:position]):
            path.write_bytes(content)
            try:
                fitted(path, x=(1,))
            except OtoError as error:
                said.append(str(error))
    assert len(said) > len(good) // 11
    assert [text for text in said if "d.parquet" not in text and "_train" not in text] == []


def test_files_that_claim_more_than_can_be_in_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns of one value, and of one image, take next to nothing."""
    monkeypatch.setattr("onnx_oto.data.archive.MOST_INFLATED", 1 << 20)
    zeros = parquet(tmp_path / "zeros.parquet", 1 << 20, a=np.zeros(1 << 20, np.int64))
    with pytest.raises(DataError, match=r"zeros\.parquet' claims 8388608 bytes, \d+ times its size"):
        open_data(zeros).fit({"x": Input((1,), FLOAT)}, {})
    cell = png(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8))
    one = parquet(tmp_path / "one.parquet", 4000, img=[cell] * 4000)
    assert one.stat().st_size < 100_000
    with pytest.raises(
        DataError, match=r"one\.parquet', column 'img' holds more than \d+ bytes: it is out of proportion"
    ):
        open_data(one).fit({"x": Input((1, 64, 64), FLOAT)}, {})


def test_a_column_of_weights_is_for_training_samples_alone(tmp_path: Path) -> None:
    weights = np.linspace(0, 2, 20)
    parquet(tmp_path / "train.parquet", a=np.arange(20.0), y=np.arange(20) % 3, w=weights)
    parquet(tmp_path / "test.parquet", a=np.arange(20.0), y=np.arange(20) % 3)
    data = fitted(tmp_path, Reading(weight_column="w"), x=(1,))
    rows = np.array([3, 1, 19])
    np.testing.assert_allclose(data.train.batch(rows, None).targets[SAMPLE_WEIGHT], weights[rows])
    assert SAMPLE_WEIGHT not in data.test.batch(rows, None).targets
    assert data.notes[0].endswith("training samples count by column 'w'")
    parquet(tmp_path / "train.parquet", a=np.arange(20.0), y=np.arange(20) % 3, w=["a"] * 20)
    with pytest.raises(DataError, match="column 'w' holds a word: weights are numbers"):
        open_data(tmp_path, Reading(weight_column="w"))
    parquet(tmp_path / "train.parquet", a=np.arange(20.0), y=np.arange(20) % 3, w=-weights)
    with pytest.raises(DataError, match="w_train"):
        fitted(tmp_path, Reading(weight_column="w"), x=(1,))
