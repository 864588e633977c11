"""Loading models safely and saving them atomically."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import onnx
from google.protobuf.message import DecodeError, EncodeError  # type: ignore[import-untyped]
from onnx import ModelProto

from onnx_oto.errors import ModelError, OtoError, StorageError, UnsupportedError, one_line
from onnx_oto.model.files.check import check
from onnx_oto.model.files.external import all_tensors, load_external, locations
from onnx_oto.model.graph.constants import store_densely
from onnx_oto.model.graph.payloads import Payloads
from onnx_oto.model.graph.skeleton import FOR_PEOPLE, copy_except_graph
from onnx_oto.model.graph.tensors import byte_count

DEFAULT_MAX_BYTES = 8 * 2**30
PROTOBUF_LIMIT = 2**31 - 1
RUNTIME_IR, RUNTIME_OPSET = 10, 21
_LONG = 1 << 16
_GRAPH_FIELD = b"\x3a"
"""How a field starts that holds the graph of a model: number 7, of a length that follows."""


def load(
    path: str | os.PathLike[str],
    *,
    max_bytes: int = DEFAULT_MAX_BYTES,
    weights: bool = True,
    stream_above: float = math.inf,
    payloads: Payloads | None = None,
) -> ModelProto:
    """Return the model of a file, proved to be well formed.

    Its nodes are in topological order, its graph has a name, sparse tensors are dense, and stored value_info is
    gone but for tensors that onnx cannot infer.

    External data come only from inside the model's folder. With `weights` False, external payloads above 8
    KiB stay external; their ranges are checked all the same. `max_bytes` caps the file and its external data
    together. Where external data take more than `stream_above` bytes, they are read when they are looked at, and not
    counted. `payloads` gets to know where large ones lie in the file. Raises StorageError when the file cannot be
    read, ModelError for everything that is wrong with what it holds, and UnsupportedError where it is of a version
    newer than the installed onnx.
    """
    path = Path(path)
    data = _read(path, max_bytes)
    try:
        model = _parse(data)
        budget = max_bytes - len(data)
        if payloads is not None:
            payloads.keep(data, model)
        del data
        load_external(model, path.parent, budget=budget, weights=weights, stream_above=stream_above)
        store_densely(model)
        check(model, trust_outputs=False)
        model.graph.name = model.graph.name or "graph"  # the format wants one, exporters forget it
    except OtoError as error:
        raise type(error)(f"model {str(path)!r}: {error}") from None
    except (
        DecodeError,
        UnicodeError,
        ValueError,
        TypeError,
        RecursionError,
        MemoryError,
        RuntimeError,
    ) as error:
        raise ModelError(f"model {str(path)!r} is not a valid ONNX file: {one_line(error)}") from None
    return model


def stored_files(path: str | os.PathLike[str]) -> list[Path]:
    """Return the files that a model is read from: its own, and those of external data that exist.

    Nothing is judged: a file that is no model has no others.
    """
    path = Path(path)
    model = parsed_or_none(path)
    named = (path.parent / name for name in sorted(locations(model)) if "\0" not in name) if model else ()
    return [path, *(each for each in named if os.path.isfile(each))]


def parsed_or_none(path: Path) -> ModelProto | None:
    """Return what a file says without its external data, None when it holds no model that can be read."""
    try:
        return _parse(_read(path, PROTOBUF_LIMIT))
    except (OtoError, ValueError, RuntimeError, MemoryError):
        return None


def stored_bytes(path: str | os.PathLike[str], model: ModelProto) -> int:
    """Return how many bytes the file of a loaded model and the external data that it names take on disk."""
    path = Path(path)
    size = path.stat().st_size
    if size >= sum(byte_count(tensor) for tensor in all_tensors(model)):
        return size  # everything fits into the file itself
    return sum(file.stat().st_size for file in {file.resolve() for file in stored_files(path)})


def runnable_bytes(model: ModelProto, *, for_people: bool = True) -> bytes:
    """Return the serialised model, its `ir_version` lowered to what the pinned ONNX Runtime reads.

    for_people: False leaves out metadata and documentation of the model, where they are long (`FOR_PEOPLE`). The
    argument is not modified. Raises UnsupportedError above 2 GB, which a single message cannot hold.
    """
    original = model.ir_version
    try:
        model.ir_version = suitable_ir(model)
        told = sum(len(each.value) for each in model.metadata_props) + len(model.doc_string)
        if for_people or told < _LONG:
            return bytes(model.SerializeToString())
        graph = model.graph.SerializeToString()
        head = copy_except_graph(model, *FOR_PEOPLE).SerializeToString()
        content = b"".join([head, _GRAPH_FIELD, _varint(len(graph)), graph])
        if len(content) > PROTOBUF_LIMIT:
            raise ValueError("it takes more than 2 GB")
        return content
    except (EncodeError, ValueError, RuntimeError) as error:
        raise UnsupportedError(
            f"the model cannot be serialised ({one_line(error)}): it is above 2 GB"
        ) from None
    finally:
        model.ir_version = original


def _varint(number: int) -> bytes:
    """Return a number as protobuf writes it.

    >>> _varint(300)
    b'\\xac\\x02'
    """
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def suitable_ir(model: ModelProto) -> int:
    """Return the IR version, at most 10 (what onnxruntime 1.19 reads) unless the opsets need more."""
    needed = onnx.helper.find_min_ir_version_for(list(model.opset_import), ignore_unknown=True)
    return int(min(model.ir_version, max(RUNTIME_IR, needed)))


def _read(path: Path, max_bytes: int) -> bytes:
    try:
        with open_regular(path) as file:
            info = os.fstat(file.fileno())
            if info.st_size > max_bytes:
                raise ModelError(
                    f"model {str(path)!r} has {info.st_size} bytes, more than the limit of {max_bytes}"
                )
            if info.st_size > PROTOBUF_LIMIT:
                raise ModelError(
                    f"model {str(path)!r} is above 2 GB in one file: store its weights as external data"
                )
            data = file.read()
    except OSError as error:
        raise StorageError(f"cannot read {str(path)!r}: {error.strerror or error}") from None
    if not data:
        raise ModelError(f"model {str(path)!r} is empty (0 bytes): export or copy it again")
    return data


@contextmanager
def open_regular(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file to read. Raises OSError, and at once StorageError for pipes, devices and folders."""
    with open(path, "rb", opener=_open_without_blocking) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise StorageError(f"cannot read {str(path)!r}: it is not a regular file")
        yield file


def _open_without_blocking(name: str, flags: int) -> int:
    """Open like `open`, but do not hang on a pipe."""
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))


_FOREIGN = {
    b"PK\x03\x04": "a zip archive, as PyTorch (.pt, .pth) and Keras (.keras) write them",
    b"\x89HDF": "an HDF5 file, as Keras (.h5) writes them",
    b"\x80": "a pickle",
}
"""What files begin with that people take for models: such a model has to be exported first."""


def _parse(data: bytes) -> ModelProto:
    model = ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        kind = next((kind for start, kind in _FOREIGN.items() if data.startswith(start)), None)
        if kind is not None:
            raise ModelError(f"not an ONNX file but {kind}: export the model as ONNX first") from None
        raise ModelError("not an ONNX file, or a truncated one: it does not parse") from None
    if not model.HasField("graph"):
        raise ModelError("not an ONNX file, or a truncated one: it holds no graph")
    if not model.ir_version:
        raise ModelError("not an ONNX file, or a truncated one: it declares no IR version")
    return model
