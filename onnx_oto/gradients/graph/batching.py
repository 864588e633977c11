"""The batch axis: which inputs carry it, and giving it a static size (ORT needs one)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from onnx_oto.errors import UnsupportedError, UsageError
from onnx_oto.model import normalise


@dataclass(frozen=True)
class Feed:
    """One data input: what an array for it must look like.

    `shape` is the shape of one sample when `batched` (the batch comes first), else the whole shape.
    """

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    batched: bool


def feeds(
    model: onnx.ModelProto, weights: Collection[str], sample_shapes: Mapping[str, tuple[int, ...]]
) -> tuple[Feed, ...]:
    """Return the data inputs of a model with an open batch; sizes left open come from `sample_shapes`.

    An input carries the batch when its first axis has no fixed size. Raises UnsupportedError for sizes that
    stay open and UsageError when `sample_shapes` contradicts the model.
    """
    values = [value for value in model.graph.input if value.name not in weights]
    found = tuple(_feed(value, sample_shapes.get(value.name)) for value in values)
    if not any(feed.batched for feed in found):
        raise UnsupportedError(
            "no input of the model has an open batch axis: export it with a dynamic first axis"
        )
    return found


def _feed(value: onnx.ValueInfoProto, given: tuple[int, ...] | None) -> Feed:
    if not value.type.HasField("tensor_type"):
        raise UnsupportedError(f"input {value.name!r} is not a tensor: training reads tensors only")
    dims = [
        d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None
        for d in value.type.tensor_type.shape.dim
    ]
    batched = bool(dims) and dims[0] is None
    sizes = dims[1:] if batched else dims
    if given is not None:
        if len(given) != len(sizes) or any(s not in (None, g) for s, g in zip(sizes, given, strict=True)):
            raise UsageError(
                f"sample shape {list(given)} contradicts input {value.name!r}, which has {sizes}"
            )
        sizes = list(given)
    if None in sizes:
        axis = sizes.index(None) + batched
        raise UnsupportedError(
            f"input {value.name!r} leaves axis {axis} open besides the batch: training needs a fixed sample "
            "shape; fix it in the model or give the shape of one sample"
        )
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
    return Feed(value.name, dtype, tuple(size for size in sizes if size is not None), batched)


def set_batch(model: onnx.ModelProto, inputs: tuple[Feed, ...], size: int) -> onnx.ModelProto:
    """Return a copy whose data inputs have static shapes with `size` samples, shape arithmetic folded."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    by_name = {value.name: value for value in copy.graph.input}
    for feed in inputs:
        shape = (size, *feed.shape) if feed.batched else feed.shape
        kind = by_name[feed.name].type.tensor_type.elem_type
        by_name[feed.name].CopyFrom(helper.make_tensor_value_info(feed.name, kind, shape))
    for value in copy.graph.output:  # stale claims; inference finds the sizes
        value.type.tensor_type.ClearField("shape")
    return normalise(copy)
