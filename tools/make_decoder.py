"""Write a Llama-style decoder as ONNX with external data: grouped-query attention, rotary embedding, SwiGLU, RMSNorm.

    .venv/bin/python tools/make_decoder.py -o decoder.onnx                 # 7 billion parameters, weights a sparse file
    .venv/bin/python tools/make_decoder.py -o small.onnx --layers 2 --width 64 --hidden 176 --heads 8 --kv-heads 2 \
        --vocabulary 100 --random

    .venv/bin/python tools/make_decoder.py -o real.onnx --random --external --bfloat16           # 14 GB on disk

By default the weights are one sparse file of zeros, which takes no space on disk: for measuring what `inspect` needs.
--random draws them (seed 0), into the model itself, or with --external into a file beside it, one after the other.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LAYER = """
  {p}sq = Mul({x}, {x}) {p}ms = ReduceMean<axes=[-1]>({p}sq) {p}me = Add({p}ms, eps) {p}rt = Sqrt({p}me)
  {p}nx = Div({x}, {p}rt) {p}n1 = Mul({p}nx, {p}norm1)
  {p}q0 = MatMul({p}n1, {p}wq) {p}k0 = MatMul({p}n1, {p}wk) {p}v0 = MatMul({p}n1, {p}wv)
  {p}q1 = Reshape({p}q0, q_shape) {p}k1 = Reshape({p}k0, kv_shape) {p}v1 = Reshape({p}v0, kv_shape)
  {p}q2 = Transpose<perm=[0,2,1,3]>({p}q1) {p}k2 = Transpose<perm=[0,2,1,3]>({p}k1)
  {p}v2 = Transpose<perm=[0,2,1,3]>({p}v1)
  {p}qa = Slice({p}q2, zero, half, last) {p}qb = Slice({p}q2, half, full, last) {p}qn = Neg({p}qb)
  {p}qr = Concat<axis=-1>({p}qn, {p}qa) {p}qc = Mul({p}q2, cos) {p}qs = Mul({p}qr, sin) {p}q3 = Add({p}qc, {p}qs)
  {p}ka = Slice({p}k2, zero, half, last) {p}kb = Slice({p}k2, half, full, last) {p}kn = Neg({p}kb)
  {p}kr = Concat<axis=-1>({p}kn, {p}ka) {p}kc = Mul({p}k2, cos) {p}ks = Mul({p}kr, sin) {p}k3 = Add({p}kc, {p}ks)
  {p}k4 = Unsqueeze({p}k3, two) {p}k5 = Expand({p}k4, repeat) {p}k6 = Reshape({p}k5, heads_shape)
  {p}v4 = Unsqueeze({p}v2, two) {p}v5 = Expand({p}v4, repeat) {p}v6 = Reshape({p}v5, heads_shape)
  {p}kt = Transpose<perm=[0,1,3,2]>({p}k6) {p}s0 = MatMul({p}q3, {p}kt) {p}s1 = Mul({p}s0, scale)
  {p}s2 = Add({p}s1, mask) {p}pr = Softmax<axis=-1>({p}s2) {p}o0 = MatMul({p}pr, {p}v6)
  {p}o1 = Transpose<perm=[0,2,1,3]>({p}o0) {p}o2 = Reshape({p}o1, flat) {p}o3 = MatMul({p}o2, {p}wo)
  {p}r1 = Add({x}, {p}o3)
  {p}sq2 = Mul({p}r1, {p}r1) {p}ms2 = ReduceMean<axes=[-1]>({p}sq2) {p}me2 = Add({p}ms2, eps)
  {p}rt2 = Sqrt({p}me2) {p}nx2 = Div({p}r1, {p}rt2) {p}n2 = Mul({p}nx2, {p}norm2)
  {p}g0 = MatMul({p}n2, {p}gate) {p}gs = Sigmoid({p}g0) {p}g1 = Mul({p}g0, {p}gs) {p}u0 = MatMul({p}n2, {p}up)
  {p}h0 = Mul({p}g1, {p}u0) {p}d0 = MatMul({p}h0, {p}down) {p}r2 = Add({p}r1, {p}d0)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    for name, value in (
        ("layers", 32),
        ("width", 4096),
        ("hidden", 14336),
        ("heads", 32),
        ("kv-heads", 8),
        ("vocabulary", 32000),
        ("length", 128),
    ):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--random", action="store_true", help="random weights")
    parser.add_argument("--external", action="store_true", help="random weights in a file beside the model")
    parser.add_argument("--bfloat16", action="store_true", help="everything in bfloat16")
    options = parser.parse_args()
    model, shapes = decoder(options)
    kind = TensorProto.BFLOAT16 if options.bfloat16 else TensorProto.FLOAT
    if options.bfloat16:
        narrow(model)
    inside = options.random and not options.external
    count = attach(model, shapes, options.output, kind, inside=inside)
    if options.random and options.external:
        fill(f"{options.output}.data", shapes, kind)
    onnx.save(model, options.output)
    print(f"{options.output}: {count:,} parameters")


