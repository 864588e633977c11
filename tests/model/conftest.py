"""Small models as text, and comparison of what two models compute."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser
from onnx.reference import ReferenceEvaluator

HEADER = '<ir_version: 8, opset_import: ["":17]>\n'


@pytest.fixture
def parse() -> Callable[..., onnx.ModelProto]:
    """Parse a graph; float initializers are added by name as seeded random arrays of the given shapes."""

    def build(text: str, *, header: str = HEADER, **weights: tuple[int, ...]) -> onnx.ModelProto:
        model = parser.parse_model(header + text)
        rng = np.random.default_rng(0)
        for name, shape in weights.items():
            array = rng.standard_normal(shape).astype(np.float32)
            model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        return model

    return build


@pytest.fixture
def write(tmp_path: Path) -> Callable[[onnx.ModelProto], Path]:
    """Write a model without any check and return the path."""

    def to_file(model: onnx.ModelProto) -> Path:
        path = tmp_path / "model.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return to_file


@pytest.fixture
def same_function() -> Callable[[onnx.ModelProto, onnx.ModelProto, dict[str, np.ndarray]], None]:
    """Assert that two models give bit-identical outputs, of the same names, for one input."""

    def compare(a: onnx.ModelProto, b: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> None:
        assert [value.name for value in a.graph.output] == [value.name for value in b.graph.output]
        for x, y in zip(
            ReferenceEvaluator(a).run(None, feeds), ReferenceEvaluator(b).run(None, feeds), strict=True
        ):
            np.testing.assert_array_equal(x, y)

    return compare
