"""External data: payloads of tensors that lie in files beside the model.

A model file may name any path, so nothing is opened before it is proved to be a regular file inside the
model's own folder and before the range is proved to fit both the file and the tensor.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from onnx_oto.errors import ModelError, StorageError
from onnx_oto.model.graph.tensors import FLOATS, byte_count, is_external, locate

# Shape arithmetic needs these even when the weights stay on disk.
SMALL_BYTES = 8192


@dataclass(frozen=True)
class Slice:
    """A checked range of a file: `path` is resolved, `offset` and `length` are in bytes."""

    path: Path
    offset: int
    length: int


def all_tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Yield every tensor of the model: initializers and attributes, in bodies and functions too."""
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _node_tensors(node)
        for attr in function.attribute_proto:
            yield from _attribute_tensors(attr)


def locations(model: ModelProto) -> set[str]:
    """Return the names of files that external tensors are said to lie in, as they are written."""
    external = (tensor for tensor in all_tensors(model) if is_external(tensor))
    return {entry.value for tensor in external for entry in tensor.external_data if entry.key == "location"}


def resolve(tensor: TensorProto, folder: Path) -> Slice:
    """Return where the payload of an external tensor lies. Raises ModelError when it is not safe to read."""
    entries = _entries(tensor)
    location = entries.get("location", "")
    path = _safe_path(location, folder, tensor.name)
    needed = byte_count(tensor)
    offset = _integer(entries.get("offset", "0"), "offset", tensor.name)
    length = _integer(entries.get("length", str(needed)), "length", tensor.name)
    if tensor.data_type == TensorProto.STRING:
        raise ModelError(f"tensor {tensor.name!r} holds strings, which external data cannot store")
    if length != needed:
        raise ModelError(
            f"external data of tensor {tensor.name!r}: length {length}, but "
            f"dims {list(tensor.dims)} need {needed} bytes"
        )
    size = path.stat().st_size
    if offset + length > size:
        raise ModelError(
            f"external data of tensor {tensor.name!r}: bytes {offset} to {offset + length} lie beyond "
            f"the end of {location!r} ({size} bytes)"
        )
    return Slice(path, offset, length)


def load_external(
    model: ModelProto, folder: Path, *, budget: int, weights: bool, stream_above: float = math.inf
) -> None:
    """Check every external tensor, then read the payloads into the model, in place.

    `budget` caps the bytes read. With `weights` False only payloads up to 8 KiB are read, the others stay
    external. Where all together take more than `stream_above` bytes, so do weights of the graph itself, which are
    read from their places whenever they are looked at (see `tensors.locate`). Raises ModelError, and StorageError
    when a file cannot be read.
    """
    pending = [(tensor, resolve(tensor, folder)) for tensor in all_tensors(model) if is_external(tensor)]
    wanted = [(t, s) for t, s in pending if weights or s.length <= SMALL_BYTES]
    if sum(where.length for _, where in pending) > stream_above:
        own = {id(tensor) for tensor in model.graph.initializer}
        wanted = []
        for tensor, where in pending:
            if id(tensor) in own and tensor.data_type in FLOATS and where.length > SMALL_BYTES:
                locate(tensor, where.path, where.offset, where.length)
            else:
                wanted.append((tensor, where))
    total = sum(where.length for _, where in wanted)
    if total > budget:
        raise ModelError(f"external data hold {total} bytes, more than the limit of {budget}")
    if weights:
        _compare_checksums(pending, budget)
    for path in dict.fromkeys(where.path for _, where in wanted):
        try:
            with path.open("rb") as file:
                for tensor, where in wanted:
                    if where.path == path:
                        file.seek(where.offset)
                        _fill(tensor, file.read(where.length), where)
        except OSError as error:
            raise StorageError(
                f"cannot read external data {str(path)!r}: {error.strerror or error}"
            ) from None


def _entries(tensor: TensorProto) -> dict[str, str]:
    entries: dict[str, str] = {}
    for entry in tensor.external_data:
        if entry.key in entries:
            raise ModelError(f"external data of tensor {tensor.name!r}: {entry.key[:40]!r} is given twice")
        entries[entry.key] = entry.value
    return entries


