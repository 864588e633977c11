"""JAX: small flax networks, converted by jax2onnx."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from zoo_factory.options import Options

SHAPES: dict[str, tuple[int, ...]] = {
    "mlp": (16,),
    "cnn_batchnorm": (32, 32, 3),
    "resnet": (32, 32, 3),
    "depthwise_groupnorm": (32, 32, 3),
    "mixer": (16, 24),
    "encoder": (12, 32),
    "swiglu_rmsnorm": (12, 32),
    "deconv": (8, 8, 4),
}


def names() -> list[str]:
    """Return the names."""
    return list(SHAPES)


def make(name: str, path: Path, options: Options) -> dict[str, object]:
    """Write one network with random weights and statistics."""
    import jax2onnx
    from flax import nnx

    model = _network(name, nnx, nnx.Rngs(options.seed))
    model.eval()
    _randomise(model, nnx, options.seed)
    batch = 2 if options.static else "B"
    jax2onnx.to_onnx(
        model,
        [(batch, *SHAPES[name])],
        model_name=name,
        return_mode="file",
        output_path=str(path),
        opset=21,
        input_names=["input"],
    )
    return {"batch": "static" if options.static else "dynamic"}


def _randomise(model: Any, nnx: Any, seed: int) -> None:
    """Replace weights and statistics whose elements are all equal, by value (see the torch sets)."""
    import jax

    rng = np.random.default_rng(seed)

    def draw(leaf: Any) -> Any:
        value = np.asarray(leaf)
        if value.dtype.kind != "f" or value.size == 0 or not (value == value.flat[0]).all():
            return leaf
        first = float(value.flat[0])
        noise = (
            0.05 * rng.standard_normal(value.shape)
            if first == 0
            else first * rng.uniform(0.5, 1.5, value.shape)
        )
        return jax.numpy.asarray(noise.astype(value.dtype))

    state = nnx.state(model, nnx.Any(nnx.Param, nnx.BatchStat))
    nnx.update(model, jax.tree.map(draw, state))


def _network(name: str, nnx: Any, rngs: Any) -> Any:
    """Return the module; the classes are made here because the framework is imported late."""

    class Residual(nnx.Module):  # type: ignore[misc]
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def __call__(self, x: Any) -> Any:
            return x + self.inner(x)

    class Attend(nnx.Module):  # type: ignore[misc]
        def __init__(self, width: int) -> None:
            self.attention = nnx.MultiHeadAttention(4, width, decode=False, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            return self.attention(x)

    class SwiGlu(nnx.Module):  # type: ignore[misc]
        def __init__(self, width: int, inner: int) -> None:
            self.gate, self.up = (nnx.Linear(width, inner, rngs=rngs) for _ in range(2))
            self.down = nnx.Linear(inner, width, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            return self.down(nnx.silu(self.gate(x)) * self.up(x))

    class Mixer(nnx.Module):  # type: ignore[misc]
        def __init__(self, tokens: int, width: int) -> None:
            self.norm = nnx.LayerNorm(width, rngs=rngs)
            self.tokens, self.back = nnx.Linear(tokens, 20, rngs=rngs), nnx.Linear(20, tokens, rngs=rngs)
            self.channels = nnx.Linear(width, width, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            y = self.back(nnx.gelu(self.tokens(self.norm(x).swapaxes(1, 2)))).swapaxes(1, 2)
            return x + nnx.relu(self.channels(x + y))

    def conv(cin: int, cout: int, k: int = 3, **keywords: Any) -> Any:
        return nnx.Conv(cin, cout, (k, k), rngs=rngs, **keywords)

    def linear(a: int, b: int) -> Any:
        return nnx.Linear(a, b, rngs=rngs)

    def places(x: Any) -> Any:
        return x.mean((1, 2))

    def tokens(x: Any) -> Any:
        return x.mean(1)

    def norm(width: int) -> Any:
        return nnx.BatchNorm(width, rngs=rngs)

    networks: dict[str, Callable[[], list[Any]]] = {
        "mlp": lambda: [linear(16, 48), nnx.relu, linear(48, 32), nnx.gelu, linear(32, 5)],
        "cnn_batchnorm": lambda: [
            conv(3, 16),
            norm(16),
            nnx.relu,
            conv(16, 32, strides=2),
            norm(32),
            nnx.silu,
            places,
            linear(32, 5),
        ],
        "resnet": lambda: [
            conv(3, 16),
            Residual(nnx.Sequential(conv(16, 16), norm(16), nnx.relu, conv(16, 16), norm(16))),
            nnx.relu,
            conv(16, 24, strides=2),
            Residual(nnx.Sequential(conv(24, 48, 1), nnx.relu, conv(48, 24, 1))),
            places,
            linear(24, 5),
        ],
        "depthwise_groupnorm": lambda: [
            conv(3, 16, strides=2),
            conv(16, 16, feature_group_count=16),
            nnx.GroupNorm(16, num_groups=4, rngs=rngs),
            nnx.hard_swish,
            conv(16, 32, 1),
            nnx.LayerNorm(32, rngs=rngs),
            places,
            linear(32, 5),
        ],
        "mixer": lambda: [Mixer(16, 24), Mixer(16, 24), tokens, linear(24, 5)],
        "encoder": lambda: [
            Residual(nnx.Sequential(nnx.LayerNorm(32, rngs=rngs), Attend(32))),
            Residual(nnx.Sequential(nnx.LayerNorm(32, rngs=rngs), linear(32, 64), nnx.gelu, linear(64, 32))),
            nnx.LayerNorm(32, rngs=rngs),
            tokens,
            linear(32, 5),
        ],
        "swiglu_rmsnorm": lambda: [
            linear(32, 40),
            Residual(nnx.Sequential(nnx.RMSNorm(40, rngs=rngs), SwiGlu(40, 64))),
            Residual(nnx.Sequential(nnx.RMSNorm(40, rngs=rngs), Attend(40))),
            nnx.RMSNorm(40, rngs=rngs),
            linear(40, 5),
        ],
        "deconv": lambda: [
            nnx.ConvTranspose(4, 16, (2, 2), strides=(2, 2), rngs=rngs),
            nnx.leaky_relu,
            conv(16, 3),
            nnx.sigmoid,
        ],
    }
    return nnx.Sequential(*networks[name]())
