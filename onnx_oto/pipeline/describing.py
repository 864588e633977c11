"""What a model is told to carry with it: how its inputs are prepared, and what its classes are called."""

from __future__ import annotations

import json
from typing import Any

import onnx

from onnx_oto import data

PREFIX = "onnx_oto."
"""In front of what is ours among the metadata of a model."""
PREPARED = ("scale", "mean", "std", "resize")
"""What belongs together: how images are prepared."""


def described(model: onnx.ModelProto, dataset: data.Dataset) -> onnx.ModelProto:
    """Return a copy of `model` with what was done to the data it was trained on in its metadata, as JSON.

    onnx_oto.scale, mean, std: (x * scale - mean) / std is what the model reads; onnx_oto.resize: what images are
    brought to before their middle is cut out, pixels of the shorter side, or height and width; onnx_oto.classes: names,
    in the order of the labels. Each is there only where it is known; what an earlier run said of the same is replaced,
    all other metadata stay.
    """
    facts: dict[str, Any] = dict(dataset.prepared)
    if dataset.classes:
        facts["classes"] = list(dataset.classes)
    replaced = {PREFIX + name for name in (*facts, *(PREPARED if dataset.prepared else ()))}
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.metadata_props[:]
    result.metadata_props.extend(entry for entry in model.metadata_props if entry.key not in replaced)
    for name, value in facts.items():
        entry = result.metadata_props.add()
        entry.key, entry.value = PREFIX + name, json.dumps(value, ensure_ascii=False)
    return result
