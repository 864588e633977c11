"""Folders of images on the command line: exit codes and the one line that says what is wrong, and no folder left."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

MODEL = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N,3,{size}] image) => (float[N,3] scores) {{
    a = Conv<strides = [2,2]>(image, w1)
    b = Relu(a)
    c = GlobalAveragePool(b)
    d = Flatten(c)
    scores = Gemm(d, w2)
}}
"""


@pytest.fixture(scope="module")
def folder(models: Callable[..., onnx.ModelProto], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with data of several kinds, each wrong in its own way, and models."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for name, size in (("fixed", "12,12"), ("open", "h,w")):
        onnx.save(models(MODEL.format(size=size), {"w1": (8, 3, 3, 3), "w2": (8, 3)}), root / f"{name}.onnx")
    for split in ("train", "val"):
        for name in "abc":
            (root / "good" / split / name).mkdir(parents=True)
            for i in range(12):
                pixels = rng.integers(0, 256, (20 + i, 30, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / "good" / split / name / f"{i}.jpg")
    for name in ("half", "other", "more"):
        shutil.copytree(root / "good", root / name)
    bad = root / "half/train/b/7.jpg"
    bad.write_bytes(bad.read_bytes()[: bad.stat().st_size // 2])
    (root / "other/val/c").rename(root / "other/val/d")
    shutil.copytree(root / "more/train/c", root / "more/train/d")
    shutil.copytree(root / "good/train/a", root / "flat")
    shutil.copytree(root / "flat", root / "pairs/HR")
    shutil.copytree(root / "flat", root / "pairs/LR")
    (root / "pairs/LR/3.jpg").unlink()
    return root


@pytest.mark.parametrize(
    ("code", "arguments", "message"),
    [
        (5, ["open", "good"], "the files differ in it: say which one they get, such as --resize 224"),
        (5, ["fixed", "good", "--resize", "8"], "resize 8 is less than the 12x12 pixels that the model reads"),
        (2, ["fixed", "good", "--resize", "8y8"], "resize is '8y8': write the pixels of the shorter side"),
        (2, ["fixed", "good", "--patch", "0"], "patch is 0"),
        (2, ["fixed", "good", "--patch", "8"], "patch is 8: it has no meaning for"),
        (2, ["fixed", "good", "--test-share", "0.5"], "of their own: leave it out"),
        (5, ["fixed", "other"], "val/d' is a class without a folder in the training data, which have 3: 'a', 'b', 'c'"),
        (5, ["fixed", "more"], "has 4 folders of classes, the model has 3 classes: move the others away"),
        (5, ["fixed", "flat", "--teacher", "none"], "has images without labels, and the loss needs a target"),
        (5, ["fixed", "good", "--loss", "mse"], "has a folder for each class, and the loss reads numbers"),
        (5, ["fixed", "pairs"], "HR/3.jpg' has no partner in '"),
    ],
)  # fmt: skip
def test_what_is_refused(refused, folder, tmp_path, code, arguments, message):
    model, data, *others = arguments
    run = tmp_path / "run"
    line = refused(code, "train", folder / f"{model}.onnx", "--data", folder / data, *others, "--run", run)
    assert message in line
    assert not run.exists()


def test_a_bad_file_is_named_while_training_and_left_out_on_demand(refused, cli, folder, tmp_path):
    given = (
        folder / "fixed.onnx",
        "--data",
        folder / "half",
        "--epochs",
        "1",
        "--batch",
        "9",
        "--shards",
        "1",
    )
    line = refused(5, "train", *given, "--run", tmp_path / "run")
    assert "half/train/b/7.jpg' cannot be decoded (" in line
    assert "leave bad files out with --skip-bad-files" in line
    done = cli("train", *given, "--run", tmp_path / "run", "--skip-bad-files", "--skip-latency")
    assert done.returncode == 0, done.stderr
    assert "1 of 36 images are left out (--skip-bad-files): '" in done.stderr


def test_without_pillow(refused_alone, folder, tmp_path):
    stub = tmp_path / "stub"
    (stub / "PIL").mkdir(parents=True)
    (stub / "PIL/__init__.py").write_text("raise ModuleNotFoundError('No module', name='PIL')\n")
    line = refused_alone(
        7, "train", folder / "fixed.onnx", "--data", folder / "good", "--run", tmp_path / "run", path=stub
    )
    assert "Pillow is needed to decode '" in line
    assert "run `pip install 'onnx-oto[images]'`" in line
