"""Atomic save: the target is either the complete new model or what it was before."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from onnx import ModelProto, TensorProto

from onnx_oto.errors import StorageError, UsageError
from onnx_oto.model.external import all_tensors
from onnx_oto.model.files import runnable_bytes
from onnx_oto.model.tensors import byte_count, is_external, to_array

# Stay clear of the 2 GiB that one protobuf message may have.
EXTERNAL_ABOVE = 2**31 - 2**24
_MIN_EXTERNAL = 1024
_ALIGNMENT = 4096


def save(model: ModelProto, path: str | os.PathLike[str], *, external_above: int = EXTERNAL_ABOVE) -> int:
    """Write a model to a file, atomically, and return how many bytes were written, external data included.

    Above `external_above` bytes of weights, these go to ``<name>.data``.

    The bytes go to a temporary file in the same folder, are forced to the disk, and the file is renamed. On
    failure the temporary files are removed, an existing target stays as it was, and StorageError is raised.
    `ir_version` is lowered in the file where the opsets allow (see `suitable_ir`). The argument is not
    modified. Raises UsageError when weights were not loaded.
    """
    absent = next((t.name for t in all_tensors(model) if is_external(t)), None)
    if absent is not None:
        raise UsageError(
            f"weights of {absent!r} were not loaded, so the model cannot be saved: load it with weights"
        )
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise StorageError(f"cannot write {str(path)!r}: it is not a regular file")
    try:
        if sum(byte_count(t) for t in all_tensors(model)) > external_above:
            written = _save_external(model, target)
        else:
            payload = runnable_bytes(model)
            written = len(payload)
            with replacing(target) as file:
                file.write(payload)
        sync_folder(target.parent)
    except OSError as error:
        raise StorageError(f"cannot write {str(path)!r}: {error.strerror or error}") from None
    return written


def _save_external(model: ModelProto, target: Path) -> int:
    """Write weights first and the model last. An older data file stays until the new model is in place."""
    data = target.with_name(target.name + ".data")
    light = ModelProto()
    light.CopyFrom(model)
    backup = data.with_name(f".{data.name}.{secrets.token_hex(4)}.old")
    with replacing(data, backup=backup) as weights:
        for tensor in light.graph.initializer:
            if byte_count(tensor) >= _MIN_EXTERNAL:
                _move(tensor, weights, data.name)
        written = weights.tell()
        payload = runnable_bytes(light)
    try:
        with replacing(target) as file:
            file.write(payload)
    except OSError:
        data.unlink()
        if backup.exists():
            os.replace(backup, data)
        raise
    backup.unlink(missing_ok=True)
    return written + len(payload)


def _move(tensor: TensorProto, file: BinaryIO, location: str) -> None:
    payload = tensor.raw_data if tensor.HasField("raw_data") else to_array(tensor).tobytes()
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


@contextlib.contextmanager
def replacing(target: Path, *, backup: Path | None = None) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces `target` when the block ends well, and vanishes otherwise."""
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if backup is not None and target.exists():
            os.replace(target, backup)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if backup is not None and backup.exists() and not target.exists():
            os.replace(backup, target)
        raise


def sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system can open folders."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
