"""Make a small convolutional network in Flax, export it by jax2onnx, and write images for it."""

import jax2onnx
import numpy as np
from flax import nnx


class Network(nnx.Module):
    """Images [N, 16, 16, 1] to scores [N, 3]. Channels are last, as is usual in JAX."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.conv1 = nnx.Conv(1, 32, (3, 3), rngs=rngs)
        self.norm1 = nnx.BatchNorm(32, rngs=rngs)
        self.conv2 = nnx.Conv(32, 64, (3, 3), strides=2, rngs=rngs)
        self.norm2 = nnx.BatchNorm(64, rngs=rngs)
        self.hidden = nnx.Linear(64, 64, rngs=rngs)
        self.head = nnx.Linear(64, 3, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm1(self.conv1(x)))
        x = nnx.relu(self.norm2(self.conv2(x)))
        return self.head(nnx.relu(self.hidden(x.mean((1, 2)))))


network = Network(nnx.Rngs(0))
network.eval()
jax2onnx.to_onnx(
    network,
    [("B", 16, 16, 1)],  # a letter makes the batch open
    return_mode="file",
    output_path="model.onnx",
    opset=21,  # training reads up to 21
    input_names=["image"],
)

rng = np.random.default_rng(0)
labels = rng.integers(0, 3, 2000)
y, x = np.mgrid[:16, :16][:, None] - rng.integers(6, 10, (2, 2000, 1, 1))
far, near, size = np.maximum(abs(x), abs(y)), np.minimum(abs(x), abs(y)), rng.integers(3, 6, (2000, 1, 1))
shown = np.choose(labels[:, None, None], (far < size, (near < 1) & (far < size), far == size))
images = (150 * shown + rng.integers(0, 100, shown.shape)).astype(np.uint8)[..., None]
np.savez("data.npz", x_train=images[:1600], y_train=labels[:1600], x_test=images[1600:], y_test=labels[1600:])
