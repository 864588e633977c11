"""Lines of text that a tokenizer makes numbers of, one sample a line.

A file train.txt, or a folder with train.txt, and test.txt and val.txt if there are any; .tsv is the same. A line is a
label, a tab and the text, or the text alone, with the labels in a file beside it (train.labels, one a line) or nowhere.
Labels are whole numbers, or words, which become classes. The tokenizer is a file of Hugging Face's `tokenizers` (JSON).

A model reads the tokens, and, by inputs whose names say so, a mask that is 1 where there is a token, and types, 0.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from onnx_oto.data import archive
from onnx_oto.data.augment import Augment
from onnx_oto.data.classes import Classes
from onnx_oto.data.dataset import Tables
from onnx_oto.data.extras import extra
from onnx_oto.data.files import reading_file
from onnx_oto.data.fit import Pixels, Rows
from onnx_oto.data.pages import Pages, pages_of
from onnx_oto.data.reading import Reading
from onnx_oto.data.source import TARGET, Dataset, Header, Input, Wanted
from onnx_oto.data.table import Table
from onnx_oto.data.unpacking import NpyWriter, Unpacked
from onnx_oto.errors import DataError, UsageError, one_line

Array = npt.NDArray[Any]

TEXT = "text file, or folder with train.txt, one sample a line (with --tokenizer)"
_SUFFIXES = (".txt", ".tsv")
_SPLITS = ("train", "val", "test")
_LINES = 1024
"""How many lines become tokens together."""
_MOST_BYTES = 1 << 24
"""The longest line that is read."""
_INT64: np.dtype[Any] = np.dtype(np.int64)
_MASK, _TYPES = re.compile(r"(?i)mask"), re.compile(r"(?i)(token_?)?types?|segments?")


@dataclass(frozen=True, eq=False)
class Padded:
    """Sequences of different lengths as [n, length], a column (see `Stored`): i is values[begin[i] : begin[i + 1]].

    what: "tokens", filled up with `padding`; "mask": 1 where there is one, and 0; "types": 0.
    """

    values: Array
    begin: Array
    length: int
    padding: int = 0
    what: str = "tokens"
    dtype: np.dtype[Any] = _INT64

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), self.length)

    @cached_property
    def _pages(self) -> Pages | None:
        return pages_of(self.values)

    def __len__(self) -> int:
        return len(self.begin) - 1

    def __getitem__(self, rows: Rows) -> Array:
        made = np.full((len(rows), self.length), self.padding if self.what == "tokens" else 0, self.dtype)
        if self.what == "types":
            return made
        for out, row in zip(made, rows, strict=True):
            sequence = self.values[self.begin[row] : self.begin[row + 1]]
            out[: len(sequence)] = sequence if self.what == "tokens" else 1
        if self._pages is not None:
            self._pages.count(len(rows), self.values.itemsize * self.length)
        return made

    def longest(self) -> int:
        """Return how many tokens the longest sequence has."""
        return int(np.diff(self.begin).max(initial=0))


def takes(path: Path) -> bool:
    """Say whether this is a file of text, or a folder with one of training samples."""
    if path.is_dir():
        return any((path / f"train{suffix}").exists() for suffix in _SUFFIXES)
    return path.suffix.lower() in _SUFFIXES and (path.is_file() or not path.exists())


@dataclass(frozen=True, eq=False)
class _Part:
    """A split. lines: where its texts come from; labels: words or numbers, None without."""

    path: Path
    tokens: Padded
    labels: list[str] | None
    cut: int


@dataclass(frozen=True, eq=False)
class Texts:
    """Texts as numbers: an Opening that gives a model the inputs that it asks for by name."""

    parts: Mapping[str, _Part]
    labels: Mapping[str, Array]
    reading: Reading
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    padding: int | None

    @property
    def longest(self) -> int:
        """How many tokens the longest text has."""
        return max(1, *(part.tokens.longest() for part in self.parts.values()))

    @property
    def train(self) -> Header:
        return replace(self._tables({}).train, padding=self.padding)

    @property
    def val(self) -> Header | None:
        header = self._tables({}).val
        return None if header is None else replace(header, padding=self.padding)

    @property
    def test(self) -> Header:
        return replace(self._tables({}).test, padding=self.padding)

    def fit(
        self,
        inputs: Mapping[str, Input],
        targets: Mapping[str, Wanted],
        *,
        pixels: Pixels | None = None,
        augment: Augment | None = None,
        needless: Collection[str] = (),
    ) -> Dataset:
        """Return the data as a model and a loss read them (see `Opening.fit`)."""
        if augment:
            raise DataError(f"{augment}: texts are no images, leave it out")
        made = self._tables(inputs).fit(inputs, targets, pixels=pixels)
        kinds = [f"{name} reads the {_kind(name)}" for name in inputs]
        if not any(_kind(name) == "mask" for name in inputs):
            kinds.append("the model has no input that says which of them are padding")
        return replace(made, notes=(*made.notes, "; ".join(kinds)))

    def _tables(self, inputs: Mapping[str, Input]) -> Tables:
        """Return columns for inputs, in their types; one without a name while nothing is known of them."""

        def table(split: str) -> Table | None:
            if split not in self.parts:
                return None
            tokens = replace(self.parts[split].tokens, length=self.longest)
            columns = {name: self._column(tokens, name, wanted) for name, wanted in inputs.items()}
            labels = {TARGET: self.labels[split]} if split in self.labels else {}
            return Table(split, columns or {"": tokens}, labels)

        train = table("train")
        assert train is not None
        return Tables(
            train, table("test"), table("val"), reading=self.reading, classes=self.classes, notes=self.notes
        )

    def _column(self, tokens: Padded, name: str, wanted: Input) -> Padded:
        length = wanted.shape[0] if len(wanted.shape) == 1 else None
        if length is not None and length < tokens.length:
            part = max(self.parts.values(), key=lambda each: each.tokens.longest())
            raise DataError(
                f"'{part.path}': a text has {self.longest} tokens, input {name!r} reads {length}: cut them with "
                f"--length {length}"
            )
        return replace(tokens, length=length or tokens.length, what=_kind(name), dtype=wanted.dtype)


def _kind(name: str) -> str:
    """Return what an input reads, by its name.

    >>> [_kind(name) for name in ("input_ids", "attention_mask", "token_type_ids", "x")]
    ['tokens', 'mask', 'types', 'tokens']
    """
    return "mask" if _MASK.search(name) else "types" if _TYPES.search(name) else "tokens"


def open_text(path: Path, reading: Reading) -> Texts:
    """Return texts as numbers; all of them are read. Raises UsageError without a tokenizer, StorageError, DataError."""
    if reading.tokenizer is None:
        raise UsageError(
            f"'{path}' is text: name the file that makes numbers of it, --tokenizer tokenizer.json"
        )
    if reading.padding is not None and reading.padding < 0:
        raise UsageError(f"pad-value is {reading.padding}: tokens are numbers from 0 on")
    encode = _Encoder(reading.tokenizer, reading)
    parts = {split: _part(file, encode, reading) for split, file in _files(path).items()}
    labelled = [split for split, part in parts.items() if part.labels is not None]
    if labelled and len(labelled) < len(parts):
        lacking = next(split for split in parts if split not in labelled)
        raise DataError(
            f"'{parts[lacking].path}' has no labels, '{parts[labelled[0]].path}' has: both need them"
        )
    labels, classes = _numbered({split: parts[split] for split in labelled})
    notes = [_told(part) for part in parts.values()]
    if classes:
        notes.append(f"labels are words: {len(classes)} classes in alphabetical order, {Classes(classes)}")
    return Texts(parts, labels, reading, classes, tuple(notes), encode.known)


def _told(part: _Part) -> str:
    counts = np.diff(part.tokens.begin)
    text = f"'{part.path}': {len(counts):,} texts of {counts.min()} to {counts.max()} tokens"
    cut = f", {part.cut} of them cut off" if part.cut else ""
    return f"{text}{cut}, filled up with {part.tokens.padding}"


def _files(path: Path) -> dict[str, Path]:
    if not path.is_dir():
        return {"train": path}
    found: dict[str, Path] = {}
    for split in _SPLITS:
        there = [place for suffix in _SUFFIXES if (place := path / f"{split}{suffix}").exists()]
        if len(there) > 1:
            raise DataError(f"'{there[0]}' and '{there[1]}' are both there: keep one of them")
        if there:
            found[split] = there[0]
    return found


def _numbered(parts: Mapping[str, _Part]) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Return the labels as numbers, and the names of classes where they are words."""
    words = {split: part.labels or [] for split, part in parts.items()}
    try:
        return {split: np.array([int(word) for word in each], np.int64) for split, each in words.items()}, ()
    except (ValueError, OverflowError):
        classes = Classes.of(words["train"])
        return {
            split: classes.numbers(each, f"'{parts[split].path}'") for split, each in words.items()
        }, classes.names


