"""What is not kept for the way back but made again gives the same gradients, and less memory is taken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from onnx_oto.gradients import Backend, TrainingSpec, prepare
from onnx_oto.gradients.backends import functions, stacked_plan
from onnx_oto.gradients.backends.ort_training import OrtTraining
from onnx_oto.gradients.backends.plain.backend import Plain
from onnx_oto.gradients.session.shards import ShardedSession
from onnx_oto.machine import has_compiler

from . import small_networks
from .available import needs_training_build
from .conftest import model_from, normal
from .small_networks import Network

needs_functions = pytest.mark.skipif(not has_compiler(), reason="needs numba")
BACKENDS = [
    pytest.param(Plain(), id="plain"),
    pytest.param(OrtTraining(), id="training build", marks=needs_training_build),
]


def session_of(network: Network, backend: Backend, shards: int = 1, *, recompute: bool) -> ShardedSession:
    spec = TrainingSpec(
        network.trainable, "cross-entropy", batch=len(network.x), shards=shards, recompute=recompute
    )
    session = prepare(network.model, spec, backend).build()
    assert isinstance(session, ShardedSession)
    return session


def steps(session: ShardedSession, network: Network) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """Yield loss, gradients and running statistics of steps of descent."""
    for _ in range(3):
        loss = session.step({"x": network.x}, network.labels)
        yield loss, session.grads.copy(), session.statistics.copy()
        session.params -= np.float32(0.01) * session.grads


def graphs_of(monkeypatch: pytest.MonkeyPatch, backend: Backend) -> list[onnx.ModelProto]:
    """Return where gradient graphs will be noted as they are made."""
    made: list[onnx.ModelProto] = []
    real = type(backend).differentiate

    def spy(*arguments: Any, **options: Any) -> onnx.ModelProto:
        made.append(real(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(type(backend), "differentiate", spy)
    return made


def again(graph: onnx.GraphProto) -> int:
    """Return how many tensors are made again."""
    return sum(name.endswith(".again") for node in graph.node for name in node.output)


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("name", ["resnet", "mobilenet", "vit", "encoder"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_steps_are_the_same(
    monkeypatch: pytest.MonkeyPatch, backend: Backend, name: str, shards: int
) -> None:
    """Bit by bit, but where norms are computed by another kernel again, and where a runtime can fuse on the way forth
    what the way back does not read any longer.
    """
    network = small_networks.NETWORKS[name]()
    made = graphs_of(monkeypatch, backend)
    kept = session_of(network, backend, shards, recompute=False)
    less = session_of(network, backend, shards, recompute=True)
    assert [bool(again(each.graph)) for each in made] == [False, True]
    has_norms = name in ("resnet", "mobilenet")
    most = 1e-4 if has_norms else 1e-5 if backend.name == "plain" else 0.0
    for one, other in zip(steps(kept, network), steps(less, network), strict=True):
        assert abs(one[0] - other[0]) <= most * one[0]
        assert np.linalg.norm(one[1] - other[1]) <= most * np.linalg.norm(one[1])
        np.testing.assert_allclose(other[2], one[2], rtol=10 * most, atol=most)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_runtime_makes_it_again_indeed(
    monkeypatch: pytest.MonkeyPatch, backend: Backend, tmp_path: Path
) -> None:
    """It would take two nodes that compute the same of the same for one."""
    network = small_networks.vit()
    made = graphs_of(monkeypatch, backend)
    session_of(network, backend, recompute=False)
    session_of(network, backend, recompute=True)
    counts = []
    for each in made:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        options.log_severity_level = 4
        onnxruntime.InferenceSession(each.SerializeToString(), options, providers=["CPUExecutionProvider"])
        optimised = onnx.load(tmp_path / "optimised.onnx")
        counts.append(Counter(node.op_type for node in optimised.graph.node))
    assert counts[1]["Softmax"] > counts[0]["Softmax"] > 0
    assert counts[1]["Reshape"] > counts[0]["Reshape"]


@needs_training_build
def test_a_parameter_without_elements_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = [f"a{i} = MatMul(h{i}, v{i}) b{i} = Tanh(a{i}) h{i + 1} = MatMul(b{i}, w{i})" for i in range(8)]
    layers[4] = layers[4].replace(
        "a4 = MatMul(h4,", "e = Expand(none, sizes) h = Concat<axis=1>(h4, e) a4 = MatMul(h,"
    )
    values = {f"v{i}": normal(8, 32, seed=i) * 0.2 for i in range(8)}
    values |= {f"w{i}": normal(32, 8, seed=i + 50) * 0.2 for i in range(8)}
    values["none"] = np.zeros((1, 0, 8), np.float32)
    model = model_from(
        f"(float[N, 6, 8] h0) => (float[N, 6, 8] h8) {{ {' '.join(layers)} }}",
        {**values, "sizes": np.array([4, 0, 8])},
    )
    made = graphs_of(monkeypatch, OrtTraining())
    gradients = []
    for recompute in (False, True):
        spec = TrainingSpec(tuple(values), "mse", batch=4, shards=1, recompute=recompute)
        session = prepare(model, spec, OrtTraining()).build()
        session.step({"h0": normal(4, 6, 8, seed=20)}, normal(4, 6, 8, seed=21))
        gradients.append(np.array(session.grads))
    assert again(made[1].graph)
    np.testing.assert_array_equal(gradients[0], gradients[1])


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_keeps_little_stays_as_it_is(monkeypatch: pytest.MonkeyPatch, backend: Backend) -> None:
    network = small_networks.encoder()
    network = network._replace(model=_head_of(network))
    made = graphs_of(monkeypatch, backend)
    session_of(network._replace(trainable=("w",)), backend, recompute=True)
    assert [again(each.graph) for each in made] == [0]


def _head_of(network: Network) -> onnx.ModelProto:
    return onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> net (int64[N, 12] x) => (float[N, 10] y) '
        "<float[12, 10] w = {" + ", ".join(["0.1"] * 120) + "}> { a = Cast<to=1>(x) y = MatMul(a, w) }"
    )


def _room(session: ShardedSession, network: Network) -> int:
    """Return the bytes that functions of ours had in use at once."""
    list(steps(session, network))
    room = session._forms[0].shards[0]._room
    assert room is not None
    words = room.words
    return int(words[8 : 8 + 2 * words[1] : 2].sum())


@needs_training_build
@needs_functions
def test_what_functions_made_is_given_back_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """And earlier still where most is made again."""
    monkeypatch.setattr(stacked_plan, "_MOVED", 0.0)
    network = small_networks.resnet()
    found = [_room(session_of(network, OrtTraining(), recompute=again), network) for again in (True, False)]
    monkeypatch.setattr(functions, "free_early", lambda graph: None)
    found.append(_room(session_of(network, OrtTraining(), recompute=False), network))
    assert found[0] < 0.75 * found[1]
    assert found[1] < 0.9 * found[2]
