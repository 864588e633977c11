"""Lines of text as tokens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from kinds import word_level

from onnx_oto.data import Augment, Dataset, Input, Labels, Pixels, Reading, open_data
from onnx_oto.errors import DataError, UsageError

INT64, INT32, FLOAT = np.dtype(np.int64), np.dtype(np.int32), np.dtype(np.float32)
WORDS = ["red", "green", "blue", "cat", "dog"]


@pytest.fixture
def reading(tmp_path: Path) -> Reading:
    (tmp_path / "tokenizer.json").write_text(word_level(WORDS))
    return Reading(tokenizer=tmp_path / "tokenizer.json", cache=tmp_path / "cache")


def written(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def fitted(path: Path, reading: Reading, length: int, classes: int | None = 3) -> Dataset:
    targets = {} if classes is None else {"y": Labels(classes=classes)}
    return open_data(path, reading).fit({"ids": Input((length,), INT64)}, targets)


def rows(data: Dataset) -> list[list[int]]:
    """Return the tokens of all training samples."""
    return data.train.batch(np.arange(len(data.train)), None).inputs["ids"].tolist()


def test_texts_are_filled_up_to_the_longest(tmp_path: Path, reading: Reading) -> None:
    written(tmp_path / "train.txt", "1\tred cat", "0\tgreen big dog", "2\tdog")
    written(tmp_path / "test.txt", "1\tblue blue blue blue")
    opening = open_data(tmp_path, reading)
    assert opening.train.inputs[""].shape == opening.test.inputs[""].shape == (4,)
    data = fitted(tmp_path, reading, 4)
    assert rows(data) == [[2, 5, 0, 0], [3, 1, 6, 0], [6, 0, 0, 0]]
    assert data.train.batch(np.arange(3), None).targets["y"].tolist() == [1, 0, 2]
    assert data.notes[0].endswith("train.txt': 3 texts of 1 to 3 tokens, filled up with 0")
    assert data.notes[-1].endswith("the model has no input that says which of them are padding")


def test_the_size_that_the_model_fixes_comes_first(tmp_path: Path, reading: Reading) -> None:
    written(tmp_path / "train.txt", "1\tred cat", "0\tgreen big dog", "2\tdog")
    written(tmp_path / "test.txt", "1\tblue")
    assert rows(fitted(tmp_path, reading, 6))[0] == [2, 5, 0, 0, 0, 0]
    with pytest.raises(
        DataError, match=r"train\.txt': a text has 3 tokens, input 'ids' reads 2: .* --length 2"
    ):
        fitted(tmp_path, reading, 2)


def test_what_is_asked_for_is_cut(tmp_path: Path, reading: Reading) -> None:
    path = written(tmp_path / "a.txt", *["red cat blue"] * 5, *["dog"] * 5)
    data = fitted(path, replace(reading, length=2, padding=4), 2, None)
    assert rows(data)[0] == [2, 5]
    assert rows(data)[-1] == [6, 4]
    assert data.notes[0].endswith("10 texts of 1 to 2 tokens, 5 of them cut off, filled up with 4")


@pytest.mark.parametrize(
    ("names", "own", "asked", "known", "filled"),
    [
        (["red", "[PAD]"], None, None, 1, 1),
        (["red", "<pad>"], 3, None, 3, 3),
        (["red", "dog"], None, None, None, 0),
        (["red", "[PAD]"], 3, 5, 5, 5),
        (["red", "dog"], None, 0, 0, 0),
    ],
)
def test_the_data_say_what_texts_are_filled_up_with(
    tmp_path: Path,
    reading: Reading,
    names: list[str],
    own: int | None,
    asked: int | None,
    known: int | None,
    filled: int,
) -> None:
    ids = {name: number for number, name in enumerate(names)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(ids, names[0]))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    if own is not None:
        tokenizer.enable_padding(pad_id=own)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    path = written(tmp_path / "a.txt", *["red red", "red"] * 10)
    opening = open_data(path, replace(reading, padding=asked, val_share=0.25))
    assert opening.val is not None
    assert [each.padding for each in (opening.train, opening.val, opening.test)] == [known] * 3
    assert {row[1] for row in rows(opening.fit({"ids": Input((2,), INT64)}, {}))} == {0, filled}


def test_tokens_are_no_negative_numbers(tmp_path: Path, reading: Reading) -> None:
    path = written(tmp_path / "a.txt", *["red"] * 10)
    with pytest.raises(UsageError, match="pad-value is -1: tokens are numbers from 0 on"):
        open_data(path, replace(reading, padding=-1))


def test_inputs_are_known_by_their_names_and_get_their_types(tmp_path: Path, reading: Reading) -> None:
    path = written(tmp_path / "a.txt", *["red cat", "dog"] * 5)
    inputs = {
        "input_ids": Input((3,), INT32),
        "attention_mask": Input((3,), FLOAT),
        "token_type_ids": Input((3,), INT64),
    }
    data = open_data(path, reading).fit(inputs, {})
    batch = data.train.batch(np.arange(9), None).inputs
    assert [batch[name].dtype for name in inputs] == [INT32, FLOAT, INT64]
    np.testing.assert_array_equal(batch["attention_mask"], (batch["input_ids"] != 0).astype(np.float32))
    assert not batch["token_type_ids"].any()
    assert data.notes[-1] == (
        "input_ids reads the tokens; attention_mask reads the mask; token_type_ids reads the types"
    )


def test_labels_in_words_and_beside_the_texts(tmp_path: Path, reading: Reading) -> None:
    written(tmp_path / "train.txt", "red\tcat", "dog")
    written(tmp_path / "train.labels", "good", "bad")
    written(tmp_path / "test.txt", "dog")
    written(tmp_path / "test.labels", "bad")
    data = fitted(tmp_path, reading, 2)
    assert data.classes == ("bad", "good")
    assert data.train.batch(np.arange(2), None).targets["y"].tolist() == [1, 0]
    assert rows(data) == [[2, 5], [6, 0]]  # a tab in a text is a space of it


def test_large_texts_are_kept_as_tokens(
    tmp_path: Path, reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnx_oto.data.archive.MAPPED_BYTES", 100)
    path = written(tmp_path / "train.tsv", *[f"{i % 3}\t" + "cat " * (i % 5 + 1) for i in range(3000)])
    one = fitted(path, reading, 5)
    monkeypatch.setattr(
        "onnx_oto.data.text._Encoder.__call__", lambda *_: pytest.fail("they are there already")
    )
    other = fitted(path, reading, 5)
    assert rows(one) == rows(other)
    every = np.arange(len(one.train))
    for data in (one, other):
        batch = data.train.batch(every, None)
        assert batch.targets["y"].tolist() == (batch.rows % 3).tolist()
        assert (batch.inputs["ids"] != 0).sum(1).tolist() == (batch.rows % 5 + 1).tolist()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"a\.txt' holds no text: write one sample a line"),
        (
            b"1\tred\n2 blue\n",
            r"a\.txt', line 2: there is no label and tab in front of the text, as in line 1",
        ),
        (b"1\tred\n\tblue\n", r"a\.txt', line 2: there is no label and tab"),
        (b"red\n\nblue\n", r"a\.txt', line 2: it is empty; write one sample a line"),
        (b"red\n\xff\xfe\n", r"a\.txt', line 2: it is no text in UTF-8"),
        (b"red\n" + b"x" * (1 << 24) + b"y\n", r"a\.txt', line 2: it is longer than 16 MiB"),
        (b"5\tred\n0\tblue\n", r"y_train\[0\] is 5: labels are 0 to 2"),
    ],
)
def test_lines_that_are_none(tmp_path: Path, reading: Reading, content: bytes, message: str) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        fitted(tmp_path / "a.txt", reading, 5, None if b"5" not in content else 3)


def test_splits_that_do_not_agree(tmp_path: Path, reading: Reading) -> None:
    written(tmp_path / "train.txt", "1\tred", "0\tblue")
    written(tmp_path / "test.txt", "red")
    with pytest.raises(DataError, match=r"test\.txt' has no labels, .*train\.txt' has: both need them"):
        open_data(tmp_path, reading)
    written(tmp_path / "test.txt", "x\tred")
    with pytest.raises(
        DataError, match=r"test\.txt' has the label 'x', which no training sample has: they have 0, 1"
    ):
        open_data(tmp_path, reading)
    written(tmp_path / "test.labels", "1", "0")
    with pytest.raises(DataError, match=r"test\.labels' has 2 labels, .*test\.txt' 1 texts"):
        open_data(tmp_path, reading)
    written(tmp_path / "test.tsv", "1\tred")
    with pytest.raises(DataError, match=r"test\.txt' and .*test\.tsv' are both there: keep one of them"):
        open_data(tmp_path, reading)


def test_without_a_tokenizer_or_with_something_else(tmp_path: Path, reading: Reading) -> None:
    path = written(tmp_path / "a.txt", "red", "blue")
    with pytest.raises(UsageError, match=r"a\.txt' is text: .* --tokenizer tokenizer\.json"):
        open_data(path)
    written(tmp_path / "tokenizer.json", "{}")
    with pytest.raises(
        DataError, match=r"tokenizer\.json' is no file of tokenizers \(.*\): save it with save\(\)"
    ):
        open_data(path, reading)


def test_what_is_for_images_is_refused(tmp_path: Path, reading: Reading) -> None:
    opening = open_data(written(tmp_path / "a.txt", *["red", "blue"] * 5), reading)
    with pytest.raises(DataError, match="texts are no images, leave it out"):
        opening.fit({"ids": Input((1,), INT64)}, {}, augment=Augment(flip=True))
    with pytest.raises(DataError, match="mean and std are for images"):
        opening.fit({"ids": Input((1,), INT64)}, {}, pixels=Pixels((0.5,), (0.5,)))
