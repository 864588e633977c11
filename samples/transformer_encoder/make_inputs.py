"""Write what this sample starts from: a small transformer encoder, and sequences to sort tokens of.

The label of a token says whether it has occurred before in its sequence: attention is needed to tell.
"""

import numpy as np
import onnx
from onnx import helper, numpy_helper

TOKENS, LENGTH, WIDTH, HEADS, BLOCKS = 24, 16, 64, 4, 2
rng = np.random.default_rng(0)
nodes, weights = [], []


def emit(op: str, *inputs: str, **attributes) -> str:
    """Append a node and return the name of its output."""
    name = f"{op}_{len(nodes)}"
    nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
    return name


def stored(name: str, values) -> str:
    """Store an array under a name and return the name."""
    weights.append(numpy_helper.from_array(values, name))
    return name


def linear(x: str, name: str, width: int, out: int) -> str:
    """Return x W + b."""
    w = rng.standard_normal((width, out)) / np.sqrt(width)
    product = emit("MatMul", x, stored(f"{name}.weight", w.astype(np.float32)))
    return emit("Add", product, stored(f"{name}.bias", np.zeros(out, np.float32)))


def norm(x: str, name: str) -> str:
    """Return the LayerNormalization of x."""
    scale, bias = (
        stored(f"{name}.scale", np.ones(WIDTH, np.float32)),
        stored(f"{name}.bias", np.zeros(WIDTH, np.float32)),
    )
    return emit("LayerNormalization", x, scale, bias)


def heads(x: str, perm: list[int]) -> str:
    """Return x [N, L, heads * size] with its heads apart."""
    return emit("Transpose", emit("Reshape", x, "apart"), perm=perm)


def attention(x: str, name: str) -> str:
    """Return what the positions of x take from each other."""
    q, k, v = (linear(x, f"{name}.{part}", WIDTH, WIDTH) for part in ("q", "k", "v"))
    scores = emit("Mul", emit("MatMul", heads(q, [0, 2, 1, 3]), heads(k, [0, 2, 3, 1])), "scale")
    mixed = emit("MatMul", emit("Softmax", scores, axis=-1), heads(v, [0, 2, 1, 3]))
    joined = emit("Reshape", emit("Transpose", mixed, perm=[0, 2, 1, 3]), "joined")
    return linear(joined, f"{name}.out", WIDTH, WIDTH)


stored("apart", np.array([0, 0, HEADS, WIDTH // HEADS]))
stored("joined", np.array([0, 0, WIDTH]))
stored("scale", np.array((WIDTH // HEADS) ** -0.5, np.float32))
words = stored("words", rng.standard_normal((TOKENS, WIDTH)).astype(np.float32))
places = stored("places", rng.standard_normal((LENGTH, WIDTH)).astype(np.float32))
h = emit("Add", emit("Gather", words, "ids"), places)
for i in range(BLOCKS):
    h = emit("Add", h, attention(norm(h, f"block{i}.norm1"), f"block{i}.attention"))
    inner = emit("Relu", linear(norm(h, f"block{i}.norm2"), f"block{i}.up", WIDTH, 2 * WIDTH))
    h = emit("Add", h, linear(inner, f"block{i}.down", 2 * WIDTH, WIDTH))
logits = linear(norm(h, "norm"), "head", WIDTH, 2)

read = helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, ["N", LENGTH])
given = helper.make_tensor_value_info(logits, onnx.TensorProto.FLOAT, ["N", LENGTH, 2])
graph = helper.make_graph(nodes, "encoder", [read], [given], weights)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "model.onnx")

ids = rng.integers(0, TOKENS, (2600, LENGTH))
seen = np.array([[token in row[:place] for place, token in enumerate(row)] for row in ids], np.int64)
np.savez("data.npz", x_train=ids[:2000], y_train=seen[:2000], x_test=ids[2000:], y_test=seen[2000:])
