"""Folders of images through the whole of `train`, and what models are told of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, parser
from PIL import Image

from onnx_oto.data import Dataset
from onnx_oto.pipeline.describing import described
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.pipeline.train import train

CLASSIFIER = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N,3,{size}] image) => (float[N,3] y) {{
    a = Conv<strides = [2,2]>(image, w1, b1)
    b = Relu(a)
    c = GlobalAveragePool(b)
    d = Flatten(c)
    y = Gemm(d, w2)
}}
"""
ENLARGER = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N,3,h,w] small) => (float[N,3,H,W] large) {
    a = Conv<pads = [1,1,1,1]>(small, w1, b1)
    b = Relu(a)
    c = Conv<pads = [1,1,1,1]>(b, w2)
    large = DepthToSpace<blocksize = 2, mode = "CRD">(c)
}
"""
SHORT = {"batch": 12, "shards": 1, "sparsity": 0.3, "skip_latency": True}


def saved(path: Path, text: str, **shapes: tuple[int, ...]) -> Path:
    model = parser.parse_model(text)
    rng = np.random.default_rng(0)
    for name, shape in shapes.items():
        array = (rng.standard_normal(shape) * 0.3).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    model.metadata_props.add(key="author", value="somebody")
    onnx.save(model, path)
    return path


def classifier(path: Path, size: str = "12,12") -> Path:
    return saved(path, CLASSIFIER.format(size=size), w1=(10, 3, 3, 3), b1=(10,), w2=(10, 3))


@pytest.fixture
def flowers(tmp_path: Path) -> Path:
    """Return images of three classes, that differ in one colour; sizes differ."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 24), ("val", 8)):
        for colour, name in enumerate(("blue", "green", "red")):
            folder = tmp_path / "flowers" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 100, (14 + i % 5, 16, 3), dtype=np.uint8)
                pixels[..., 2 - colour] += 100
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return tmp_path / "flowers"


def facts(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


@pytest.mark.parametrize(("size", "resize"), [("12,12", ()), ("h,w", (12,))])
def test_flowers_are_told_apart_and_the_model_knows_how(
    flowers: Path, tmp_path: Path, size: str, resize: tuple[int, ...]
) -> None:
    options = TrainOptions(epochs=12, lr=0.3, mean=(0.4, 0.4, 0.4), std=(0.25,), resize=resize, **SHORT)
    result = train(classifier(tmp_path / "m.onnx", size), flowers, tmp_path / "run", options)
    assert result.gain is not None
    assert result.gain.scores[0].value == result.gain.scores[1].value > 0.9
    compact = facts(tmp_path / "run/compact.onnx")
    told = facts(tmp_path / "run/trained.onnx")
    assert told.items() <= compact.items()
    assert compact.keys() - told.keys() == {
        f"onnx_oto.{k}" for k in ("version", "command", "original", "removed")
    }
    assert told.pop("author") == "somebody"
    assert {key: json.loads(value) for key, value in told.items()} == {
        "onnx_oto.scale": 1 / 255,
        "onnx_oto.mean": [0.4, 0.4, 0.4],
        "onnx_oto.std": [0.25],
        "onnx_oto.resize": 12 if resize else 14,
        "onnx_oto.classes": ["blue", "green", "red"],
    }


def test_whoever_follows_the_metadata_gets_the_score(flowers: Path, tmp_path: Path) -> None:
    """A program of a few lines that knows the compact model alone."""
    options = TrainOptions(epochs=12, lr=0.3, mean=(0.4,), std=(0.25,), **SHORT)
    result = train(classifier(tmp_path / "m.onnx"), flowers, tmp_path / "run", options)
    session = onnxruntime.InferenceSession(tmp_path / "run/compact.onnx", providers=["CPUExecutionProvider"])
    told = session.get_modelmeta().custom_metadata_map
    scale, mean, std, resize, classes = (
        json.loads(told[f"onnx_oto.{name}"]) for name in ("scale", "mean", "std", "resize", "classes")
    )
    right = []
    for path in sorted(flowers.glob("val/*/*.png")):
        image = Image.open(path)
        sides = [int(resize * side / min(image.size)) for side in image.size]
        image = image.resize((sides[0], sides[1]), Image.Resampling.BILINEAR)
        left, top = round((sides[0] - 12) / 2), round((sides[1] - 12) / 2)
        pixels = np.asarray(image.crop((left, top, left + 12, top + 12)), np.float32)
        x = (pixels * scale - np.float32(mean)) / np.float32(std)
        (scores,) = session.run(None, {"image": x.transpose(2, 0, 1)[None].astype(np.float32)})
        right.append(classes[int(scores.argmax())] == path.parent.name)
    assert result.gain is not None
    assert np.mean(right) == pytest.approx(result.gain.scores[1].value)


def test_pairs_of_any_size(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "data/HR").mkdir(parents=True)
    for i in range(12):
        coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
        coarse.resize((54, 42), Image.Resampling.BICUBIC).save(tmp_path / f"data/HR/{i}.png")
    model = saved(tmp_path / "m.onnx", ENLARGER, w1=(24, 3, 3, 3), b1=(24,), w2=(12, 24, 3, 3))
    said: list[str] = []
    options = TrainOptions(
        epochs=200,
        loss="l1",
        metric=("psnr",),
        direction="adam",
        lr=0.01,
        patch=10,
        patches_per_image=4,
        **SHORT,
    )
    result = train(model, tmp_path / "data", tmp_path / "run", options, say=said.append)
    assert any("2 times enlarged" in text and "by bicubic scaling" in text for text in said)
    assert any("4 patches of every image in an epoch, 10x10 to 20x20" in text for text in said)
    assert result.gain is not None
    assert result.gain.scores[0].value == pytest.approx(result.gain.scores[1].value, abs=1e-3)
    assert result.gain.scores[0].value > 20
    assert facts(tmp_path / "run/compact.onnx")["onnx_oto.scale"] == str(1 / 255)


class Nothing:
    """Data that nobody looks at."""

    def __len__(self) -> int:
        return 0

    batch = None


def test_what_is_said_anew_replaces_what_an_earlier_run_said() -> None:
    def data(classes: tuple[str, ...] = (), **prepared: object) -> Dataset:
        return Dataset(Nothing(), Nothing(), classes=classes, prepared=prepared)  # type: ignore[arg-type]

    def said(model: onnx.ModelProto) -> dict[str, str]:
        return {entry.key: entry.value for entry in model.metadata_props}

    model = parser.parse_model(CLASSIFIER.format(size="12,12"))
    model.metadata_props.add(key="onnx_other", value="kept")
    first = described(model, data(("größe", "b"), scale=0.5, mean=[0.5]))
    names = '["größe", "b"]'
    assert said(first) == {
        "onnx_other": "kept",
        "onnx_oto.scale": "0.5",
        "onnx_oto.mean": "[0.5]",
        "onnx_oto.classes": names,
    }
    assert said(described(first, data())) == said(first)
    second = described(first, data(scale=0.25))  # without a mean: the earlier one is not of these numbers
    assert said(second) == {"onnx_other": "kept", "onnx_oto.classes": names, "onnx_oto.scale": "0.25"}
    assert len(model.metadata_props) == 1
