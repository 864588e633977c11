"""Types of values: between onnx's TypeProto and our (element type, shape)."""

from __future__ import annotations

from functools import cached_property

from onnx import TypeProto

from onnx_oto.model.shapes.dims import Dim, Shape

_NO_SIZE = {"", "?", "-1", "None", "*", "unknown"}


class Kind:
    """The type of a value, the same object wherever `Kinds` meets it: element type (0: no tensor) and shape."""

    def __init__(self, dtype: int, shape: Shape | None, proto: TypeProto | None = None) -> None:
        self.dtype = dtype
        self.shape = shape
        self.open = tuple([size for size in shape if isinstance(size, str)]) if shape else ()
        self._stated = proto

    def SerializeToString(self) -> bytes:
        """Return the type as it is written, so that onnx takes it for a message; it is written once."""
        return self._text

    @cached_property
    def _text(self) -> bytes:
        return bytes(self.proto.SerializeToString())

    @cached_property
    def proto(self) -> TypeProto:
        """The type as onnx writes it."""
        return tensor_type(self.dtype, self.shape) if self._stated is None else self._stated

    @cached_property
    def is_known(self) -> bool:
        """Whether it says anything at all."""
        return self._stated is None or self._stated.WhichOneof("value") is not None


class Kinds:
    """Types, each distinct one once: layers that are alike have the same ones, and need not be compared."""

    def __init__(self) -> None:
        self._tensors: dict[tuple[int, Shape | None], Kind] = {}
        self._written: dict[bytes, Kind] = {}

    def tensor(self, dtype: int, shape: Shape | None) -> Kind:
        """Return the type of a tensor; sizes that are None are open and unnamed."""
        key = dtype, shape
        found = self._tensors.get(key)
        if found is None:
            found = self._tensors[key] = Kind(dtype, shape)
        return found

    def read(self, proto: TypeProto) -> Kind:
        """Return a type that is written somewhere; the message must not be changed any more.

        What is written otherwise than `tensor_type` would ("?" for an open size) is a type of its own.
        """
        text = proto.SerializeToString()
        found = self._written.get(text)
        if found is None:
            shape = type_shape(proto)
            found = self._written[text] = Kind(proto.tensor_type.elem_type, shape, proto)
            if shape is not None and None not in shape:
                found = self._tensors.setdefault((found.dtype, shape), found)
                self._written[text] = found
        return found


def type_shape(kind: TypeProto) -> Shape | None:
    """Return the shape of a tensor type, None when the rank is unknown or the value is no tensor.

    Negative sizes, and names that exporters write for "any size", are None.
    """
    if not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
        return None
    result: list[Dim] = []
    for dim in kind.tensor_type.shape.dim:
        if (size := dim.dim_value) > 0:
            result.append(size)
        elif dim.HasField("dim_value"):
            result.append(dim.dim_value if dim.dim_value >= 0 else None)
        else:
            result.append(None if dim.dim_param in _NO_SIZE else dim.dim_param)
    return tuple(result)


def tensor_type(dtype: int, shape: Shape | None) -> TypeProto:
    """Return the type of a tensor; sizes that are None stay open and unnamed."""
    kind = TypeProto()
    kind.tensor_type.elem_type = dtype
    if shape is None:
        return kind
    target = kind.tensor_type.shape
    target.SetInParent()
    for size in shape:
        dim = target.dim.add()
        if isinstance(size, int):
            dim.dim_value = size
        elif size is not None:
            dim.dim_param = size
    return kind


def agree(a: Shape | None, b: Shape | None) -> bool:
    """Say whether two statements about one shape can both be true."""
    if a is None or b is None:
        return True
    return len(a) == len(b) and all(
        x == y or not (isinstance(x, int) and isinstance(y, int)) for x, y in zip(a, b, strict=True)
    )
