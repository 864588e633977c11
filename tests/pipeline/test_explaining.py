"""What compact models say of themselves: the same for the same command, and nothing of where or when it ran."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import onnx
import pytest

from onnx_oto.pipeline.explaining import command_of, digests
from onnx_oto.pipeline.options import CompactOptions, DemoOptions, PruneOptions, TrainOptions
from onnx_oto.pipeline.prune import compact_zeros, prune
from onnx_oto.pipeline.train import train


def said(path: Path) -> dict[str, object]:
    """Return what is ours among the metadata of a model."""
    entries = onnx.load(path).metadata_props
    return {e.key: json.loads(e.value) for e in entries if e.key.startswith("onnx_oto.")}


def test_a_compact_model_says_what_was_removed_from_what_and_how(model, tmp_path):
    original = onnx.load(model)
    original.producer_name, original.producer_version = "exporter", "7"
    original.metadata_props.add(key="author", value="somebody")
    original.metadata_props.add(key="onnx_oto.command", value='"of an earlier run"')
    onnx.save(original, tmp_path / "m.onnx")
    zeroed = tmp_path / "zeroed.onnx"
    result = prune(tmp_path / "m.onnx", tmp_path / "c.onnx", PruneOptions(sparsity=0.4, save_zeroed=zeroed))
    small, found = onnx.load(tmp_path / "c.onnx"), said(tmp_path / "c.onnx")
    assert (small.producer_name, small.producer_version) == ("exporter", "7")
    assert [e.value for e in small.metadata_props if e.key == "author"] == ["somebody"]
    assert found["onnx_oto.command"] == "onnx-oto prune --sparsity 0.4"
    digest = hashlib.sha256((tmp_path / "m.onnx").read_bytes()).hexdigest()
    assert found["onnx_oto.original"] == {"sha256": digest}
    removed = found["onnx_oto.removed"]
    summary = result.summary
    assert removed["parameters"] == {"before": summary.params.before, "after": summary.params.after}
    assert removed["channels"]["before"] - removed["channels"]["after"] == summary.removed
    assert sum(before - after for before, after in removed["dimensions"].values()) == summary.removed
    assert "onnx_oto.removed" not in {e.key for e in onnx.load(zeroed).metadata_props}
    compact_zeros(zeroed, tmp_path / "again.onnx", CompactOptions(skip_latency=True))
    assert said(tmp_path / "again.onnx")["onnx_oto.command"] == "onnx-oto compact"


def test_where_files_lie_does_not_matter(model, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    moved = tmp_path / "elsewhere/other.onnx"
    moved.write_bytes(model.read_bytes())
    prune(model, tmp_path / "a.onnx", PruneOptions(kept=tmp_path / "kept.json"))
    prune(moved, tmp_path / "elsewhere/b.onnx", PruneOptions(limit_time=50.0))
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "elsewhere/b.onnx").read_bytes()


def test_what_was_trained_says_how_and_what_it_reads(model, data, tmp_path):
    options = TrainOptions(sparsity=0.4, epochs=2, batch=16, shards=1, skip_latency=True)
    train(model, data, tmp_path / "run", options)
    found = said(tmp_path / "run/compact.onnx")
    assert str(found["onnx_oto.command"]).startswith("onnx-oto train --epochs 2 --batch 16 ")
    assert "--from scratch" in str(found["onnx_oto.command"])
    assert str(tmp_path) not in str(found)
    assert found["onnx_oto.original"] == digests(model)
    assert "onnx_oto.removed" not in said(tmp_path / "run/trained.onnx")


@pytest.mark.parametrize("share", [0.5, 0.7])
def test_a_budget_of_bytes_comes_before_explanations(model, tmp_path, share):
    result = prune(model, tmp_path / "c.onnx", PruneOptions(bytes=share, round_to=1))
    size = (tmp_path / "c.onnx").stat().st_size
    assert size == result.summary.size.after <= share * model.stat().st_size


@pytest.mark.parametrize(
    ("verb", "settings", "command"),
    [
        ("prune", PruneOptions(), "onnx-oto prune"),
        ("demo", DemoOptions(epochs=3), "onnx-oto demo --epochs 3"),
        (
            "prune",
            PruneOptions(data="/home/me/x y.npz", keep=["a*", "b c"], macs="300M"),
            "onnx-oto prune --data DATA --macs 300M --keep 'a*' --keep 'b c'",
        ),
        (
            "train",
            TrainOptions(epochs=3, mean=[0.5, 0.25], std=[1, 1], shards=2, loaders=2, flip=True),
            "onnx-oto train --epochs 3 --mean 0.5,0.25 --std 1.0,1.0 --flip",
        ),
        (
            "train",
            TrainOptions(teacher="/home/me/big.onnx", optimizer_options={"momentum": 0.5}, crop=2),
            "onnx-oto train --momentum 0.5 --teacher TEACHER --crop 2",
        ),
    ],
)
def test_commands(verb, settings, command):
    assert command_of(verb, settings) == command


def test_files_beside_a_model_have_digests_of_their_own(model, tmp_path):
    onnx.save(
        onnx.load(model), tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0
    )
    found = digests(tmp_path / "m.onnx")
    weights = hashlib.sha256((tmp_path / "w.bin").read_bytes()).hexdigest()
    assert found["data"] == {"w.bin": weights}
    assert found["sha256"] != weights
