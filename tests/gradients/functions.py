"""Functions of ours inside gradient graphs: which are called, what they give beside kernels, and when one fails."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from onnx_oto.errors import DataError
from onnx_oto.gradients import GradientSession
from onnx_oto.gradients.backends import functions
from onnx_oto.gradients.session.shards import Shard, ShardedSession

from .available import first
from .conftest import Build, gradient_of, normal

Array = NDArray[Any]


def calls_of(graph: onnx.GraphProto) -> list[str]:
    """Return the functions that a graph calls, sorted."""
    nodes = [node for node in graph.node if node.op_type == "ATen"]
    return sorted({a.name: a for a in node.attribute}["overload_name"].s.decode() for node in nodes)


def note_calls(monkeypatch: pytest.MonkeyPatch, only: Container[str] | None = None) -> list[list[str]]:
    """Return where the functions (`only` some) that each gradient graph calls will be noted as it is made."""
    seen: list[list[str]] = []
    backend = type(first())
    real = backend.differentiate

    def spy(*arguments: Any, **options: Any) -> onnx.ModelProto:
        gradient = real(*arguments, **options)
        seen.append([name for name in calls_of(gradient.graph) if only is None or name in only])
        return gradient

    monkeypatch.setattr(backend, "differentiate", spy)
    return seen


def with_and_without(
    build: Build,
    monkeypatch: pytest.MonkeyPatch,
    probe: str,
    model: onnx.ModelProto,
    trained: tuple[str, ...],
    **spec: Any,
) -> tuple[GradientSession, GradientSession]:
    """Return a session with functions that `probe` of the backend lets in, and one without."""
    ours = build(model, trained, **spec)
    with monkeypatch.context() as without:
        without.setattr(functions, probe, lambda: False)
        return ours, build(model, trained, **spec)


def require_same(
    ours: GradientSession, plain: GradientSession, x: Array, steps: int = 2, most: float = 1e-5
) -> None:
    """Compare loss, gradients, each by its norm, and running statistics, on weights that change between steps."""
    target = normal(*np.shape(plain.predict({"x": x})), seed=99)
    for _ in range(steps):
        losses = [session.step({"x": x}, target) for session in (ours, plain)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)
        for name in plain.slices:
            found, expected = gradient_of(ours, name), gradient_of(plain, name)
            assert np.linalg.norm(found - expected) <= most * np.linalg.norm(expected), name
        for name, value in plain.buffers.items():
            np.testing.assert_allclose(ours.buffers[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
        for session in (ours, plain):
            session.params *= np.float32(0.75)


def require_nobody_waits(
    monkeypatch: pytest.MonkeyPatch,
    session: ShardedSession,
    failing: int,
    steps: Callable[[], Iterator[Array]],
) -> None:
    """Let a shard fail: the step says so, and later ones give the bits of before."""
    before = [found for _, found in zip(range(2), steps(), strict=False)]
    run, broken = Shard.run, session._forms[0].shards[failing]

    def fail(shard: Shard, *given: object) -> float:
        if shard is broken:
            raise DataError("this one fails")
        return run(shard, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(Shard, "run", fail)
    with pytest.raises(DataError, match="this one fails"):
        list(steps())
    monkeypatch.setattr(Shard, "run", run)
    for one, other in zip(before, steps(), strict=False):
        np.testing.assert_array_equal(one, other)


def spoil(monkeypatch: pytest.MonkeyPatch, probe: ModuleType, result: int) -> None:
    """Let one result of what a probe computes be slightly wrong."""
    real = probe.computed

    def wrong(*arguments: object) -> object:
        found = real(*arguments)
        if found is not None:
            found[result] = found[result] + 0.01
        return found

    monkeypatch.setattr(probe, "computed", wrong)
