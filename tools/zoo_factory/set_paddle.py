"""PaddlePaddle: the vision models of the framework and a recurrent tagger, exported by paddle2onnx."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from zoo_factory.options import Options

VISION = {
    "resnet18": 128,
    "resnext50_32x4d": 128,
    "wide_resnet50_2": 128,
    "mobilenet_v1": 128,
    "mobilenet_v2": 128,
    "mobilenet_v3_small": 128,
    "mobilenet_v3_large": 128,
    "shufflenet_v2_x0_25": 128,
    "shufflenet_v2_swish": 128,
    "squeezenet1_1": 128,
    "densenet121": 128,
    "inception_v3": 299,
    "alexnet": 224,
    "vgg11": 224,
    "LeNet": 28,
}
SEQUENCE = ("lstm", "gru", "encoder")
OPSET = 16


def names() -> list[str]:
    """Return the names."""
    return [*VISION, *SEQUENCE]


def make(name: str, path: Path, options: Options) -> dict[str, object]:
    """Write one model with random weights."""
    import paddle

    paddle.seed(options.seed)
    if name in VISION:
        side = VISION[name]
        model = getattr(paddle.vision.models, name)()
        shape = [1 if name == "LeNet" else 3, side, side]
    else:
        model, shape = _sequence(name), [12, 16]
    _randomise(model, options.seed)
    _calibrate(model, shape)
    model.eval()
    batch = 2 if options.static else None
    spec = paddle.static.InputSpec([batch, *shape], "float32", "x")
    stem = path.with_name(path.name + "-paddle")
    paddle.onnx.export(model, str(stem), input_spec=[spec], opset_version=OPSET)
    stem.with_name(stem.name + ".onnx").rename(path)
    return {"batch": "static" if options.static else "dynamic"}


def _sequence(name: str) -> Any:
    from paddle import nn

    class Tagger(nn.Layer):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.recurrent = nn.LSTM(16, 24) if name == "lstm" else nn.GRU(16, 24)
            self.out = nn.Linear(24, 5)

        def forward(self, x: Any) -> Any:
            return self.out(self.recurrent(x)[0])

    if name == "encoder":
        layer = nn.TransformerEncoderLayer(32, 4, 64)
        return nn.Sequential(nn.Linear(16, 32), nn.TransformerEncoder(layer, 2), nn.Linear(32, 5))
    return Tagger()


def _randomise(model: Any, seed: int) -> None:
    """Replace parameters whose elements are all equal: c by c * uniform(0.5, 1.5), zero by normal(0, 0.05)."""
    rng = np.random.default_rng(seed)
    for parameter in model.parameters():
        value = parameter.numpy()
        if value.size == 0 or not (value == value.flat[0]).all():
            continue
        first = float(value.flat[0])
        noise = (
            0.05 * rng.standard_normal(value.shape)
            if first == 0
            else first * rng.uniform(0.5, 1.5, value.shape)
        )
        parameter.set_value(noise.astype(value.dtype))


def _calibrate(model: Any, shape: list[int]) -> None:
    """Set running statistics to those of one random batch."""
    import paddle
    from paddle import nn

    model.eval()
    norms = [m for m in model.sublayers() if isinstance(m, nn.BatchNorm1D | nn.BatchNorm2D | nn.BatchNorm3D)]
    for norm in norms:
        norm.train()
        norm._momentum = 0.0
    if norms:
        with paddle.no_grad():
            model(paddle.randn([2, *shape]))
