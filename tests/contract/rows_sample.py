"""Rows of operators that read or write at computed places."""

from __future__ import annotations

from .rows import PRUNABLE, Row, image, vector, whole

TABLE = "float[7,8] table"
ANY = "may touch any position"

ROWS: list[Row] = [
    image(
        "RoiAlign",
        "average",
        PRUNABLE,
        "z = RoiAlign<output_height=2,output_width=3,sampling_ratio=2>(h, rois, of)",
        "float[2,4] rois = {0.0,0.0,4.0,4.0,1.0,1.5,5.0,3.5}, int64[2] of = {1,0}",
        size=6,
    ),
    image(
        "RoiAlign",
        "largest, of a constant",
        "not zero",
        's = Sigmoid(h) z = RoiAlign<mode="max">(s, rois, of)',
        "float[2,4] rois = {0.0,0.0,4.0,4.0,-3.0,1.5,5.0,3.5}, int64[2] of = {1,0}",
    ),
    image(
        "CenterCropPad",
        "crops height, pads width",
        PRUNABLE,
        "z = CenterCropPad<axes=[2,3]>(h, to)",
        "int64[2] to = {4,9}",
        opset=18,
        size=6,
    ),
    image(
        "CenterCropPad",
        "of a constant: zeros come in",
        "not zero",
        "s = Sigmoid(h) z = CenterCropPad<axes=[-2]>(s, to)",
        "int64[1] to = {9}",
        opset=18,
    ),
    image(
        "CenterCropPad",
        "along channels",
        "by how many there are",
        "z = CenterCropPad<axes=[1]>(h, to)",
        "int64[1] to = {4}",
        channels=4,
        opset=18,
    ),
    image(
        "CenterCropPad",
        "to the size of another",
        PRUNABLE,
        "p = MaxPool<kernel_shape=[3,3]>(h) s = Shape<start=2>(p) c = CenterCropPad<axes=[2,3]>(h, s) z = Mul(c, p)",
        opset=18,
        size=6,
    ),
    image(
        "GridSample",
        "flow",
        PRUNABLE,
        "g0 = Conv(x, w3) g1 = Transpose<perm=[0,2,3,1]>(g0) g = Tanh(g1) z = GridSample(h, g)",
        "float[2,3,1,1] w3",
        size=6,
    ),
    image(
        "GridSample",
        "flow: who makes it",
        "reads places",
        "f = Relu(h) g0 = Conv(f, w3) g1 = Transpose<perm=[0,2,3,1]>(g0) g = Tanh(g1) z = GridSample(h, g)",
        "float[2,6,1,1] w3",
        probe="w3",
    ),
    whole(
        "ReverseSequence",
        "steps",
        PRUNABLE,
        """g (float[4,N,5] x) => (float[4,N,3] y)
        <float[5,8] w1, float[8,3] w2, int64[1] four = {4}, int64[1] one = {1}, int64[1] two = {2}>
        { h = MatMul(x, w1) s = Shape(x) n = Slice(s, one, two) l = Expand(four, n)
          z = ReverseSequence(h, l) y = MatMul(z, w2) }""",
        axis=1,
        size=8,
    ),
    image(
        "GatherElements",
        "along space, indices spread over channels",
        PRUNABLE,
        "s = Shape(h) i = Expand(some, s) z = GatherElements<axis=2>(h, i)",
        "int64[1,1,6,1] some = {5,4,0,0,2,1}",
        size=6,
    ),
    image(
        "GatherElements",
        "along channels",
        ANY,
        "s = Shape(h) i = Expand(some, s) z = GatherElements<axis=1>(h, i)",
        "int64[1,6,1,1] some = {5,4,0,0,2,1}",
    ),
    image(
        "GatherElements",
        "indices for every channel",
        "combines the axis",
        "z = GatherElements<axis=2>(h, some)",
        "int64[2,6,1,6] some",
    ),
    image(
        "ScatterElements",
        "along space",
        PRUNABLE,
        "s = Shape(h) i = Expand(some, s) u = Conv(x, w3) z = ScatterElements<axis=3>(h, i, u)",
        "int64[1,1,1,6] some = {5,4,0,3,2,1}, float[6,3,1,1] w3",
        size=6,
    ),
    image(
        "ScatterElements",
        "added, of different constants",
        "not zero",
        's = Shape(h) i = Expand(some, s) a = Sigmoid(h) z = ScatterElements<axis=3,reduction="add">(a, i, h)',
        "int64[1,1,1,6] some = {5,4,0,3,2,1}",
        opset=18,
    ),
    image(
        "Scatter",
        "along space",
        PRUNABLE,
        "s = Shape(h) i = Expand(some, s) z = Scatter<axis=3>(h, i, h)",
        "int64[1,1,1,6] some = {5,4,0,3,2,1}",
        opset=10,
        size=6,
    ),
    vector(
        "ScatterND",
        "rows of a table",
        PRUNABLE,
        "hs = Slice(h, zero, two) s = ScatterND(table, at, hs) t = ReduceMax<axes=[0],keepdims=1>(s) z = Add(h, t)",
        f"{TABLE}, int64[2,1] at = {{5,2}}, int64[1] zero = {{0}}, int64[1] two = {{2}}",
        size=8,
    ),
    vector(
        "ScatterND",
        "every element",
        ANY.replace("touch", "write"),
        "z = ScatterND(h, at, value)",
        "int64[2,2] at = {0,3,1,5}, float[2] value",
    ),
]
