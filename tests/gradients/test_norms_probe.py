"""Norms of ours are taken where they compute what they should, and not where they do not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from onnx_oto.gradients.backends import ort_norms_probe as probe
from onnx_oto.machine import has_compiler

from .functions import spoil

pytest.importorskip("onnxruntime.training.api", reason="needs ONNX Runtime's training build")


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    probe.can_norm.cache_clear()
    yield
    probe.can_norm.cache_clear()


@pytest.mark.skipif(not has_compiler(), reason="needs numba")
def test_they_are_what_they_should_be_here() -> None:
    assert probe.can_norm()


@pytest.mark.parametrize("spoilt", range(6))
def test_a_wrong_result_is_noticed(monkeypatch: pytest.MonkeyPatch, spoilt: int) -> None:
    spoil(monkeypatch, probe, spoilt)
    assert not probe.can_norm()


def test_a_runtime_that_fails_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "computed", lambda *_: None)
    assert not probe.can_norm()
