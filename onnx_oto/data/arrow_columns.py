"""Columns of tables as arrays: written some rows at a time, in memory or to files that are mapped."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from onnx_oto.data import archive
from onnx_oto.data.arrow_files import TableFile
from onnx_oto.data.arrow_values import Role, images, numbers, tensors, words
from onnx_oto.data.classes import Classes
from onnx_oto.data.embedded import Encoded, framed
from onnx_oto.data.fit import Stored
from onnx_oto.data.reading import Reading
from onnx_oto.data.unpacking import NpyWriter, Unpacked
from onnx_oto.errors import DataError

Array = npt.NDArray[Any]
Files = Sequence[TableFile]


@dataclass(frozen=True)
class Column:
    """A column that is read. shape, dtype: of a sample as it is served; channels are those of images."""

    name: str
    role: Role
    dtype: np.dtype[Any]
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What is read of tables. is_vector: the features are numbers, in one vector. classes: of labels that are words.

    weight: what samples count for, of training data alone.
    """

    features: tuple[Column, ...]
    label: Column | None
    is_vector: bool
    classes: Classes
    weight: Column | None = None

    @property
    def columns(self) -> tuple[Column, ...]:
        """All columns that are read, the features first."""
        return (*self.features, *(each for each in (self.label, self.weight) if each is not None))

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


def where(file: TableFile, name: str) -> str:
    """Return what messages call a column."""
    return f"'{file.path}', column '{name}'"


def read(files: Files, plan: Plan, reading: Reading) -> dict[str, Stored]:
    """Return the columns of a split; in files that are mapped, where they are large."""
    keys = _keys(plan)

    def write(places: Mapping[str, BinaryIO]) -> None:
        _write(files, plan, places)

    need = _need(files, plan)
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
                content, begin, size, each.shape[2], framed(reading.resize), where(files[0], each.name)
            )
        elif each.name in found:
            columns[each.name] = found[each.name]
    return columns | ({"": found[""]} if plan.is_vector else {})


def _need(files: Files, plan: Plan) -> int:
    """Return how many bytes the columns take. Raises DataError where that is out of proportion to the files."""
    each_row = sum(
        math.prod(each.shape) * each.dtype.itemsize for each in plan.columns if each.role != "image"
    )
    need = each_row * sum(file.rows for file in files) + sum(
        file.size for file in files if any(each.role == "image" for each in plan.columns)
    )
    if need > _most(files):
        raise DataError(
            f"'{files[0].path}' claims {need} bytes, {need // max(1, _stored(files))} times its size: if that is "
            "right, store it as npy files"
        )
    return need


def _stored(files: Files) -> int:
    return sum(file.path.stat().st_size for file in files)


def _most(files: Files) -> int:
    """Return how many bytes the files may hold when they are unpacked."""
    return archive.most_inflated(_stored(files))


def _keys(plan: Plan) -> list[str]:
    """Return the names of the arrays that columns are kept in."""
    keys = [""] if plan.is_vector else []
    for each in plan.columns:
        if each.role == "image":
            keys += [f"{each.name}.begin", f"{each.name}.content"]
        elif not plan.is_vector or each in (plan.label, plan.weight):
            keys.append(each.name)
    return keys


def _write(files: Files, plan: Plan, places: Mapping[str, BinaryIO]) -> None:
    """Write the columns of some files to npy files, some rows at a time."""
    writers = {key: NpyWriter(place, *_form(key, plan)) for key, place in places.items()}
    ends, most = {each.name: 0 for each in plan.columns if each.role == "image"}, _most(files)
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
                    if ends[each.name] > most:
                        raise DataError(
                            f"{where(file, each.name)} holds more than {most} bytes: it is out of proportion to "
                            "the file"
                        )
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
    place, held = where(file, column.name), batch.column(column.name)
    if column.role == "number":
        return numbers(held, place, first)
    if column.role == "word":
        return classes.numbers(words(held, place, first), place)
    if column.role == "image":
        return images(held, place, first)
    found = tensors(held, place, first)
    if found.shape[1:] != column.shape:
        raise DataError(
            f"{place}, row {first} has shape {list(found.shape[1:])}, others {list(column.shape)}: all must have one"
        )
    return found
