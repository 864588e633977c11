"""A process that is killed while it writes leaves the old files or the new ones, and nothing that stays."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnx_oto.model import load, save
from onnx_oto.model.files.replace import replacing, together
from onnx_oto.model.files.saving import stage
from tests.model.killed import killed_at_every_moment

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")

TEXT = "g (float[N,3,8,8] x) => (float[N,4,8,8] y) { c = Conv<pads=[1,1,1,1]>(x, w) y = Relu(c) }"
LARGE, SMALL = 100, 10**9
"""Thresholds above which weights go to a file of their own."""


@pytest.fixture
def filled(parse) -> Callable[[float], onnx.ModelProto]:
    """Return a maker of models whose weights are all one number."""

    def make(value: float) -> onnx.ModelProto:
        model = parse(TEXT, w=(4, 3, 3, 3))
        model.graph.initializer[0].CopyFrom(
            onnx.numpy_helper.from_array(np.full((40, 3, 3, 3), value, np.float32), "w")
        )
        return model

    return make


def value_of(path: Path) -> float:
    """Return the one number of a model that is whole."""
    values = onnx.numpy_helper.to_array(load(path).graph.initializer[0])
    assert (values == values.flat[0]).all()
    return float(values.flat[0])


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


@pytest.mark.parametrize("before", [LARGE, SMALL])
@pytest.mark.parametrize("after", [LARGE, SMALL])
def test_a_model_is_the_old_one_or_the_new_one(before, after, filled, tmp_path):
    target = tmp_path / "m.onnx"

    def prepare() -> None:
        empty(tmp_path)
        save(filled(1), target, external_above=before)
        (tmp_path / "m.onnx.7.data").write_text("somebody's")

    seen = []
    for _ in killed_at_every_moment(
        prepare, lambda: save(filled(2), target, external_above=after) and None, tmp_path
    ):
        seen.append(value_of(target))
        save(filled(3), target, external_above=SMALL)
        assert value_of(target) == 3
        assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx", "m.onnx.7.data"]
    assert seen == sorted(seen)
    assert set(seen) == {1, 2}


def test_a_first_model_is_whole_or_not_there(filled, tmp_path):
    target = tmp_path / "m.onnx"
    for _ in killed_at_every_moment(
        lambda: empty(tmp_path), lambda: save(filled(2), target, external_above=LARGE) and None, tmp_path
    ):
        assert not target.exists() or value_of(target) == 2
        save(filled(3), target, external_above=LARGE)
        assert value_of(target) == 3
        assert len(list(tmp_path.iterdir())) == 2


def test_files_that_change_together_are_each_whole(filled, tmp_path):
    one, other = tmp_path / "one.onnx", tmp_path / "other.json"

    def write(value: int) -> None:
        with together() as files:
            stage(filled(value), one, files, external_above=LARGE)
            with files.writing(files.claim(other)) as file:
                file.write(b"%d" % value)

    def prepare() -> None:
        empty(tmp_path)
        write(1)

    for _ in killed_at_every_moment(prepare, lambda: write(2), tmp_path):
        assert value_of(one) in (1, 2)
        assert other.read_bytes() in (b"1", b"2")
        write(3)
        assert {path.name for path in tmp_path.iterdir()} - {"one.onnx", "other.json"} <= {
            "one.onnx.data",
            "one.onnx.1.data",
        }
        assert len(list(tmp_path.iterdir())) == 3


def test_a_checkpoint_is_the_old_one_or_the_new_one(tmp_path):
    target = tmp_path / "state.npz"

    def write(value: bytes) -> None:
        with replacing(target) as file:
            file.write(value)

    for _ in killed_at_every_moment(lambda: target.write_bytes(b"1") and None, lambda: write(b"2"), tmp_path):
        assert target.read_bytes() in (b"1", b"2")
        write(b"3")
        assert [path.name for path in tmp_path.iterdir()] == ["state.npz"]
