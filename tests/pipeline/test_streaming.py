"""Weights that are read one at a time: the same bytes as if they were held, and models compared in pieces."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from contract.random_check import random_model

from onnx_oto.errors import LimitError, ModelError, OtoError, StorageError, UnsupportedError, UsageError
from onnx_oto.model import normalise
from onnx_oto.model.files import external
from onnx_oto.model.files import replace as replace_module
from onnx_oto.pipeline.options import PruneOptions
from onnx_oto.pipeline.prune import prune
from onnx_oto.runtime.comparing import Held, compare, compare_piecewise
from onnx_oto.surgery import cut, kept_inside
from onnx_oto.zigs import analyse, choose, score
from onnx_oto.zigs.groups import Zeroed

STREAMED = {"stream_above": 0.0, "skip_latency": True}


@pytest.fixture(autouse=True)
def every_weight_is_large(monkeypatch):
    monkeypatch.setattr(external, "SMALL_BYTES", 60)


def beside(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(
        model,
        path,
        save_as_external_data=True,
        location=f"{path.name}.bin",
        size_threshold=0,
        convert_attribute=False,
    )
    return path


def pruned(source: Path, output: Path, **options) -> bytes:
    prune(source, output, PruneOptions(sparsity=0.5, round_to=1, skip_latency=True, **options))
    return output.read_bytes()


@pytest.mark.parametrize("seed", range(40))
def test_streamed_weights_give_the_same_bytes(seed, tmp_path):
    rng = np.random.default_rng(seed)
    source = beside(
        random_model(lambda n: int(rng.integers(n)), 4 + seed % 9, seed=seed), tmp_path / "m.onnx"
    )
    kept = [tmp_path / f"kept{i}.json" for i in range(2)]
    zeroed = [tmp_path / f"zeroed{i}.onnx" for i in range(2)]
    try:
        held = pruned(source, tmp_path / "held.onnx", kept=kept[0], save_zeroed=zeroed[0])
    except (UnsupportedError, LimitError) as error:
        pytest.skip(str(error))
    except OtoError as error:
        pytest.skip(f"norms amplify rounding: {error}")
    streamed = pruned(
        source, tmp_path / "streamed.onnx", kept=kept[1], save_zeroed=zeroed[1], stream_above=0.0
    )
    if streamed != held:  # a permutation stays where weights are streamed
        assert any(node.op_type == "Gather" for node in onnx.load_from_string(streamed).graph.node)
        return
    assert kept[0].read_bytes() == kept[1].read_bytes()
    assert zeroed[0].read_bytes() == zeroed[1].read_bytes()


def test_it_says_that_it_was_compared_in_pieces(model, tmp_path):
    source = beside(onnx.load(model), tmp_path / "m.onnx")
    result = prune(source, tmp_path / "c.onnx", PruneOptions(sparsity=0.5, **STREAMED))
    assert result.summary.verdict.pieces == 5  # each weight has one of its own
    assert json.loads(json.dumps(result.as_json()))["verify"]["pieces"] == 5
    assert result.summary.verdict.passed


def held_pair(seed: int) -> tuple[Held, Held, object] | None:
    rng = np.random.default_rng(seed)
    analysis = analyse(normalise(random_model(lambda n: int(rng.integers(n)), 4 + seed % 9, seed=seed)))
    choice = choose(analysis, score(analysis, "random", seed), 0.5)
    if not choice.dropped:
        return None
    result = cut(analysis, choice.drop)
    full = Held(analysis.model, Zeroed(analysis, choice.drop))
    return full, Held(result.model, {}), kept_inside(analysis, choice.drop, result)


def zeroed(full: Held) -> onnx.ModelProto:
    model = onnx.ModelProto()
    model.CopyFrom(full.model)
    for tensor in model.graph.initializer:
        tensor.CopyFrom(full.weight(tensor))
    return model


class Other(Mapping):
    """The weights of a model, one of them with another value in one place."""

    def __init__(self, model: onnx.ModelProto, name: str) -> None:
        tensor = next(t for t in model.graph.initializer if t.name == name)
        value = onnx.numpy_helper.to_array(tensor).copy()
        value.flat[0] += 1.0
        self._values = {name: value}

    def __getitem__(self, name):
        return self._values[name]

    def __iter__(self):
        return iter(self._values)

    def __len__(self):
        return len(self._values)


@pytest.mark.parametrize("seed", range(60))
def test_pieces_of_any_size_agree_and_another_weight_shows(seed):
    made = held_pair(seed)
    if made is None:
        pytest.skip("nothing goes")
    full, compact, inside = made
    for most in (0.0, 200.0, 1e9):
        try:
            verdict = compare_piecewise(full, compact, inside, most=most)
        except UnsupportedError as error:
            pytest.skip(str(error))
        if not verdict.passed and most == 0.0 and not compare(zeroed(full), compact.model).passed:
            pytest.skip("norms amplify rounding: the wholes differ too")
        assert verdict.passed, verdict.trouble
    weights = [t.name for t in compact.model.graph.initializer if len(t.dims) > 1 and t.data_type == 1]
    others = (Held(compact.model, Other(compact.model, name)) for name in weights)
    shows = any(not compare_piecewise(full, other, inside, most=0.0).passed for other in others)
    assert shows or not weights


def test_what_runs_the_whole_model_is_refused(model, tmp_path):
    source = beside(onnx.load(model), tmp_path / "m.onnx")
    for more, name in (({"data": "d.npz"}, "--data"), ({"macs": 0.5, "latency": 0.5}, "--latency")):
        with pytest.raises(UsageError, match=f"{name} runs the whole model"):
            prune(source, tmp_path / "c.onnx", PruneOptions(**more, **STREAMED))


def test_data_that_end_too_early_are_refused_and_nothing_old_is_lost(model, tmp_path, monkeypatch):
    source = beside(onnx.load(model), tmp_path / "m.onnx")
    old = pruned(source, tmp_path / "c.onnx")
    data = tmp_path / "m.onnx.bin"
    whole = data.read_bytes()
    data.write_bytes(whole[:-8])
    with pytest.raises(ModelError, match="beyond the end"):
        pruned(source, tmp_path / "c.onnx", stream_above=0.0)
    data.write_bytes(whole)
    opened = open_then_shorten(data, monkeypatch)
    with pytest.raises(ModelError, match="became shorter while reading"):
        pruned(source, tmp_path / "c.onnx", stream_above=0.0)
    assert opened
    assert (tmp_path / "c.onnx").read_bytes() == old


def open_then_shorten(data: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the data shrink once they were checked; return a list that says whether that happened."""
    done: list[int] = []
    checked = external.locate

    def locate(tensor, path, offset, length):
        checked(tensor, path, offset, length)
        if tensor.name == "w3":  # the last one
            os.truncate(data, 4)
            done.append(1)

    monkeypatch.setattr(external, "locate", locate)
    return done


def test_a_full_disk_leaves_the_old_model(model, tmp_path, monkeypatch):
    source = beside(onnx.load(model), tmp_path / "m.onnx")
    old = pruned(source, tmp_path / "c.onnx")

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(replace_module.os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        pruned(source, tmp_path / "c.onnx", stream_above=0.0)
    assert (tmp_path / "c.onnx").read_bytes() == old
    assert sorted(path.name for path in tmp_path.iterdir() if "tmp" in path.name) == []


def test_a_weight_that_was_cut_wrongly_stops_everything(model, tmp_path, monkeypatch):
    from onnx_oto.surgery import weights

    source = beside(onnx.load(model), tmp_path / "m.onnx")
    right = weights.Sliced.__getitem__
    monkeypatch.setattr(
        weights.Sliced, "__getitem__", lambda self, name: right(self, name) * np.float32(1.01)
    )
    with pytest.raises(OtoError, match="differs from the full one"):
        pruned(source, tmp_path / "c.onnx", stream_above=0.0)
    assert not (tmp_path / "c.onnx").exists()
