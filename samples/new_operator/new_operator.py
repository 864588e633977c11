"""A rule for an operator that has none: DFT, in a network that looks at the spectrum of what its filters find."""

from dataclasses import replace

import numpy as np
import onnx

import onnx_oto
from onnx_oto.lanes.align import combine
from onnx_oto.lanes.contract import zero_or_unknown
from onnx_oto.lanes.trace import Role, describe
from onnx_oto.ops.rules import given, inputs, rule

MODEL = """<ir_version: 8, opset_import: ["" : 17]>
spectra (float[N,1,64] wave) => (float[N,4] scores)
<int64[1] last = {3}, int64 length = {64}> {
    a = Conv<pads = [3,3]>(wave, w1, b1)
    b = Unsqueeze(a, last)
    c = DFT<axis = 2, onesided = 1>(b, length)
    d = Mul(c, c)
    e = ReduceSum<keepdims = 0>(d, last)
    f = Conv(e, w2, b2)
    g = Relu(f)
    h = GlobalAveragePool(g)
    i = Flatten(h)
    scores = Gemm(i, w3, b3)
}"""
WEIGHTS = {"w1": (32, 1, 7), "b1": (32,), "w2": (16, 32, 3), "b2": (16,), "w3": (16, 4), "b3": (4,)}


def told(when):
    """Print what `inspect` says of the channels of the first convolution."""
    for dimension in onnx_oto.inspect("model.onnx").dimensions:
        if any(use.param == "w1" for use in dimension.uses):
            state = f"frozen: {dimension.reason}" if dimension.reason else "prunable"
            print(f"{when}, {dimension.size} channels of w1 are {state}")


def dft(node, trace):
    """y = the spectrum of x along one axis, complex in the last: other axes pass, and of zeros it is zero."""
    x = given(inputs(node, trace)[0])
    whole = [int(node.attrs["axis"]) % x.rank, x.rank - 1]
    x = trace.release(x, whole, f"{describe(node)} needs every position of the axis")
    y = combine(trace, node, [x], zero_or_unknown, [Role.CONSUMER])
    shaped = trace.shaped(node.outputs[0])  # the sizes of the axes that the operator makes anew
    axes = [shaped.axes[i] if i in whole else axis for i, axis in enumerate(y.axes)]
    trace.put(node.outputs[0], replace(y, axes=tuple(axes), sizes=dict(y.sizes) | dict(shaped.sizes)))


if __name__ == "__main__":
    rng = np.random.default_rng(0)
    model = onnx.parser.parse_model(MODEL)
    for name, shape in WEIGHTS.items():
        values = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        model.graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float32), name))
    onnx.save(model, "model.onnx")

    told("without a rule")
    rule("DFT", orderless=True, until=19)(dft)  # from opset 20 on its axis is an input
    told("with one")
    pruned = onnx_oto.prune("model.onnx", "compact.onnx", sparsity=0.5, save_zeroed="zeroed.onnx")
    print(
        f"{pruned.summary.params.kept:.1%} of the parameters are left, {pruned.summary.macs.kept:.1%} of the MACs"
    )
