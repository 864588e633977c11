"""Data that are no npz file, through the whole of `train`: one function that opens them, and one entry."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow.parquet
import pytest
from onnx import numpy_helper, parser

from onnx_oto import data
from onnx_oto.data import OPENERS, Opener
from onnx_oto.errors import UnsupportedError, UsageError
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.pipeline.resume import resume
from onnx_oto.pipeline.train import train
from onnx_oto.settings import Setting, settings_of
from onnx_oto.settings.base import flat
from onnx_oto.settings.declare import About
from onnx_oto.settings.files import read_settings
from onnx_oto.settings.kinds import PATH, SOURCE

SHORT = {"epochs": 30, "batch": 16, "lr": 0.05, "sparsity": 0.4}


def folder_of_npy(data: Path, place: Path) -> Path:
    place.mkdir()
    for key, array in np.load(data).items():
        np.save(place / f"{key}.npy", array)
    return place


def folder_of_parquet(data: Path, place: Path) -> Path:
    place.mkdir()
    held = np.load(data)
    for split in ("train", "test"):
        columns = {f"c{i}": held[f"x_{split}"][:, i] for i in range(6)}
        pyarrow.parquet.write_table(
            pyarrow.table({**columns, "label": held[f"y_{split}"]}), place / f"{split}.parquet"
        )
    return place


def function(data: Path, place: Path) -> str:
    place.with_name(f"{place.name}_of_{data.parent.name}.py").write_text(
        f"import numpy as np\ndef load():\n    return np.load({str(data)!r})\n"
    )
    return f"{place.name}_of_{data.parent.name}:load"


@pytest.mark.parametrize("make", [folder_of_npy, folder_of_parquet, function])
def test_other_kinds_give_what_the_npz_file_gives(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[..., Path | str]
) -> None:
    source = make(data, tmp_path / "other")
    monkeypatch.chdir(tmp_path)
    options = TrainOptions(shards=1, **SHORT)
    result = train(model, source, tmp_path / "a", options)
    train(model, data, tmp_path / "b", options)
    assert result.gain is not None
    assert result.gain.scores[0].value > 0.9
    assert (tmp_path / "a/compact.onnx").read_bytes() == (tmp_path / "b/compact.onnx").read_bytes()


def test_a_function_stays_one_in_the_settings_of_a_run(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = function(data, tmp_path / "again")
    monkeypatch.chdir(tmp_path)
    train(model, source, tmp_path / "runs/a", TrainOptions(shards=1, epochs=1, val_share=0.25, split_seed=3))
    known = (
        *settings_of(TrainOptions),
        Setting("model", PATH, About("")),
        Setting("data", SOURCE, About("")),
    )
    found = read_settings(tmp_path / "runs/a/run.toml", "train", flat(known), ["train"])
    assert found["data"] == source
    assert (found["val_share"], found["split_seed"]) == (0.25, 3)


@pytest.mark.parametrize("make", [function, folder_of_parquet])
def test_runs_on_other_kinds_go_on_to_the_same_bytes(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[..., Path | str]
) -> None:
    source = make(data, tmp_path / "gone_on")
    monkeypatch.chdir(tmp_path)
    options = TrainOptions(shards=1, val_share=0.25, **{**SHORT, "epochs": 6})
    train(model, source, tmp_path / "whole", options)
    asked = iter(range(7))
    train(model, source, tmp_path / "left", options, stop=lambda: next(asked, None) is None)
    assert not (tmp_path / "left/compact.onnx").exists()
    resume(tmp_path / "left")
    assert (tmp_path / "left/compact.onnx").read_bytes() == (tmp_path / "whole/compact.onnx").read_bytes()


def test_what_is_set_apart_is_told_and_left_out_of_training(model: Path, data: Path, tmp_path: Path) -> None:
    held = np.load(data)
    np.savez(tmp_path / "whole.npz", x_train=held["x_train"], y_train=held["y_train"])
    said: list[str] = []
    options = TrainOptions(shards=1, val_share=0.25, test_share=0.5, **{**SHORT, "epochs": 2})
    result = train(model, tmp_path / "whole.npz", tmp_path / "run", options, say=said.append)
    assert any(text.startswith("48 of 96 samples are test samples") for text in said)
    assert any(text.startswith("12 of 48 training samples are validation samples") for text in said)
    assert result.history.steps == 2 * (36 // 16)
    assert result.gain is not None
    assert result.gain.scores[0].samples == 48


def test_large_compressed_data_are_unpacked_in_the_folder_of_the_run(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnx_oto.data.archive.MAPPED_BYTES", 1000)
    np.savez_compressed(tmp_path / "small.npz", **np.load(data))
    options = TrainOptions(shards=1, overwrite=True, **{**SHORT, "epochs": 2})
    train(model, tmp_path / "small.npz", tmp_path / "run", options)
    first = {file: file.stat().st_mtime_ns for file in (tmp_path / "run/unpacked").iterdir()}
    assert len(first) == 1
    train(model, tmp_path / "small.npz", tmp_path / "run", options)
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "run/unpacked").iterdir()} == first
    train(model, tmp_path / "small.npz", tmp_path / "other", replace(options, cache=tmp_path / "cache"))
    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert not (tmp_path / "other/unpacked").exists()
    assert (tmp_path / "run/compact.onnx").read_bytes() == (tmp_path / "other/compact.onnx").read_bytes()


def test_a_refused_run_leaves_nothing_of_what_it_unpacked(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnx_oto.data.archive.MAPPED_BYTES", 1000)
    np.savez_compressed(tmp_path / "small.npz", **np.load(data))
    unpacked: list[bool] = []

    def refused(*args: object, **kwargs: object) -> None:
        unpacked.append(any((tmp_path / "run/unpacked").iterdir()))
        raise UnsupportedError("no")

    options = TrainOptions(shards=1, **{**SHORT, "epochs": 1})
    for place in ("pipeline.train.make_optimizer", "pipeline.beginning.original_of"):
        with monkeypatch.context() as patched:
            patched.setattr(f"onnx_oto.{place}", refused)
            with pytest.raises(UnsupportedError, match="no"):
                train(model, tmp_path / "small.npz", tmp_path / "run", options)
        assert not (tmp_path / "run").exists()
    assert unpacked == [True, True]
    train(model, tmp_path / "small.npz", tmp_path / "run", options)
    with pytest.raises(UsageError, match="patience is for validation data"):
        train(
            model,
            tmp_path / "small.npz",
            tmp_path / "run",
            replace(options, overwrite=True, patience=1),
        )
    assert len(list((tmp_path / "run/unpacked").iterdir())) == 1
    assert (tmp_path / "run/compact.onnx").exists()


def test_a_cut_model_is_judged_on_the_test_samples_of_the_same_split(model: Path, tmp_path: Path) -> None:
    from onnx_oto.pipeline.inspecting import inspect
    from onnx_oto.pipeline.options import InspectOptions

    rows = [",".join(map(str, [*range(i, i + 6), "abc"[i % 3]])) for i in range(40)]
    (tmp_path / "d.csv").write_text("\n".join(["a,b,c,d,e,f,kind", *rows]) + "\n")
    report = inspect(
        model,
        InspectOptions(curve=True, data=tmp_path / "d.csv", label="kind", test_share=0.5, metric=["top-1"]),
    )
    assert report.curve is not None
    judged = [point.judgement for point in report.curve]
    assert all(each is not None and each.samples == 20 for each in judged)


# --- sequences of different lengths ---------------------------------------------------------------------------------
LENGTH = 10
TEXT = f"""
<ir_version: 8, opset_import: ["" : 17]>
g (int64[N,{LENGTH}] ids, float[N,{LENGTH}] mask) => (float[N,3] y)
<int64[1] last = {{2}}, int64[1] words = {{1}}> {{
    e = Gather(table, ids)
    m = Unsqueeze(mask, last)
    k = Mul(e, m)
    s = ReduceSum<keepdims=0>(k, words)
    h = Gemm(s, w1, b1)
    r = Relu(h)
    y = MatMul(r, w2)
}}
"""


@dataclass
class Sequences:
    """Sequences of 2 to LENGTH words below 30; the class is the word that is there most.

    Padded to the length that the model reads, with a word that the mask takes out.
    """

    split: str
    seed: int = 0
    count: int = 96

    def __post_init__(self) -> None:
        rng = np.random.default_rng((self.seed, self.split == "train"))
        self.labels = rng.integers(0, 3, self.count)
        self.sequences = [
            np.where(rng.random(length) < 0.7, label, rng.integers(0, 30, length))
            for label, length in zip(self.labels, rng.integers(2, LENGTH + 1, self.count), strict=True)
        ]

    def header(self) -> data.Header:
        words = data.Sample((LENGTH,), np.dtype(np.int64))
        mask = data.Sample((LENGTH,), np.dtype(np.float32))
        return data.Header(
            self.count, {"ids": words, "mask": mask}, {"y": data.Sample((), np.dtype(np.int64))}
        )

    def __len__(self) -> int:
        return self.count

    def batch(self, indices: Any, rng: np.random.Generator | None) -> data.Batch:
        ids = np.full((len(indices), LENGTH), 29)
        mask = np.zeros((len(indices), LENGTH), np.float32)
        for row, index in enumerate(indices):
            words = self.sequences[index]
            ids[row, : len(words)], mask[row, : len(words)] = words, 1
        return data.Batch({"ids": ids, "mask": mask}, {"y": self.labels[indices]}, indices)


@dataclass
class Corpus:
    """Both splits; what a user gives instead of a path."""

    fitted: int = 0

    @property
    def train(self) -> data.Header:
        return Sequences("train").header()

    @property
    def val(self) -> data.Header | None:
        return None

    @property
    def test(self) -> data.Header:
        return Sequences("test").header()

    def fit(
        self,
        inputs: Mapping[str, data.Input],
        targets: Mapping[str, data.Wanted],
        *,
        pixels: data.Pixels | None = None,
        augment: data.Augment | None = None,
        needless: Collection[str] = (),
    ) -> data.Dataset:
        self.fitted += 1
        assert {name: each.shape for name, each in inputs.items()} == {"ids": (LENGTH,), "mask": (LENGTH,)}
        assert targets["y"].classes == 3
        return data.Dataset(Sequences("train"), Sequences("test"), ("sequences, padded",))


def test_sequences_of_different_lengths_are_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = parser.parse_model(TEXT)
    rng = np.random.default_rng(0)
    for name, shape in {"table": (30, 8), "w1": (8, 12), "b1": (12,), "w2": (12, 3)}.items():
        array = (rng.standard_normal(shape) * 0.3).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    onnx.save(model, tmp_path / "model.onnx")
    (tmp_path / "corpus.txt").touch()
    corpus, said = Corpus(), []
    opener = Opener("text", lambda path: path.suffix == ".txt", lambda path, reading: corpus)
    monkeypatch.setitem(OPENERS, "text", opener)
    options = TrainOptions(**SHORT)
    result = train(
        tmp_path / "model.onnx", tmp_path / "corpus.txt", tmp_path / "run", options, say=said.append
    )
    assert corpus.fitted == 1
    assert "sequences, padded" in said
    assert result.gain is not None
    assert result.gain.scores[0].value == result.gain.scores[1].value > 0.8
    assert result.gain.summary.removed > 0
