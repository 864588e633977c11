"""The measurements of distillation: images, what counts as done, and the table."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import distill_detector
import distill_trained
import numpy as np
import onnx
import pytest
from crops import count, crops
from onnx import numpy_helper, parser
from PIL import Image


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """Return a packed file of four plain images."""
    files = []
    for grey in (0, 80, 160, 240):
        file = io.BytesIO()
        Image.new("RGB", (16, 16), (grey, grey, grey)).save(file, "JPEG", quality=95)
        files.append(file.getvalue())
    offsets = np.cumsum([0, *map(len, files)])
    np.savez(
        tmp_path / "packed.npz", blob=np.frombuffer(b"".join(files), np.uint8), off=offsets, y=np.arange(4)
    )
    return tmp_path / "packed.npz"


@pytest.mark.parametrize("size", [None, 8])
def test_images_come_in_the_order_that_is_asked_for(packed: Path, size: int | None) -> None:
    found = crops(packed, [3, 1], size)
    assert (count(packed), found.shape) == (4, (2, size or 16, size or 16, 3))
    np.testing.assert_allclose(found.mean(axis=(1, 2, 3)), [240, 80], atol=2)


def test_an_arm_that_is_done_is_not_done_again(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = []

    def run(task: distill_trained.Task, arm: str, options: object) -> dict[str, object]:
        done.append((task.seed, arm))
        line = {"task": task.name, "arm": arm, "seed": task.seed, "stopped": arm == "one-shot", "macs": 0.7}
        return {
            **line,
            "compact": 0.5 + task.seed / 5,
            "original": 0.9,
            "settings": distill_trained.settings(options),
        }

    monkeypatch.setattr(distill_trained, "run", run)
    sizes = ["--train", "2", "--val", "1", "--report", "1", "--seeds", "0,1"]
    line = ["x", "imagenet", "m.onnx", "--images", str(packed), "--folder", str(tmp_path / "out"), *sizes]
    for more in ([], [], ["--epochs", "7"]):
        monkeypatch.setattr(sys, "argv", [*line, *more])
        distill_trained.main()
    assert done == [(seed, arm) for seed in (0, 1) for arm in ("refit", "dhspg", "one-shot")] * 2
    printed = capsys.readouterr().out
    assert "| refit | 2 | 70.0% |  | 0.6000 +- 0.1000 | 0.9000 +- 0.0000 |" in printed
    assert "| one-shot | seeds [0, 1] took too long |" in printed
    assert len((tmp_path / "out" / "results.jsonl").read_text().splitlines()) == 12
    with np.load(tmp_path / "out" / "images-0.npz") as images:
        assert set(images) == {"x_train", "x_val", "x_test"}, "no labels"


def test_distances_of_outputs_and_of_what_lies_inside(tmp_path: Path) -> None:
    head = '<ir_version: 8, opset_import: ["": 17]> g (float[N,3,4,4] x) => (float[N,3,4,4] y) '
    text = head + "{ a = Mul(x, w) y = Add(a, a) }"
    for name, factor in (("full", 2.0), ("small", 3.0)):
        model = parser.parse_model(text)
        model.graph.initializer.append(numpy_helper.from_array(np.float32(factor), "w"))
        onnx.save(model, tmp_path / f"{name}.onnx")
    images = np.random.default_rng(0).integers(1, 255, (3, 4, 4, 3), dtype=np.uint8)
    found = distill_detector.distances(tmp_path / "full.onnx", tmp_path / "small.onnx", images, ["y", "a"])
    assert found == pytest.approx({"y": 0.5, "a": 0.5, distill_detector.MEAN_OF: 0.5})
    said = ["one", "teacher: the model; compared: 'a' [4] as numbers, 'b/c' [2] as scores", "more"]
    assert distill_detector.compared(said) == ["a", "b/c"]
    assert json.dumps(found)