def _compare_checksums(pending: list[tuple[TensorProto, Slice]], budget: int) -> None:
    """Raise ModelError when a file has another SHA-1 than a tensor says. Whole files are read, up to `budget` bytes."""
    digests: dict[Path, str] = {}
    for tensor, where in pending:
        expected = _entries(tensor).get("checksum")
        if expected is None:
            continue
        if where.path not in digests:
            digests[where.path] = _sha1(where.path, budget)
        if expected.strip().lower() != digests[where.path]:
            raise ModelError(
                f"external data of tensor {tensor.name!r}: checksum {expected[:40]!r}, but the SHA-1 of "
                f"{where.path.name!r} is {digests[where.path]}: the file was changed or damaged, copy it again"
            )


def _sha1(path: Path, budget: int) -> str:
    digest = hashlib.sha1(usedforsecurity=False)
    try:
        if path.stat().st_size > budget:
            raise ModelError(
                f"external data {path.name!r} hold {path.stat().st_size} bytes, more than the limit of {budget}"
            )
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise StorageError(f"cannot read external data {str(path)!r}: {error.strerror or error}") from None
    return digest.hexdigest()


def _fill(tensor: TensorProto, payload: bytes, where: Slice) -> None:
    if len(payload) != where.length:
        raise ModelError(
            f"external data of tensor {tensor.name!r}: {str(where.path)!r} became shorter while reading"
        )
    tensor.raw_data = payload
    tensor.ClearField("data_location")
    tensor.ClearField("external_data")


def _safe_path(location: str, folder: Path, name: str) -> Path:
    what = f"external data of tensor {name!r}: location {location!r}"
    pure = PurePosixPath(location.replace("\\", "/"))
    if not location or "\0" in location:
        raise ModelError(f"{what} is not a file name")
    if "_ORT_MEM_ADDR_" in location:
        raise ModelError(f"{what} is a memory address, not a file: refused")
    if pure.is_absolute() or PureWindowsPath(location).drive or PureWindowsPath(location).root:
        raise ModelError(f"{what} is an absolute path: only files inside the model's folder are read")
    if ".." in pure.parts:
        raise ModelError(f"{what} leads outside the model's folder: only files inside it are read")
    root = os.path.realpath(folder)
    path = os.path.realpath(os.path.join(root, location))
    if os.path.commonpath([root, path]) != root:
        raise ModelError(f"{what} is a link that leads outside the model's folder: put the file itself there")
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise ModelError(
            f"{what} is not there: put that file beside the model, where it was exported to"
        ) from None
    except OSError as error:
        raise ModelError(f"{what} cannot be read: {error.strerror or error}") from None
    if not stat.S_ISREG(mode):
        raise ModelError(f"{what} is not a regular file")
    return Path(path)


def _integer(text: str, key: str, name: str) -> int:
    """Return a size in bytes; what `int` reads besides plain digits (1_6, +16, other scripts) is none."""
    value = int(text) if re.fullmatch(r"[0-9]{1,19}", text) else -1
    if value < 0 or value >= 2**63:
        raise ModelError(f"external data of tensor {name!r}: {key} {text[:40]!r} is not a size in bytes")
    return value


def _graph_tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
    for node in graph.node:
        yield from _node_tensors(node)


def _node_tensors(node: NodeProto) -> Iterator[TensorProto]:
    for attr in node.attribute:
        yield from _attribute_tensors(attr)


def _attribute_tensors(attr: AttributeProto) -> Iterator[TensorProto]:
    if attr.HasField("t"):
        yield attr.t
    yield from attr.tensors
    sparse = [attr.sparse_tensor] if attr.HasField("sparse_tensor") else []
    for item in [*sparse, *attr.sparse_tensors]:
        yield item.values
        yield item.indices
    for graph in [attr.g] if attr.HasField("g") else []:
        yield from _graph_tensors(graph)
    for graph in attr.graphs:
        yield from _graph_tensors(graph)
