"""Models of images, judged on whole images of a data set in the form of DIV2K."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from onnx import numpy_helper, parser
from PIL import Image

from onnx_oto.data import OneByOne, Source
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.pipeline.original import Original, Unjudged
from onnx_oto.pipeline.result import Trained
from onnx_oto.pipeline.train import train
from onnx_oto.training import Score

HEAD = '<ir_version: 8, opset_import: ["": 17]> g (float[N,3,{size}] small) => (float[N,3,H,W] large) '
PLAIN = (
    "{ a = Conv<pads = [1,1,1,1]>(small, w1, b1) b = Relu(a) c = Conv<pads = [1,1,1,1]>(b, w2)"
    ' large = DepthToSpace<blocksize = 2, mode = "CRD">(c) }'
)
HALVING = (  # halved and joined again: multiples of 6 alone
    "{ a = Conv<pads = [1,1,1,1]>(small, w1, b1) b = Relu(a) p = MaxPool<kernel_shape = [6,6], strides = [6,6]>(b)"
    ' u = Resize<mode = "nearest">(p, , six) s = Add(b, u) c = Conv<pads = [1,1,1,1]>(s, w2)'
    ' large = DepthToSpace<blocksize = 2, mode = "CRD">(c) }'
)
SIZES = [(50, 38), (44, 62), (34, 34)]
ALWAYS, NEVER = {"whole_images": "always"}, {"whole_images": "never"}


def model(path: Path, body: str = PLAIN, size: str = "h,w", six: int = 6) -> Path:
    made = parser.parse_model(HEAD.format(size=size) + body)
    rng = np.random.default_rng(0)
    for name, shape in {"w1": (16, 3, 3, 3), "b1": (16,), "w2": (12, 16, 3, 3)}.items():
        made.graph.initializer.append(
            numpy_helper.from_array((0.2 * rng.standard_normal(shape)).astype(np.float32), name)
        )
    if "six" in body:
        made.graph.initializer.append(numpy_helper.from_array(np.array([1, 1, six, six], np.float32), "six"))
    onnx.save(made, path)
    return path


@pytest.fixture
def div2k(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for split, numbers in (("train", range(1, 13)), ("valid", range(801, 804))):
        for number in numbers:
            height, width = SIZES[number % 3]
            coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
            large = coarse.resize((width, height), Image.Resampling.BICUBIC)
            small = large.resize((width // 2, height // 2), Image.Resampling.BICUBIC)
            for folder, name, image in (
                ("HR", f"{number:04d}.png", large),
                ("LR_bicubic/X2", f"{number:04d}x2.png", small),
            ):
                place = tmp_path / "DIV2K" / f"DIV2K_{split}_{folder}" / name
                place.parent.mkdir(parents=True, exist_ok=True)
                image.save(place)
    return tmp_path / "DIV2K"


def run(path: Path, source: Path, folder: Path, **more: object) -> tuple[Trained, list[str]]:
    said: list[str] = []
    settings = {"epochs": 3, "batch": 6, "sparsity": 0.3, "loss": "l1", "direction": "adam", "patch": 12}
    settings |= {"metric": ("psnr", "ssim"), "shards": 1, "skip_latency": True, "from_": "scratch"}
    result = train(path, source, folder, TrainOptions(**{**settings, **more}), say=said.append)
    return result, said


def by_hand(path: Path, source: Path, multiple: int = 1) -> tuple[float, float]:
    """Return PSNR and SSIM of the validation images, each whole, averaged over them: papers do it so."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = []
    for place in sorted(source.glob("DIV2K_valid_HR/*.png")):
        large = np.asarray(Image.open(place)).transpose(2, 0, 1) / 255
        other = source / "DIV2K_valid_LR_bicubic/X2" / f"{place.stem}x2.png"
        small = np.asarray(Image.open(other), np.float32).transpose(2, 0, 1) / np.float32(255)
        height, width = (side // multiple * multiple for side in small.shape[1:])
        (made,) = session.run(None, {"small": small[None, :, :height, :width]})
        target = large[:, : 2 * height, : 2 * width]
        found.append((-10 * np.log10(((made[0] - target) ** 2).mean()), ssim(made[0].astype(float), target)))
    psnr, similarity = np.mean(found, axis=0)
    return float(psnr), float(similarity)


def ssim(x: np.ndarray, y: np.ndarray) -> float:
    window = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(window, window) / window.sum() ** 2

    def mean(a: np.ndarray) -> np.ndarray:
        return np.einsum("chwij,ij->chw", sliding_window_view(a, (11, 11), axis=(1, 2)), window)

    u, v = mean(x), mean(y)
    shared, apart = mean(x * y) - u * v, mean(x * x) + mean(y * y) - u * u - v * v
    return float(
        ((2 * u * v + 1e-4) * (2 * shared + 9e-4) / ((u * u + v * v + 1e-4) * (apart + 9e-4))).mean()
    )


def figures(result: Trained) -> list[tuple[float, float]]:
    """Return PSNR and SSIM of original, full and compact model."""
    assert result.gain is not None
    assert result.gain.original is not None
    return [(s.value, s.further["ssim"]) for s in (result.gain.original, *result.gain.scores)]


@pytest.mark.parametrize(("body", "multiple"), [(PLAIN, 1), (HALVING, 6)])
def test_figures_are_those_of_whole_images(div2k: Path, tmp_path: Path, body: str, multiple: int) -> None:
    path = model(tmp_path / "m.onnx", body)
    result, said = run(path, div2k, tmp_path / "run")
    places = (path, tmp_path / "run/trained.onnx", tmp_path / "run/compact.onnx")
    for found, place in zip(figures(result), places, strict=True):
        assert found == pytest.approx(by_hand(place, div2k, multiple), rel=1e-4)
    cut = ", cut to multiples of 6 pixels of the input" if multiple > 1 else ""
    assert f"what is reported is of whole images, each at its own size{cut}; after an epoch" in "\n".join(
        said
    )
    assert any("on 3 whole images" in text for text in said)
    assert result.as_json()["whole_images"] is True
    last = result.history.score  # after an epoch: of the middles
    assert last is not None
    assert last.value != pytest.approx(figures(result)[1][0], rel=1e-4)


@pytest.mark.parametrize(("body", "multiple"), [(PLAIN, 1), (HALVING, 6)])
def test_after_every_epoch_too(div2k: Path, tmp_path: Path, body: str, multiple: int) -> None:
    path = model(tmp_path / "m.onnx", body)
    result, said = run(path, div2k, tmp_path / "run", **ALWAYS, val_share=0.25, ema=0.5)
    assert "after an epoch" not in "\n".join(said)
    assert figures(result)[1] == pytest.approx(
        by_hand(tmp_path / "run/trained.onnx", div2k, multiple), rel=1e-4
    )
    again, _ = run(path, div2k, tmp_path / "again", **ALWAYS)
    assert again.history.score is not None
    assert again.history.score.value == pytest.approx(figures(again)[1][0], rel=1e-5)


def test_never(div2k: Path, tmp_path: Path) -> None:
    result, said = run(model(tmp_path / "m.onnx"), div2k, tmp_path / "run", **NEVER)
    assert "whole images" not in "\n".join(said)
    assert result.as_json()["whole_images"] is False
    assert result.history.score is not None
    assert result.history.score.value == pytest.approx(figures(result)[1][0], rel=1e-5)


def test_a_model_of_one_size_keeps_the_middles_and_that_is_said(div2k: Path, tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx", size="12,12")
    result, said = run(path, div2k, tmp_path / "run", patch=None)
    assert (
        "the model reads images of one size alone: it is judged by the patch in the middle of every image"
        in said
    )
    assert result.history.score is not None
    assert result.history.score.value == pytest.approx(figures(result)[1][0], rel=1e-5)


def test_what_does_not_run_whole_is_judged_by_the_middles(div2k: Path, tmp_path: Path) -> None:
    """All three models in one way. It reshapes to the size of a patch."""
    fixed = PLAIN.replace("b = Relu(a)", "r = Relu(a) f = Reshape(r, shape) b = Reshape(f, back)")
    path = model(tmp_path / "m.onnx", fixed)
    made = onnx.load(path)
    for name, values in (("shape", [0, 16, 144]), ("back", [0, 16, 12, 12])):
        made.graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
    onnx.save(made, path)
    result, said = run(path, div2k, tmp_path / "run")
    told = "the model takes no multiples of any number up to 128 that was tried: it is judged by the patch in"
    assert any(told in text for text in said)
    assert result.history.score is not None
    assert result.history.score.value == pytest.approx(figures(result)[1][0], rel=1e-5)


def test_what_takes_too_much_memory_is_judged_by_the_middles(
    div2k: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def score(self: Original, examples: Source, *args: Any, **kwargs: Any) -> Score | Unjudged:
        return (
            Unjudged("too much") if isinstance(examples, OneByOne) else own(self, examples, *args, **kwargs)
        )

    own = Original.score
    monkeypatch.setattr(Original, "score", score)
    result, said = run(model(tmp_path / "m.onnx"), div2k, tmp_path / "run")
    assert any(
        "whole images cannot be judged (too much): the model is judged by the patch" in t for t in said
    )
    assert result.history.score is not None
    assert result.history.score.value == pytest.approx(figures(result)[1][0], rel=1e-5)


def test_without_labels_the_teacher_is_asked_of_whole_images(div2k: Path, tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx")
    result, said = run(path, div2k, tmp_path / "run", loss="distill", metric=("relative-error", "psnr"))
    assert any("on 3 whole images" in text for text in said)
    assert result.gain is not None
    assert result.gain.original is not None
    assert result.gain.original.value == 0
    sessions = [
        onnxruntime.InferenceSession(place, providers=["CPUExecutionProvider"])
        for place in (path, tmp_path / "run/compact.onnx")
    ]
    found = []
    for place in sorted(div2k.glob("DIV2K_valid_LR_bicubic/X2/*.png")):
        small = np.asarray(Image.open(place), np.float32).transpose(2, 0, 1)[None] / np.float32(255)
        said_by_both = [session.run(None, {"small": small})[0] for session in sessions]
        found.append(-10 * np.log10(((said_by_both[0] - said_by_both[1]) ** 2).mean()))
    assert result.gain.scores[1].further["psnr"] == pytest.approx(float(np.mean(found)), rel=1e-4)
