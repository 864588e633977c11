"""Tables in parquet or CSV: a file, or a folder with train.parquet, and with test.parquet and validation.parquet.

One column holds the labels, by its name or as it is asked for; words become classes. Numbers in all others are one
vector, in the order of the columns. A column of lists holds tensors, and one of bytes encoded images, binary or as
Hugging Face's `datasets` write them (struct of bytes and path). Where such a column stands beside others, each column
is an input by its name. Rows are read some at a time; what is large is unpacked to files that are mapped.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from onnx_oto.data import archive
from onnx_oto.data.arrow_files import CSV, PARQUET, TableFile
from onnx_oto.data.arrow_values import Role, images, number_dtype, numbers, role, tensors, words
from onnx_oto.data.classes import Classes
from onnx_oto.data.dataset import Tables
from onnx_oto.data.deferred import Deferred, Unread
from onnx_oto.data.embedded import Encoded, framed, looked
from onnx_oto.data.fit import Stored
from onnx_oto.data.images.framing import Frame, Size
from onnx_oto.data.reading import Reading
from onnx_oto.data.source import TARGET
from onnx_oto.data.table import Table
from onnx_oto.data.unpacking import NpyWriter, Unpacked
from onnx_oto.errors import DataError, UsageError

Array = npt.NDArray[Any]
Files = Sequence[TableFile]

TEXT = "parquet or CSV file, or folder with train.parquet or train.csv"
LABELS = ("label", "labels", "y", "target")
"""Names of the column that holds the labels, where none is asked for."""
_LOOKED_AT = 64
_SPLITS = {"train": "train", "test": "test"} | dict.fromkeys(("val", "valid", "validation", "dev"), "val")
_NAME = re.compile(
    rf"({'|'.join(_SPLITS)})([-_.].*)?({'|'.join(map(re.escape, (*PARQUET, *CSV)))})", re.IGNORECASE
)


@dataclass(frozen=True)
class Column:
    """A column that is read. shape, dtype: of a sample as it is served; channels are those of images."""

    name: str
    role: Role
    dtype: np.dtype[Any]
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What is read of tables. is_vector: the features are numbers, in one vector. classes: of labels that are words."""

    features: tuple[Column, ...]
    label: Column | None
    is_vector: bool
    classes: Classes

    @property
    def columns(self) -> tuple[Column, ...]:
        """All columns that are read, the label last."""
        return (*self.features, *([self.label] if self.label else []))

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the vector."""
        return np.result_type(*(each.dtype for each in self.features))

    def named(self, columns: Mapping[str, Stored]) -> dict[str, Stored]:
        """Return features by the names that a `Table` knows them by."""
        found = [columns[each.name] for each in self.features]
        return (
            {"": found[0]}
            if len(found) == 1
            else dict(zip((f.name for f in self.features), found, strict=True))
        )


def takes(path: Path) -> bool:
    """Say whether this is a parquet or CSV file, by its name, or a folder with one of training samples."""
    if path.is_dir():
        return any(_split_of(file) for file in path.iterdir())
    return path.suffix.lower() in (*PARQUET, *CSV)


def _split_of(file: Path) -> str | None:
    match = _NAME.fullmatch(file.name)
    return None if match is None else _SPLITS[match[1].lower()]


def open_tables(path: Path, reading: Reading) -> Deferred:
    """Return what is known of tables without reading them, but for types and counts of CSV, and labels in words.

    Raises StorageError, DataError, UsageError for columns that are not there, and RuntimeMissingError without pyarrow.
    """
    parts = _files(path)
    plan = _plan(parts, reading)
    notes = _notes(parts, plan)

    def tables(read: Callable[[str, Files], dict[str, Stored]]) -> Tables:
        made = {split: _table(split, read(split, files), plan) for split, files in parts.items()}
        try:
            return Tables(
                made["train"],
                made.get("test"),
                made.get("val"),
                reading=reading,
                classes=plan.classes.names,
                notes=notes,
            )
        except DataError as error:
            raise DataError(f"'{path}': {error}") from None

    return Deferred(
        tables(lambda split, files: _blank(sum(file.rows for file in files), plan)),
        lambda: tables(lambda split, files: _read(files, plan, reading)),
        f"name the columns of '{path}' that it reads, each by --column",
    )


def _files(path: Path) -> dict[str, list[TableFile]]:
    if not path.is_dir():
        return {"train": [TableFile(path)]}
    found: dict[str, list[TableFile]] = {}
    for file in sorted(path.iterdir()):
        split = _split_of(file)
        if split is not None:
            found.setdefault(split, []).append(TableFile(file))
    kinds = {file.is_csv for files in found.values() for file in files}
    if len(kinds) > 1:
        raise DataError(f"'{path}' holds parquet and CSV files: keep those of one kind")
    if "train" not in found:
        there = ", ".join(file.path.name for files in found.values() for file in files)
        raise DataError(
            f"'{path}' holds {there}, and no training data: name their file train.parquet or train.csv"
        )
    return {split: found[split] for split in ("train", "val", "test") if split in found}


def _plan(parts: Mapping[str, Files], reading: Reading) -> Plan:
    every = [file for files in parts.values() for file in files]
    first, names = every[0], list(parts["train"][0].schema.names)
    first = parts["train"][0]
    label = _label(first, names, reading)
    chosen = list(reading.column) or [name for name in names if name != label]
    for name in chosen:
        if name not in names:
            raise UsageError(f"column is '{name}': '{first.path}' has {_listed(names)}")
    if label in chosen:
        raise UsageError(f"column '{label}' is the label: the model cannot read it too")
    if not chosen:
        raise DataError(
            f"'{first.path}' has no column but '{label}': there is nothing that the model could read"
        )
    features = tuple(_column(name, every, reading) for name in chosen)
    unread = next((each for each in features if each.role == "word"), None)
    if unread is not None:
        raise DataError(
            f"'{first.path}', column '{unread.name}' holds text: if it is the label, --label {unread.name}, or else "
            "name the columns to read, each by --column"
        )
    target = None if label is None else _column(label, every, reading)
    classes = Classes(first.class_names(label) if label else ())
    if target is not None and target.role == "word":
        classes = Classes.of(_all_words(parts["train"], target.name))
    return Plan(features, target, all(each.role == "number" for each in features), classes)


def _label(file: TableFile, names: Sequence[str], reading: Reading) -> str | None:
    if reading.label is not None:
        if reading.label not in names:
            raise UsageError(f"label is '{reading.label}': '{file.path}' has {_listed(names)}")
        return reading.label
    found = [name for name in names if name.lower() in LABELS]
    if len(found) > 1:
        raise UsageError(
            f"'{file.path}' has columns {_listed(found)}: say which is the label, --label {found[0]}"
        )
    return found[0] if found else None


def _column(name: str, files: Files, reading: Reading) -> Column:
    """Return what a column holds in all files. Raises DataError where they do not agree, or it cannot be read."""
    roles: dict[Role, TableFile] = {}
    for file in files:
        if name not in file.schema.names:
            raise DataError(
                f"'{file.path}' lacks column '{name}', '{files[0].path}' has it: all files need it"
            )
        kind = file.schema.field(name).type
        found = role(kind)
        if found is None:
            raise DataError(
                f"'{file.path}', column '{name}' holds {kind}, which is not read: name others, each by --column"
            )
        roles[found] = file
    if len(roles) > 1:
        (one, first), (other, second) = list(roles.items())[:2]
        raise DataError(f"column '{name}' holds a {one} in '{first.path}' and a {other} in '{second.path}'")
    kind = next(iter(roles))
    types = [file.schema.field(name).type for file in files]
    if kind == "word":
        return Column(name, kind, np.dtype(np.int64))
    if kind == "image":
        size, channels = _look(files[0], name, framed(reading.resize))
        return Column(name, kind, np.dtype(np.uint8), (*size, channels))
    dtype = np.result_type(*map(number_dtype, types))
    return Column(name, kind, dtype, _shape(files[0], name) if kind == "tensor" else ())


def _shape(file: TableFile, name: str) -> tuple[int, ...]:
    """Return the shape of the first tensor of a column."""
    for batch in file.batches([name]):
        if batch.num_rows:
            return tensors(batch.column(name).slice(0, 1), _where(file, name), 0).shape[1:]
    return ()


def _look(file: TableFile, name: str, cut: Frame | None) -> tuple[Size, int]:
    """Return size and channels of the first images of a column."""
    for batch in file.batches([name]):
        if batch.num_rows:
            return looked(
                images(batch.column(name), _where(file, name), 0)[:_LOOKED_AT], _where(file, name), cut
            )
    return (0, 0) if cut is None else (cut.height, cut.width), 3


def _all_words(files: Files, name: str) -> Iterator[str]:
    for file in files:
        for batch in file.batches([name]):
            yield from set(words(batch.column(name), _where(file, name), 0))


def _where(file: TableFile, name: str) -> str:
    return f"'{file.path}', column '{name}'"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:8]) + (
        f" and {len(names) - 8} more" if len(names) > 8 else ""
    )


def _notes(parts: Mapping[str, Files], plan: Plan) -> tuple[str, ...]:
    names = _listed([each.name for each in plan.features])
    one = "the input is column" if len(plan.features) == 1 else "the inputs are the columns"
    read = f"the input is a vector of the columns {names}" if plan.is_vector else f"{one} {names}"
    path = parts["train"][0].path
    label = (
        f"the label is column '{plan.label.name}'"
        if plan.label
        else "no column is called label, y or target: no labels"
    )
    notes = [f"'{path}': {read}; {label}"]
    if plan.label is not None and plan.label.role == "word":
        notes.append(
            f"labels are words: {len(plan.classes.names)} classes in alphabetical order, {plan.classes}"
        )
    return tuple(notes)


def _table(split: str, columns: Mapping[str, Stored], plan: Plan) -> Table:
    inputs = {"": columns[""]} if plan.is_vector else plan.named(columns)
    return Table(split, inputs, {TARGET: columns[plan.label.name]} if plan.label else {})


def _blank(rows: int, plan: Plan) -> dict[str, Stored]:
    blanks: dict[str, Stored] = {each.name: Unread((rows, *each.shape), each.dtype) for each in plan.columns}
    return blanks | ({"": Unread((rows, len(plan.features)), plan.dtype)} if plan.is_vector else {})


def _read(files: Files, plan: Plan, reading: Reading) -> dict[str, Stored]:
    """Return the columns of a split; in files that are mapped, where they are large."""
    keys = _keys(plan)

    def write(places: Mapping[str, BinaryIO]) -> None:
        _write(files, plan, places)

    need = sum(file.size for file in files)
    if need >= archive.MAPPED_BYTES:
        sources = tuple(file.path for file in files)
        found = Unpacked(reading.cache, sources, repr(plan)).arrays(keys, need, write)
    else:
        places = {key: io.BytesIO() for key in keys}
        write(places)
        found = {key: np.load(io.BytesIO(place.getvalue())) for key, place in places.items()}
    columns: dict[str, Stored] = {}
    for each in plan.columns:
        if each.role == "image":
            size = (each.shape[0], each.shape[1])
            begin, content = found[f"{each.name}.begin"], found[f"{each.name}.content"]
            columns[each.name] = Encoded(
                content, begin, size, each.shape[2], framed(reading.resize), _where(files[0], each.name)
            )
        elif each.name in found:
            columns[each.name] = found[each.name]
    return columns | ({"": found[""]} if plan.is_vector else {})


def _keys(plan: Plan) -> list[str]:
    """Return the names of the arrays that columns are kept in."""
    keys = [""] if plan.is_vector else []
    for each in plan.columns:
        if each.role == "image":
            keys += [f"{each.name}.begin", f"{each.name}.content"]
        elif not plan.is_vector or each is plan.label:
            keys.append(each.name)
    return keys


def _write(files: Files, plan: Plan, places: Mapping[str, BinaryIO]) -> None:
    """Write the columns of some files to npy files, some rows at a time."""
    writers = {key: NpyWriter(place, *_form(key, plan)) for key, place in places.items()}
    ends = {each.name: 0 for each in plan.columns if each.role == "image"}
    for name in ends:
        writers[f"{name}.begin"].add(np.zeros(1))
    for file in files:
        first = 0
        for batch in file.batches([each.name for each in plan.columns]):
            found = {each.name: _values(file, each, batch, first, plan.classes) for each in plan.columns}
            if plan.is_vector:
                writers[""].add(np.stack([found[each.name] for each in plan.features], axis=1))
            for each in plan.columns:
                values = found[each.name]
                if each.role == "image":
                    lengths = np.cumsum([len(content) for content in values])
                    writers[f"{each.name}.begin"].add(ends[each.name] + lengths)
                    writers[f"{each.name}.content"].add(np.frombuffer(b"".join(values), np.uint8))
                    ends[each.name] += int(lengths[-1]) if len(lengths) else 0
                elif each.name in writers:
                    writers[each.name].add(values)
            first += batch.num_rows
    for writer in writers.values():
        writer.close()


def _form(key: str, plan: Plan) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Return the type and shape of what an array holds."""
    if plan.is_vector and key == "":
        return plan.dtype, (len(plan.features),)
    for each in plan.columns:
        if each.role != "image" and each.name == key:
            return each.dtype, each.shape
    return np.dtype(np.int64 if key.endswith(".begin") else np.uint8), ()


def _values(file: TableFile, column: Column, batch: Any, first: int, classes: Classes) -> Any:
    """Return the values of a column in some rows. Raises DataError naming the row."""
    where, held = _where(file, column.name), batch.column(column.name)
    if column.role == "number":
        return numbers(held, where, first)
    if column.role == "word":
        return classes.numbers(words(held, where, first), where)
    if column.role == "image":
        return images(held, where, first)
    found = tensors(held, where, first)
    if found.shape[1:] != column.shape:
        raise DataError(
            f"{where}, row {first} has shape {list(found.shape[1:])}, others {list(column.shape)}: all must have one"
        )
    return found
