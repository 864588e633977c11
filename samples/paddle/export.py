"""Make a small convolutional network in PaddlePaddle, export it by paddle2onnx, and write images for it."""

import numpy as np
import paddle
from paddle import nn

paddle.seed(0)
network = nn.Sequential(
    nn.Conv2D(1, 32, 3, padding=1, bias_attr=False),
    nn.BatchNorm2D(32),
    nn.ReLU(),
    nn.Conv2D(32, 64, 3, stride=2, padding=1, bias_attr=False),
    nn.BatchNorm2D(64),
    nn.Hardswish(),
    nn.AdaptiveAvgPool2D(1),
    nn.Flatten(),
    nn.Linear(64, 64),
    nn.ReLU(),
    nn.Linear(64, 3),
)
network.eval()
spec = paddle.static.InputSpec([None, 1, 16, 16], "float32", "image")
paddle.onnx.export(network, "model", input_spec=[spec], opset_version=16)  # writes model.onnx

rng = np.random.default_rng(0)
labels = rng.integers(0, 3, 2000)
y, x = np.mgrid[:16, :16][:, None] - rng.integers(6, 10, (2, 2000, 1, 1))
far, near, size = np.maximum(abs(x), abs(y)), np.minimum(abs(x), abs(y)), rng.integers(3, 6, (2000, 1, 1))
shown = np.choose(labels[:, None, None], (far < size, (near < 1) & (far < size), far == size))
images = (150 * shown + rng.integers(0, 100, shown.shape)).astype(np.uint8)
np.savez("data.npz", x_train=images[:1600], y_train=labels[:1600], x_test=images[1600:], y_test=labels[1600:])
