"""Data that are no npz file, through the whole of `train`: one function that opens them, and one entry."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from onnx_oto import data
from onnx_oto.data import OPENERS, Opener
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.pipeline.train import train

SHORT = {"epochs": 30, "batch": 16, "lr": 0.05, "sparsity": 0.4}


def open_folder(path: Path, reading: data.Reading) -> data.Opening:
    """Return the npy files of a folder, which stay in their files: x_train.npy, y_train.npy, ..."""

    def table(split: str) -> data.Table:
        x, y = (np.load(path / f"{letter}_{split}.npy", mmap_mode="r") for letter in "xy")
        return data.Table(split, {"": x}, {"y": y})

    return data.Tables(table("train"), table("test"))


def test_a_folder_of_npy_files_gives_what_the_npz_file_gives(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for key, array in np.load(data).items():
        np.save(folder / f"{key}.npy", array)
    monkeypatch.setitem(OPENERS, "npy", Opener("folder of npy files", Path.is_dir, open_folder))
    options = TrainOptions(shards=1, **SHORT)
    result = train(model, folder, tmp_path / "a", options)
    train(model, data, tmp_path / "b", options)
    assert result.gain is not None
    assert result.gain.scores[0].value > 0.9
    assert (tmp_path / "a/compact.onnx").read_bytes() == (tmp_path / "b/compact.onnx").read_bytes()


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
