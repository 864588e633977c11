"""Static types of every tensor of a training copy, from the model floor's inference."""

from __future__ import annotations

from typing import Any, NamedTuple

import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from onnx_oto.model import Shape, infer


class Type(NamedTuple):
    """A tensor's ONNX element type and shape; the shape is None for unknown rank, its sizes may be symbols."""

    dtype: int
    shape: Shape | None

    @property
    def static(self) -> tuple[int, ...] | None:
        """The shape when every size is a number."""
        if self.shape is None:
            return None
        known = tuple(size for size in self.shape if isinstance(size, int))
        return known if len(known) == len(self.shape) else None


UNKNOWN = Type(TensorProto.UNDEFINED, None)


def types(model: onnx.ModelProto) -> dict[str, Type]:
    """Return the type of every tensor that inference reaches, by name; stored value_info is not trusted."""
    knowledge = infer(model)
    return {name: Type(kind, knowledge.shapes.get(name)) for name, kind in knowledge.dtypes.items()}


def constants(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    """Return the values of the initializers by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
