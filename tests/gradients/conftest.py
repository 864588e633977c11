"""Small models as text, and sessions that are closed after the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from onnx_oto.gradients import Backend, GradientSession, TrainingSpec, prepare

from .available import EACH

Array = NDArray[Any]
Build = Callable[..., GradientSession]


def model_from(text: str, weights: Mapping[str, Array], *, opset: int = 17) -> onnx.ModelProto:
    """Return `text`, the signature and body of a graph, as a model with the given initializers."""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> g {text}')
    for name, value in weights.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return model


@pytest.fixture(params=EACH)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Return each backend in turn."""
    made: Backend = request.param()
    return made


@pytest.fixture
def build(backend: Backend) -> Iterator[Build]:
    """Return a function that builds a session of each backend from a model and the fields of a spec."""
    sessions: list[GradientSession] = []

    def make(
        model: onnx.ModelProto, trainable: tuple[str, ...], loss: str = "mse", **spec: Any
    ) -> GradientSession:
        sessions.append(prepare(model, TrainingSpec(trainable, loss, **spec), backend).build())
        return sessions[-1]

    yield make
    for session in sessions:
        session.close()


def gradient_of(session: GradientSession, name: str) -> Array:
    """Return a view of one parameter's gradient."""
    offset, shape = session.slices[name]
    return session.grads[offset : offset + int(np.prod(shape))].reshape(shape)


def normal(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


class Here:
    """Runs jobs in this process."""

    def call(self, _: object, job: Callable[..., Any], *arguments: Any) -> Any:
        return job(*arguments)
