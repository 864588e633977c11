"""Operators that optimizers fuse (domain com.microsoft) and the norms that exporters shorten, in plain ones again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from onnx_oto.errors import UnsupportedError
from onnx_oto.gradients.graph.lowering.lowerings import Outcome, Site, register

MS = "com.microsoft::"
_MASKED = -10000.0  # mask_filter_value, the default of both attentions
_ACTIVATIONS = {
    "Relu": (),
    "Tanh": (),
    "Sigmoid": (),
    "Softplus": (),
    "Softsign": (),
    "LeakyRelu": ("alpha",),
    "Elu": ("alpha",),
    "ThresholdedRelu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
}  # what a fused product may end with, and the numbers it takes


@register(MS + "Gelu")
def gelu(node: Site) -> Outcome:
    """y = x/2 (1 + erf(x / sqrt 2))."""
    return _gelu(node, node.inputs[0])


@register(MS + "BiasGelu")
def bias_gelu(node: Site) -> Outcome:
    """y = gelu(x + bias)."""
    return _gelu(node, node.emit("Add", *node.inputs[:2]))


def _gelu(node: Site, x: str) -> str:
    """The exact Gelu by parts, in every opset."""
    one, half, scale = (node.number(value, node.inputs[0]) for value in (1.0, 0.5, 0.5**0.5))
    curve = node.emit("Add", node.emit("Erf", node.emit("Mul", x, scale)), one)
    return node.emit("Mul", node.emit("Mul", x, half), curve)


@register(MS + "FastGelu")
def fast_gelu(node: Site) -> Outcome:
    """y = z/2 (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3))), z = x + bias."""
    like = node.inputs[0]
    x = node.emit("Add", *node.inputs) if node.has_input(1) else node.emit("Identity", like)
    cube = node.emit("Mul", node.emit("Mul", node.emit("Mul", x, x), x), node.number(0.044715, like))
    inner = node.emit("Mul", node.emit("Add", x, cube), node.number((2 / np.pi) ** 0.5, like))
    half = node.emit("Mul", x, node.number(0.5, like))
    return node.emit("Mul", half, node.emit("Add", node.emit("Tanh", inner), node.number(1.0, like)))


@register(MS + "QuickGelu")
def quick_gelu(node: Site) -> Outcome:
    """y = x sigmoid(alpha x)."""
    x = node.inputs[0]
    inner = node.emit("Mul", x, node.number(node.attribute("alpha", 1.702), x))
    return node.emit("Mul", x, node.emit("Sigmoid", inner))


@register(MS + "FusedConv")
def fused_conv(node: Site) -> Outcome:
    """y = activation(conv(x, w) + b + z)."""
    given = {k: v for k, v in node.attributes.items() if not k.startswith("activation")}
    y = node.emit("Conv", *node.inputs[:3], **given)
    if node.has_input(3):
        y = node.emit("Add", y, node.inputs[3])
    return _activated(node, y, list(node.attribute("activation_params", [])))


@register(MS + "FusedGemm")
def fused_gemm(node: Site) -> Outcome:
    """Y = activation(alpha A' B' + beta C)."""
    given = {k: v for k, v in node.attributes.items() if not k.startswith("activation")}
    numbers = [node.attribute(f"activation_{name}") for name in ("alpha", "beta")]
    return _activated(node, node.emit("Gemm", *node.inputs, **given), [n for n in numbers if n is not None])


def _activated(node: Site, y: str, numbers: Sequence[float]) -> str:
    name = node.attribute("activation", "")
    if not name:
        return node.emit("Identity", y)
    if name == "Clip":
        return node.emit("Clip", y, *(node.number(bound, node.inputs[0]) for bound in numbers))
    if name not in _ACTIVATIONS:
        raise UnsupportedError(f"its activation {name!r} is unknown here: write it as a node of its own")
    return node.emit(name, y, **dict(zip(_ACTIVATIONS[name], numbers, strict=False)))


@register(MS + "FusedMatMul", MS + "TransposeMatMul")
def fused_matmul(node: Site) -> Outcome:
    """Y = alpha op(A) op(B), where op may swap the last two axes."""
    if node.attribute("transBatchA", 0) or node.attribute("transBatchB", 0):
        raise UnsupportedError("it moves the batch axis: write it as Transpose and MatMul")
    sides = []
    for name, swapped in zip(node.inputs, ("transA", "transB"), strict=True):
        rank = len(node.shape(name))
        order = [*range(rank - 2), rank - 1, rank - 2]
        swap = node.attribute(swapped, 0) and rank > 1
        sides.append(node.emit("Transpose", name, perm=order) if swap else name)
    product = node.emit("MatMul", *sides)
    return node.emit("Mul", product, node.number(node.attribute("alpha", 1.0), node.inputs[0]))


@register("SimplifiedLayerNormalization")
def rms_normalization(node: Site) -> Outcome:
    """y = x / sqrt(mean x^2 + epsilon) scale over the last axes."""
    x = node.inputs[0]
    if node.has_output(1) and node.outputs[1] in node.draft.read:
        raise UnsupportedError("its deviation is read by the model: compute it by ReduceMean")
    rank = len(node.shape(x))
    axes = range(node.attribute("axis", -1) % rank, rank)
    return _normalised(node, x, node.inputs[1], "", axes, node.attribute("epsilon", 1e-5))


@register(MS + "SkipLayerNormalization")
def skip_layer_normalization(node: Site) -> Outcome:
    """y = LayerNorm(x + skip + bias); the fourth output is the sum."""
    return _skip(node, 4, node.inputs[3] if node.has_input(3) else "")


@register(MS + "SkipSimplifiedLayerNormalization")
def skip_rms_normalization(node: Site) -> Outcome:
    """y = RMSNorm(x + skip + bias); the fourth output is the sum."""
    return _skip(node, 3, "")


def _skip(node: Site, bias: int, shift: str) -> Outcome:
    for index in (1, 2):
        if node.has_output(index) and node.outputs[index] in node.draft.read:
            raise UnsupportedError("its mean or deviation is read by the model: compute them by ReduceMean")
    total = node.emit("Add", *node.inputs[:2])
    if node.has_input(bias):
        total = node.emit("Add", total, node.inputs[bias])
    epsilon = node.attribute("epsilon", 1e-12)
    centred = total
    if node.op == "SkipLayerNormalization":
        centred = node.emit("Sub", total, node.reduce("ReduceMean", total, [-1]))
    return [_normalised(node, centred, node.inputs[2], shift, [-1], epsilon), "", "", total]


def _normalised(
    node: Site, x: str, scale: str, shift: str, axes: Sequence[int], epsilon: float, like: str = ""
) -> str:
    """x / sqrt(mean x^2 + epsilon) scale + shift over some axes; the numbers have the type of `like`, or input 0."""
    like = like or node.inputs[0]
    square = node.reduce("ReduceMean", node.emit("Mul", x, x), axes)
    deviation = node.emit("Sqrt", node.emit("Add", square, node.number(epsilon, like)))
    y = node.emit("Mul", node.emit("Div", x, deviation), scale)
    return node.emit("Add", y, shift) if shift else y


@register(MS + "EmbedLayerNormalization")
def embed_layer_normalization(node: Site) -> Outcome:
    """y[n, t] = LayerNorm(words[i[n, t]] + positions[t] + segments[s[n, t]]), how many tokens count, and the sum."""
    tokens, segment, words, positions, segments, scale, shift, mask = (*node.inputs, "", "")[:8]
    samples, length = node.shape(tokens)
    total = node.emit("Gather", words, tokens)
    place = node.inputs[8] if node.has_input(8) else node.ints(range(length))
    total = node.emit("Add", total, node.emit("Gather", positions, place))
    if segments:
        total = node.emit("Add", total, node.emit("Gather", segments, segment))
    centred = node.emit("Sub", total, node.reduce("ReduceMean", total, [-1]))
    y = _normalised(node, centred, scale, shift, [-1], node.attribute("epsilon", 1e-12), like=words)
    results = [y, _ones(node, mask, samples), total]
    node.keep_needed(results)
    return results


def _ones(node: Site, mask: str, samples: int) -> str:
    """Return how many ones there are in each row of a mask [N, L], int32 [N]; zeros without a mask."""
    if not mask:
        return node.value(np.zeros(samples), np.int32)
    counted = node.emit("Cast", node.emit("Equal", mask, node.value(1, np.int32)), to=6)  # INT32
    return node.reduce("ReduceSum", counted, [1], keepdims=0)


@register(MS + "Attention")
def attention(node: Site) -> Outcome:
    """softmax(scale Q K' + mask + bias) V, where Q, K, V are the parts of x W + b."""
    if node.has_input(4) or node.has_input(6) or _reads_more(node) or node.attribute("do_rotary", 0):
        raise UnsupportedError(
            "past states and rotary embeddings have no gradient here: write the attention out"
        )
    x, weight = node.inputs[:2]
    samples, length, _ = node.shape(x)
    product = node.emit("MatMul", x, weight)
    if node.has_input(2):
        product = node.emit("Add", product, node.inputs[2])
    third = node.shape(weight)[1] // 3
    sizes = list(node.attribute("qkv_hidden_sizes", [third] * 3))
    parts = node.emit_many("Split", [product, node.ints(sizes)], 3, axis=-1)
    return _Attention(node, samples, length, length, mask=3, bias=5).result(parts, sizes)


@register(MS + "MultiHeadAttention")
def multi_head_attention(node: Site) -> Outcome:
    """softmax(scale Q K' + mask + bias) V of Q, K, V [N, L, D], each with its part of the bias vector."""
    if any(map(node.has_input, range(6, len(node.inputs)))) or _reads_more(node):
        raise UnsupportedError("past states have no gradient here: write the attention out")
    if not all(node.has_input(i) and len(node.shape(node.inputs[i])) == 3 for i in range(3)):
        raise UnsupportedError("packed queries, keys and values have no gradient here: split them first")
    parts = list(node.inputs[:3])
    sizes = [node.shape(part)[2] for part in parts]
    if node.has_input(3):
        biases = node.emit_many("Split", [node.inputs[3], node.ints(sizes)], 3, axis=-1)
        parts = [node.emit("Add", *pair) for pair in zip(parts, biases, strict=True)]
    samples, queries, _ = node.shape(node.inputs[0])
    keys = node.shape(node.inputs[1])[1]
    if node.has_input(5) and node.shape(node.inputs[5])[0] != samples:
        raise UnsupportedError(
            "ONNX Runtime 1.19.2 misreads a bias that all samples share: expand it to the batch"
        )
    return _Attention(node, samples, queries, keys, mask=4, bias=5).result(parts, sizes)


def _reads_more(node: Site) -> bool:
    """Return whether anything reads an output behind the first."""
    return not node.draft.read.isdisjoint(filter(None, node.outputs[1:]))


@dataclass(frozen=True)
class _Attention:
    """Attention over `queries` and `keys` positions; `mask` and `bias` are the inputs that hold them."""

    node: Site
    samples: int
    queries: int
    keys: int
    mask: int
    bias: int

    def result(self, parts: Sequence[str], sizes: Sequence[int]) -> str:
        """Return softmax(scale Q K' + mask + bias) V as [N, queries, D] of Q, K, V [N, L, sizes]."""
        node, heads = self.node, self.node.attribute("num_heads")
        q, k, v = (
            node.emit(
                "Transpose", node.reshape(part, [self.samples, -1, heads, size // heads]), perm=[0, 2, 1, 3]
            )
            for part, size in zip(parts, sizes, strict=True)
        )
        scale = node.attribute("scale", 0.0) or (sizes[0] // heads) ** -0.5
        product = node.emit("MatMul", q, node.emit("Transpose", k, perm=[0, 1, 3, 2]))
        scores = node.emit("Mul", product, node.number(scale, node.inputs[0]))
        for added in self.added():
            scores = node.emit("Add", scores, added)
        mixed = node.emit("MatMul", node.emit("Softmax", scores, axis=-1), v)
        merged = node.emit("Transpose", mixed, perm=[0, 2, 1, 3])
        return node.reshape(merged, [self.samples, self.queries, sizes[2]])

    def added(self) -> Iterator[str]:
        """Yield what is added to the scores [N, heads, queries, keys]: of the mask, the causal mask and the bias."""
        node, like = self.node, self.node.inputs[0]
        least = node.attribute("mask_filter_value", _MASKED)
        if node.has_input(self.mask):
            kept = node.cast_like(self.seen(node.inputs[self.mask]), like)
            gone = node.emit("Sub", node.number(1.0, like), kept)
            yield node.emit("Mul", gone, node.number(least, like))
        if node.attribute("unidirectional", 0):
            before = np.tri(self.queries, self.keys, self.keys - self.queries)
            yield node.number(np.where(before, 0.0, least), like)
        if node.has_input(self.bias):
            yield node.inputs[self.bias]

    def seen(self, mask: str) -> str:
        """Return a mask of 0 and 1 with the axes of the scores, from [N, keys], [N, queries, keys] or lengths [N]."""
        shape = self.node.shape(mask)
        if shape == (self.samples,):
            places = self.node.value(np.arange(self.keys).reshape(1, 1, 1, -1), np.int32)
            return self.node.emit("Less", places, self.node.reshape(mask, [self.samples, 1, 1, 1]))
        if shape == (self.samples, self.keys):
            return self.node.reshape(mask, [self.samples, 1, 1, self.keys])
        if shape == (self.samples, self.queries, self.keys):
            return self.node.reshape(mask, [self.samples, 1, self.queries, self.keys])
        raise UnsupportedError(
            f"a mask of shape {list(shape)} has no gradient here: give 0 and 1 as [N, keys]"
        )
