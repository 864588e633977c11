"""Tables in parquet or CSV: a file, or a folder with train.parquet, and with test.parquet and validation.parquet.

One column holds the labels, by its name or as it is asked for; words become classes. Numbers in all others are one
vector, in the order of the columns. A column of lists holds tensors, and one of bytes encoded images, binary or as
Hugging Face's `datasets` write them (struct of bytes and path). Where such a column stands beside others, each column
is an input by its name. Rows are read some at a time; what is large is unpacked to files that are mapped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from onnx_oto.data.arrow_columns import Column, Files, Plan, read, where
from onnx_oto.data.arrow_files import CSV, PARQUET, TableFile
from onnx_oto.data.arrow_values import Role, images, number_dtype, role, tensors, words
from onnx_oto.data.classes import Classes
from onnx_oto.data.dataset import Tables
from onnx_oto.data.deferred import Deferred, Unread
from onnx_oto.data.embedded import framed, looked
from onnx_oto.data.fit import Stored
from onnx_oto.data.images.framing import Frame, Size
from onnx_oto.data.reading import Reading
from onnx_oto.data.source import TARGET
from onnx_oto.data.table import Table
from onnx_oto.errors import DataError, UsageError

TEXT = "parquet or CSV file, or folder with train.parquet or train.csv"
LABELS = ("label", "labels", "y", "target")
"""Names of the column that holds the labels, where none is asked for."""
_LOOKED_AT = 64
_SPLITS = {"train": "train", "test": "test"} | dict.fromkeys(("val", "valid", "validation", "dev"), "val")
_NAME = re.compile(
    rf"({'|'.join(_SPLITS)})([-_.].*)?({'|'.join(map(re.escape, (*PARQUET, *CSV)))})", re.IGNORECASE
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

    def tables(read: Callable[[str, Files, Plan], dict[str, Stored]]) -> Tables:
        made = {}
        for split, files in parts.items():
            own = plan if split == "train" else replace(plan, weight=None)
            made[split] = _table(split, read(split, files, own), own)
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
        tables(lambda split, files, own: _blank(sum(file.rows for file in files), own)),
        lambda: tables(lambda split, files, own: read(files, own, reading)),
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
    first = parts["train"][0]
    names = list(first.schema.names)
    label, weight = _label(first, names, reading), reading.weight_column
    if weight is not None and weight not in names:
        raise UsageError(f"weight-column is '{weight}': '{first.path}' has {_listed(names)}")
    chosen = list(reading.column) or [name for name in names if name not in (label, weight)]
    for name in chosen:
        if name not in names:
            raise UsageError(f"column is '{name}': '{first.path}' has {_listed(names)}")
    if label in chosen or weight in chosen or (label is not None and label == weight):
        twice = label if label in chosen else weight
        raise UsageError(f"column '{twice}' is the label or a weight: it cannot be anything else too")
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
    is_vector = all(each.role == "number" for each in features)
    counts = None if weight is None else _column(weight, parts["train"], reading)
    if counts is not None and counts.role != "number":
        raise DataError(f"{where(first, counts.name)} holds a {counts.role}: weights are numbers")
    return Plan(features, target, is_vector, classes, counts)


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
            return tensors(batch.column(name).slice(0, 1), where(file, name), 0).shape[1:]
    return ()


def _look(file: TableFile, name: str, cut: Frame | None) -> tuple[Size, int]:
    """Return size and channels of the first images of a column."""
    for batch in file.batches([name]):
        if batch.num_rows:
            return looked(
                images(batch.column(name), where(file, name), 0)[:_LOOKED_AT], where(file, name), cut
            )
    return (0, 0) if cut is None else (cut.height, cut.width), 3


def _all_words(files: Files, name: str) -> Iterator[str]:
    for file in files:
        for batch in file.batches([name]):
            yield from set(words(batch.column(name), where(file, name), 0))


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
    weight = f"; training samples count by column '{plan.weight.name}'" if plan.weight else ""
    notes = [f"'{path}': {read}; {label}{weight}"]
    if plan.label is not None and plan.label.role == "word":
        notes.append(
            f"labels are words: {len(plan.classes.names)} classes in alphabetical order, {plan.classes}"
        )
    return tuple(notes)


def _table(split: str, columns: Mapping[str, Stored], plan: Plan) -> Table:
    inputs = {"": columns[""]} if plan.is_vector else plan.named(columns)
    labels = {TARGET: columns[plan.label.name]} if plan.label else {}
    return Table(split, inputs, labels, columns[plan.weight.name] if plan.weight else None)


def _blank(rows: int, plan: Plan) -> dict[str, Stored]:
    blanks: dict[str, Stored] = {each.name: Unread((rows, *each.shape), each.dtype) for each in plan.columns}
    return blanks | ({"": Unread((rows, len(plan.features)), plan.dtype)} if plan.is_vector else {})