class _Encoder:
    """A tokenizer, as the reading wants it. known: what fills shorter texts, None where nobody says: 0 does then."""

    def __init__(self, path: Path, reading: Reading) -> None:
        tokenizers = extra("tokenizers", f"to read '{path}'")
        with reading_file(path) as file:
            content = file.read()
        try:
            self._tokenizer = tokenizers.Tokenizer.from_buffer(content)
        except Exception as error:  # the library raises bare exceptions
            raise DataError(
                f"'{path}' is no file of tokenizers ({one_line(error)}): save it with save()"
            ) from None
        self.known = reading.padding
        if self.known is None:
            self.known = _own_padding(self._tokenizer, self._tokenizer.padding)
        self.padding = self.known or 0
        self._tokenizer.no_padding()
        if reading.length is not None:
            self._tokenizer.enable_truncation(reading.length)
        self.state = f"{len(content)} {hash_of(content)} {reading.length}"

    def __call__(self, texts: list[str]) -> Iterator[tuple[list[int], bool]]:
        """Yield the tokens of each text, and whether some were cut off."""
        for encoding in self._tokenizer.encode_batch_fast(texts):
            yield encoding.ids, bool(encoding.overflowing)


def _own_padding(tokenizer: Any, own: Mapping[str, Any] | None) -> int | None:
    if own is not None:
        return int(own["pad_id"])
    found = (tokenizer.token_to_id(name) for name in ("[PAD]", "<pad>", "<|pad|>"))
    return next((int(number) for number in found if number is not None), None)


