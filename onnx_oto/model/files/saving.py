"""Atomic save: the target is either the complete new model or what it was before, its external data too."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import numpy.typing as npt
from onnx import ModelProto, TensorProto

from onnx_oto.errors import StorageError, UsageError
from onnx_oto.model.files.external import all_tensors, locations
from onnx_oto.model.files.loading import parsed_or_none, runnable_bytes
from onnx_oto.model.files.replace import Replacements, beside, left_beside, lock_of, sweep, together
from onnx_oto.model.graph.tensors import byte_count, from_array, is_external, is_located, to_array

# Stay clear of the 2 GiB that one protobuf message may have.
EXTERNAL_ABOVE = 2**31 - 2**24
_MIN_EXTERNAL = 1024
_ALIGNMENT = 4096
_MARK = b"onnx-oto data\n"
"""What a data file begins with, in front of the first weight: only files with it are ever removed."""


def save(model: ModelProto, path: str | os.PathLike[str], *, external_above: int | None = None) -> int:
    """Write a model to a file, atomically, and return how many bytes were written, external data included.

    Above `external_above` bytes of weights (`EXTERNAL_ABOVE`, if not given), these go to ``<name>.data``, or to
    ``<name>.1.data`` where that name is taken: the data of an older model stay until the new one is in its place.

    The bytes go to a temporary file in the same folder, are forced to the disk, and the file is renamed. On
    failure the temporary files are removed, an existing target stays as it was, and StorageError is raised.
    `ir_version` is lowered in the file where the opsets allow (see `suitable_ir`). The argument is not
    modified. Raises UsageError when weights were not loaded.
    """
    with storing(path), together() as files:
        return stage(model, path, files, external_above=external_above)


def stage(
    model: ModelProto,
    path: str | os.PathLike[str],
    files: Replacements,
    *,
    external_above: int | None = None,
    values: Mapping[str, npt.NDArray[Any]] = MappingProxyType({}),
) -> int:
    """Write a model that takes its place together with other files, and return its bytes. See `save`.

    The model that is replaced loses its data file, if this package wrote that. values: of initializers that are
    external; one is held at a time. Others may be located. Raises OSError too.
    """
    absent = next(
        (t.name for t in all_tensors(model) if is_external(t) and t.name not in values and not is_located(t)),
        None,
    )
    if absent is not None:
        raise UsageError(
            f"weights of {absent!r} were not loaded, so the model cannot be saved: load it with weights"
        )
    target = files.claim(path, _sweep_model)
    older = _own_data(target)
    note = beside(target, "undo")
    if older:
        files.note(note, _names(older))
    limit = EXTERNAL_ABOVE if external_above is None else external_above
    written = 0
    if sum(byte_count(t) for t in all_tensors(model)) > limit:
        light = ModelProto()
        light.CopyFrom(model)
        with _new_data(target, older, note, files) as (weights, location):
            weights.write(_MARK)
            for tensor in light.graph.initializer:
                if byte_count(tensor) >= _MIN_EXTERNAL:
                    _move(tensor, weights, location, values)
                else:
                    _take_in(tensor, values)
            written = weights.tell()
        model = light
    elif any(map(is_external, model.graph.initializer)):
        light = ModelProto()
        light.CopyFrom(model)
        for tensor in light.graph.initializer:
            _take_in(tensor, values)
        model = light
    payload = runnable_bytes(model)
    with files.writing(target) as file:
        file.write(payload)
    for data in older:
        files.discard(data)
    return written + len(payload)


@contextmanager
def storing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what the system says inside the block into a StorageError about `path`."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot write {str(path)!r}: {error.strerror or error}") from None


def clean(path: Path) -> None:
    """Remove what killed processes left of a file. Only for who holds its folder locked. Raises OSError."""
    _sweep_model(path)
    lock_of(path).unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Remove a file that this package wrote; of a model, its data file too. Raises OSError."""
    for each in (*_own_data(path), path):
        each.unlink(missing_ok=True)


