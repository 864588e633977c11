"""What changes training goes together: a run with all of it ends verified, and goes on to the same bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from onnx_oto.errors import OtoError
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.pipeline.resume import resume
from onnx_oto.pipeline.train import train
from onnx_oto.training import EpochEnded

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N,1,8,8] image) => (float[N,3] logits) {
    a = Conv<pads = [1,1,1,1]>(image, w1, b1)
    b = Relu(a)
    c = Conv<pads = [1,1,1,1]>(b, w2, b2)
    d = Add(b, c)
    e = Relu(d)
    f = GlobalAveragePool(e)
    g = Flatten(f)
    logits = Gemm<transB = 1>(g, w3, b3)
}
"""
SHAPES = {"w1": (12, 1, 3, 3), "b1": (12,), "w2": (12, 12, 3, 3), "b2": (12,), "w3": (3, 12), "b3": (3,)}
TOGETHER = {
    "taught, mixed": {"mixup": 0.4, "labels": False},
    "taught, kept answers, averaged": {"ema": 0.9, "labels": False},
    "taught beside labels, weighed, mixed": {"teacher": "self", "mixup": 0.4, "class_weights": "balanced"},
    "taught beside labels, validated": {"teacher": "self", "val_share": 0.2, "patience": 2, "flip": True},
    "norms put back, validated, averaged": {"batch_norm": "put-back", "val_share": 0.2, "ema": 0.9},
    "norms put back, taught numbers": {"batch_norm": "put-back", "labels": False, "teacher_match": "values"},
    "norms put back, weighed, every augmentation": {
        "batch_norm": "put-back", "zoom": 0.3, "cutout": 2, "flip": True, "crop": 1, "mixup": 0.2,
        "class_weights": (1.0, 2.0, 1.0), "accumulate": 2,
    },
}  # fmt: skip


@pytest.fixture
def net(tmp_path: Path) -> Path:
    model, rng = parser.parse_model(TEXT), np.random.default_rng(0)
    for name, shape in SHAPES.items():
        weight = (rng.standard_normal(shape) * 0.4).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(weight, name))
    onnx.save(model, tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def samples(folder: Path, *, labels: bool) -> Path:
    rng, arrays = np.random.default_rng(1), {}
    for split, count in (("train", 96), ("test", 30)):
        x = rng.integers(0, 60, (count, 8, 8)).astype(np.uint8)
        y = np.arange(count) % 3
        for image, label in zip(x, y, strict=True):
            image[label * 3 : label * 3 + 2, 2:6] = 255
        arrays |= {f"x_{split}": x} | ({f"y_{split}": y} if labels else {})
    np.savez(folder / "data.npz", **arrays)
    return folder / "data.npz"


class Leaving:
    """An observer that raises at the end of the third epoch."""

    def notice(self, event: object) -> None:
        if isinstance(event, EpochEnded) and event.epoch == 3:
            raise OtoError("left")


@pytest.mark.parametrize("together", TOGETHER)
def test_a_run_ends_verified_and_goes_on_to_the_same_bytes(together: str, net: Path, tmp_path: Path) -> None:
    settings = dict(TOGETHER[together])
    data = samples(tmp_path, labels=bool(settings.pop("labels", True)))
    options = TrainOptions(epochs=5, batch=16, shards=2, lr=0.01, skip_latency=True, **settings)
    whole = train(net, data, tmp_path / "whole", options)
    assert whole.gain is not None
    assert whole.gain.summary.verdict.passed
    assert whole.gain.summary.removed > 0
    with pytest.raises(OtoError, match="left"):
        train(net, data, tmp_path / "run", options, observer=Leaving())
    again = resume(tmp_path / "run")
    assert again is not None
    for name in ("trained.onnx", "compact.onnx", "run.toml"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert [each.value for each in again.history.epochs] == [each.value for each in whole.history.epochs]
    assert again.history.kept == whole.history.kept