def hash_of(content: bytes) -> str:
    """Return a short digest of a file's content."""
    import hashlib

    return hashlib.blake2b(content, digest_size=8).hexdigest()


def _part(path: Path, encode: _Encoder, reading: Reading) -> _Part:
    """Return the tokens and labels of a file; the tokens of a large one lie in a file of their own."""
    labels: list[str] = []
    cut = 0

    def write(files: Mapping[str, BinaryIO]) -> None:
        nonlocal cut
        values, begin = NpyWriter(files["tokens"], np.int32, ()), NpyWriter(files["begin"], np.int64, ())
        end = 0
        begin.add(np.zeros(1))
        labels.clear()
        for texts in _lots(_texts(path, labels.append)):
            found = list(encode(texts))
            values.add(np.array([token for tokens, _ in found for token in tokens], np.int32))
            ends = end + np.cumsum([len(tokens) for tokens, _ in found])
            begin.add(ends)
            end = int(ends[-1])
            cut += sum(was_cut for _, was_cut in found)
        values.close()
        begin.close()
        np.save(files["cut"], cut)

    with reading_file(path) as file:
        size = file.seek(0, io.SEEK_END)
    if size >= archive.MAPPED_BYTES:
        arrays = Unpacked(reading.cache, (path,), encode.state).arrays(
            ["tokens", "begin", "cut"], size, write
        )
        if not labels:  # the tokens were there already
            for _ in _texts(path, labels.append):
                pass
    else:
        files = {name: io.BytesIO() for name in ("tokens", "begin", "cut")}
        write(files)
        arrays = {name: np.load(io.BytesIO(file.getvalue())) for name, file in files.items()}
    tokens = Padded(arrays["tokens"], arrays["begin"], 1, encode.padding)
    if not len(tokens):
        raise DataError(f"'{path}' holds no text: write one sample a line")
    beside = _beside(path)
    if beside is not None:
        labels = beside
    if labels and len(labels) != len(tokens):
        raise DataError(
            f"'{path.with_suffix('.labels')}' has {len(labels)} labels, '{path}' {len(tokens)} texts"
        )
    return _Part(path, tokens, labels or None, int(arrays["cut"]))


def _beside(path: Path) -> list[str] | None:
    """Return the labels of the file beside a file of texts, None where there is none."""
    place = path.with_suffix(".labels")
    return [line.strip() for _, line in _lines(place)] if place.exists() else None


def _lots(texts: Iterator[str]) -> Iterator[list[str]]:
    while lot := list(islice(texts, _LINES)):
        yield lot


def _texts(path: Path, label: Callable[[str], None]) -> Iterator[str]:
    """Yield the texts of a file; what stands in front of a tab is given to `label`, where the first line has one."""
    has_labels: bool | None = None
    alone = path.with_suffix(".labels").exists()
    for number, line in _lines(path):
        front, tab, text = line.partition("\t")
        if has_labels is None:
            has_labels = bool(tab) and not alone
        if has_labels and not (tab and front.strip()):
            raise DataError(
                f"'{path}', line {number}: there is no label and tab in front of the text, as in line 1"
            )
        if has_labels:
            label(front.strip())
        yield text if has_labels else line


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the numbers and lines of a file. Raises DataError for one that is empty, or no text."""
    with reading_file(path) as file:
        for number, line in enumerate(iter(lambda: file.readline(_MOST_BYTES + 1), b""), 1):
            if len(line) > _MOST_BYTES:
                raise DataError(f"'{path}', line {number}: it is longer than {_MOST_BYTES >> 20} MiB")
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError:
                raise DataError(f"'{path}', line {number}: it is no text in UTF-8") from None
            if not text.strip():
                raise DataError(f"'{path}', line {number}: it is empty; write one sample a line")
            yield number, text
