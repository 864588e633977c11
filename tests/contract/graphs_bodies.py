"""Recurrent networks as exporters write them with loops: cells of TensorFlow, weights that live in a body alone."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from .builder import build, weight
from .graphs import Expect, Graph

HIDDEN, FED = 8, 5


def _nodes(text: str) -> list[object]:
    """Return nodes, one a line: outputs = Op inputs, with attributes as name=integer."""
    found = []
    for line in filter(None, map(str.strip, text.splitlines())):
        left, right = line.split(" = ")
        op, *rest = right.split()
        attributes = dict(each.split("=") for each in rest if "=" in each)
        inputs = [each if each != "-" else "" for each in rest if "=" not in each]
        found.append(
            helper.make_node(op, inputs, left.split(), **{k: _value(v) for k, v in attributes.items()})
        )
    return found


def _value(text: str) -> int | list[int]:
    return [int(each) for each in text.split(",")] if "," in text else int(text)


def _random(*named: tuple[str, tuple[int, ...]]) -> list[TensorProto]:
    rng = np.random.default_rng(0)
    return [numpy_helper.from_array(weight(n, list(s), rng).astype(np.float32), n) for n, s in named]


def _info(name: str, shape: list[object] | None, kind: int = TensorProto.FLOAT) -> object:
    return helper.make_tensor_value_info(name, kind, shape)


def _model(
    nodes: list[object], inits: list[TensorProto], ins: list[object], outs: list[object]
) -> ModelProto:
    graph = helper.make_graph(nodes, "g", ins, outs, inits)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def tensorflow_lstm() -> ModelProto:
    """Return an LSTM as tf2onnx writes a while loop: the step counts, states and weights of the graph around it."""
    body = helper.make_graph(
        _nodes(
            """xt = Gather xs step axis=0
            both = Concat xt h axis=1
            m = MatMul both kernel
            pre = Add m bias
            i g f o = Split pre axis=1
            fb = Add f one
            si = Sigmoid i
            sf = Sigmoid fb
            so = Sigmoid o
            tg = Tanh g
            keep = Mul sf c
            new = Mul si tg
            c1 = Add keep new
            tc = Tanh c1
            h1 = Mul so tc
            next = Add step unit
            on = Less next steps
            out = Identity h1"""
        ),
        "while",
        [
            _info("trip", [], TensorProto.INT64),
            _info("go", [], TensorProto.BOOL),
            _info("step", [], TensorProto.INT64),
            _info("h", [None, HIDDEN]),
            _info("c", [None, HIDDEN]),
        ],
        [
            _info("on", [], TensorProto.BOOL),
            _info("next", [], TensorProto.INT64),
            _info("h1", [None, HIDDEN]),
            _info("c1", [None, HIDDEN]),
            _info("out", [None, HIDDEN]),
        ],
    )
    nodes = _nodes(
        """xs = Transpose x perm=1,0,2
        sh = Shape xs
        steps = Gather sh zero
        n = Gather sh unit1
        sizes = Concat n width axis=0
        start = ConstantOfShape sizes
        last = Identity zero0"""
    )[:-1]
    nodes.append(
        helper.make_node(
            "Loop",
            ["most", "yes", "zero0", "start", "start"],
            ["count", "hT", "cT", "ys"],
            body=body,
        )
    )
    nodes += _nodes(
        """yb = Transpose ys perm=1,0,2
        q = MatMul yb w2
        r = Relu q
        y = MatMul r w3
        z = MatMul hT w4"""
    )
    ints = {"zero": 0, "zero0": 0, "unit": 1, "most": 2**31, "unit1": [1], "width": [HIDDEN]}
    inits = _random(
        ("kernel", (FED + HIDDEN, 4 * HIDDEN)),
        ("bias", (4 * HIDDEN,)),
        ("w2", (HIDDEN, 6)),
        ("w3", (6, 3)),
        ("w4", (HIDDEN, 2)),
    )
    inits += [numpy_helper.from_array(np.array(v, np.int64), n) for n, v in ints.items()]
    inits.append(numpy_helper.from_array(np.array(1.0, np.float32), "one"))
    inits.append(numpy_helper.from_array(np.array(True), "yes"))
    return _model(
        nodes,
        inits,
        [_info("x", ["N", "T", FED])],
        [_info("y", ["N", "T", 3]), _info("z", ["N", 2])],
    )


def weights_in_the_body() -> ModelProto:
    """Return two recurrent layers as Scans that hold their weights, one behind the other (as chars2vec has them)."""

    def layer(name: str, fed: int) -> object:
        body = helper.make_graph(
            _nodes(
                f"""a{name} = MatMul p{name} W{name}
                b{name} = MatMul s{name} U{name}
                k{name} = Add a{name} b{name}
                l{name} = Add k{name} B{name}
                r{name} = Tanh l{name}
                e{name} = Identity r{name}"""
            ),
            f"body{name}",
            [_info(f"s{name}", ["N", HIDDEN]), _info(f"p{name}", ["N", fed])],
            [_info(f"r{name}", ["N", HIDDEN]), _info(f"e{name}", ["N", HIDDEN])],
            _random((f"W{name}", (fed, HIDDEN)), (f"U{name}", (HIDDEN, HIDDEN)), (f"B{name}", (HIDDEN,))),
        )
        return helper.make_node(
            "Scan",
            [f"start{name}", "xs" if name == "1" else "ys1"],
            [f"last{name}", f"ys{name}"],
            body=body,
            num_scan_inputs=1,
        )

    nodes = _nodes(
        """xs = Transpose x perm=1,0,2
        sh = Shape xs
        n = Gather sh unit
        sizes = Concat n width axis=0
        start1 = Expand nil sizes
        start2 = Expand nil sizes"""
    )
    nodes += [layer("1", FED), layer("2", HIDDEN), *_nodes("y = MatMul last2 w2")]
    inits = _random(("w2", (HIDDEN, 3)))
    inits += [
        numpy_helper.from_array(np.array([1], np.int64), "unit"),
        numpy_helper.from_array(np.array([HIDDEN], np.int64), "width"),
        numpy_helper.from_array(np.array(0.0, np.float32), "nil"),
    ]
    return _model(nodes, inits, [_info("x", ["N", "T", FED])], [_info("y", ["N", 3])])


TWO_RANKS = """g (float[N,5] x, bool c) => (float[P,Q] y) <float[5,8] w1, float[8,6] w2, int64[1] nil = {0}>
    { h = MatMul(x, w1) o = If (c) <then_branch = t () => (float[A,B] p) { p = Relu(h) },
      else_branch = e () => (float[C,D,E] q) { q = Unsqueeze(h, nil) }> r = Tanh(o) y0 = MatMul(r, w2)
      sh = Constant<value_ints = [-1, 6]>() y = Reshape(y0, sh) }"""


def two_ranks() -> ModelProto:
    """Return an If whose branches give two ranks, both of which run; the file stores the one."""
    model = build(TWO_RANKS)
    model.graph.value_info.append(helper.make_tensor_value_info("o", TensorProto.FLOAT, ["N", 8]))
    return model


GRAPHS: list[Graph] = [
    Graph(
        "branches of two ranks, and a stored shape",
        two_ranks,
        (Expect("w1", 0, axis=1, reason="gives tensors of different ranks"),),
    ),
    Graph(
        "LSTM of TensorFlow, a while loop",
        tensorflow_lstm,
        (Expect("kernel", HIDDEN, axis=1), Expect("w2", 6, axis=1)),
    ),
    Graph(
        "recurrent layers with their weights in the bodies",
        weights_in_the_body,
        (Expect("W1", HIDDEN, axis=1), Expect("W2", HIDDEN, axis=1)),
    ),
]