def is_data_of(target: Path, path: Path) -> bool:
    """Say whether `path` has a name that `save` may give the data file of the model `target`.

    >>> [is_data_of(Path("m.onnx"), Path(name)) for name in ("m.onnx.data", "m.onnx.1.data", "m.data", "n/m.onnx.data")]
    [True, True, False, False]
    """
    return path.parent == target.parent and bool(
        re.fullmatch(rf"{re.escape(target.name)}(\.[1-9]\d*)?\.data", path.name)
    )


def _own_data(target: Path) -> list[Path]:
    """Return the data files of the model that lies at `target`, of those that this package wrote for it.

    Another file may have such a name, and other models may read it.
    """
    named = [path for path in target.parent.iterdir() if is_data_of(target, path) and path.is_file()]
    model = parsed_or_none(target) if named else None
    read = {os.path.normpath(location) for location in locations(model)} if model else set()
    return [path for path in named if path.name in read and _is_marked(path)]


def _is_marked(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_MARK)) == _MARK


@contextmanager
def _new_data(
    target: Path, older: list[Path], note: Path, files: Replacements
) -> Iterator[tuple[BinaryIO, str]]:
    """Open a data file under a name that is free, and yield that too.

    Should the process be killed before a model names it, or before the older ones are gone, the note tells the next
    one what may be removed.
    """
    for number in itertools.count():
        data = target.with_name(f"{target.name}.{number}.data" if number else f"{target.name}.data")
        if os.path.lexists(data):
            continue
        files.note(note, _names([data, *older]))
        with ExitStack() as opened:
            try:
                file = opened.enter_context(files.creating(data, like=target))
            except FileExistsError:  # somebody else was faster
                continue
            yield file, data.name
            return


def _names(paths: list[Path]) -> str:
    return json.dumps([path.name for path in paths])


def _sweep_model(target: Path) -> None:
    """Remove what killed processes left of a model: temporary files, and data that it does not name."""
    sweep(target)
    sweep(target.with_name(target.name + ".data"))  # as earlier versions left it
    for note in left_beside(target, "undo"):
        names = _noted(note)
        kept = _own_data(target)
        for path in target.parent.iterdir():
            if path.name in names and is_data_of(target, path) and path not in kept:
                path.unlink()
        note.unlink()


def _noted(note: Path) -> list[str]:
    try:
        names = json.loads(note.read_bytes())
    except ValueError:  # killed while it was written, so nothing else was yet
        return []
    return names if isinstance(names, list) else []


def _value(tensor: TensorProto, values: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Return the value of an external tensor."""
    return values[tensor.name] if tensor.name in values else to_array(tensor)


def _take_in(tensor: TensorProto, values: Mapping[str, npt.NDArray[Any]]) -> None:
    """Put the payload of an external tensor into it."""
    if is_external(tensor):
        filled = from_array(_value(tensor, values), tensor.name)
        if tensor.doc_string:
            filled.doc_string = tensor.doc_string
        tensor.CopyFrom(filled)


def _payload(tensor: TensorProto, values: Mapping[str, npt.NDArray[Any]]) -> bytes:
    if is_external(tensor):
        return bytes(from_array(_value(tensor, values), tensor.name).raw_data)
    return bytes(tensor.raw_data) if tensor.HasField("raw_data") else to_array(tensor).tobytes()


def _move(tensor: TensorProto, file: BinaryIO, location: str, values: Mapping[str, npt.NDArray[Any]]) -> None:
    payload = _payload(tensor, values)
    file.write(b"\0" * (-file.tell() % _ALIGNMENT))
    entries = {"location": location, "offset": str(file.tell()), "length": str(len(payload))}
    file.write(payload)
    bare = TensorProto(
        name=tensor.name, data_type=tensor.data_type, dims=tensor.dims, doc_string=tensor.doc_string
    )
    bare.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        bare.external_data.add(key=key, value=value)
    tensor.CopyFrom(bare)