def decoder(o: argparse.Namespace) -> tuple[onnx.ModelProto, dict[str, tuple[int, ...]]]:
    """Return the graph, and the shapes of its weights."""
    size = o.width // o.heads
    kv = o.kv_heads * size
    shapes: dict[str, tuple[int, ...]] = {"embed": (o.vocabulary, o.width)}
    body, x = "  x0 = Gather(embed, ids)\n", "x0"
    for i in range(o.layers):
        p = f"l{i}_"
        body += LAYER.format(p=p, x=x)
        x = f"{p}r2"
        shapes |= {f"{p}norm1": (o.width,), f"{p}norm2": (o.width,)}
        shapes |= {f"{p}wq": (o.width, o.width), f"{p}wk": (o.width, kv), f"{p}wv": (o.width, kv)}
        shapes |= {
            f"{p}wo": (o.width, o.width),
            f"{p}gate": (o.width, o.hidden),
            f"{p}up": (o.width, o.hidden),
        }
        shapes |= {f"{p}down": (o.hidden, o.width)}
    shapes |= {"head": (o.width, o.vocabulary)}
    constants = f"""float eps = {{0.00001}}, float scale = {{{size**-0.5}}}, int64[1] zero = {{0}},
        int64[1] half = {{{size // 2}}}, int64[1] full = {{{size}}}, int64[1] last = {{-1}}, int64[1] two = {{2}},
        int64[4] q_shape = {{0,0,{o.heads},{size}}}, int64[4] kv_shape = {{0,0,{o.kv_heads},{size}}},
        int64[5] repeat = {{1,1,{o.heads // o.kv_heads},1,1}}, int64[4] heads_shape = {{0,{o.heads},-1,{size}}},
        int64[3] flat = {{0,0,{o.width}}}"""
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    decoder (int64[N,{o.length}] ids) => (float[N,{o.length},{o.vocabulary}] logits) <{constants}> {{
    {body}  logits = MatMul({x}, head) }}"""
    model = onnx.parser.parse_model(text)
    rotate(model, o.length, size)
    return model, shapes


def rotate(model: onnx.ModelProto, length: int, size: int) -> None:
    """Add the rotary tables [length, size] and the causal mask."""
    angles = np.outer(np.arange(length), 10000.0 ** (-np.arange(0, size, 2) / size))
    table = np.concatenate([angles, angles], -1)
    mask = np.triu(np.full((length, length), -1e9), 1)
    for name, value in (("cos", np.cos(table)), ("sin", np.sin(table)), ("mask", mask)):
        model.graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))


def narrow(model: onnx.ModelProto) -> None:
    """Turn all floats of the graph into bfloat16."""
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            value = numpy_helper.to_array(tensor).astype(
                helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16)
            )
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    for value in model.graph.output:
        value.type.tensor_type.elem_type = TensorProto.BFLOAT16


def drawn(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return random weights, float32."""
    return rng.standard_normal(shape, np.float32) / np.float32(shape[0] ** 0.5)


def attach(
    model: onnx.ModelProto, shapes: dict[str, tuple[int, ...]], path: Path, kind: int, *, inside: bool
) -> int:
    """Add the weights: random ones inside, or references into a sparse file beside the model; return their number."""
    rng, offset, count = np.random.default_rng(0), 0, 0
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    for name, shape in shapes.items():
        elements = int(np.prod(shape))
        count += elements
        if inside:
            model.graph.initializer.append(numpy_helper.from_array(drawn(rng, shape).astype(dtype), name))
            continue
        length = dtype.itemsize * elements
        tensor = TensorProto(name=name, data_type=kind, dims=shape)
        tensor.data_location = TensorProto.EXTERNAL
        for key, entry in (("location", path.name + ".data"), ("offset", offset), ("length", length)):
            tensor.external_data.add(key=key, value=str(entry))
        model.graph.initializer.append(tensor)
        offset += length
    if not inside:
        with open(f"{path}.data", "wb") as file:
            file.truncate(offset)
    return count


def fill(path: str, shapes: dict[str, tuple[int, ...]], kind: int) -> None:
    """Write random weights into the file beside the model, one after the other."""
    rng, dtype = np.random.default_rng(0), helper.tensor_dtype_to_np_dtype(kind)
    with open(path, "r+b") as file:
        for shape in shapes.values():
            file.write(drawn(rng, shape).astype(dtype).tobytes())


if __name__ == "__main__":
    main()
