"""Types of values: between onnx's TypeProto and our (element type, shape)."""

from __future__ import annotations

from onnx import TypeProto

from onnx_oto.model.shapes.dims import Dim, Shape

_NO_SIZE = {"", "?", "-1", "None", "*", "unknown"}


def type_shape(kind: TypeProto) -> Shape | None:
    """Return the shape of a tensor type, None when the rank is unknown or the value is no tensor.

    Negative sizes, and names that exporters write for "any size", are None.
    """
    if not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
        return None
    result: list[Dim] = []
    for dim in kind.tensor_type.shape.dim:
        if dim.HasField("dim_value"):
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
