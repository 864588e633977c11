"""From the user's model to the training graph: opsets, open sizes, outputs, what is refused and where."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from onnx_oto.errors import UnsupportedError, UsageError
from onnx_oto.gradients import Preparation, TrainingSpec, choose_backend, require_trainable
from onnx_oto.gradients import prepare as prepare_for
from onnx_oto.gradients.backends.ort_covers import covers
from onnx_oto.gradients.graph.lowering import Refusal
from onnx_oto.gradients.graph.static_types import UNKNOWN, types
from onnx_oto.gradients.graph.training_graph import detached, lowered_for
from onnx_oto.losses import Distill, Match

from .conftest import Build, model_from, normal


def spec(*trainable: str, **fields: object) -> TrainingSpec:
    return TrainingSpec(trainable, "mse", **{"batch": 4, **fields})


def prepare(model: onnx.ModelProto, spec: TrainingSpec) -> Preparation:
    return prepare_for(model, spec, choose_backend())


def refusals(model: onnx.ModelProto, spec: TrainingSpec) -> list[Refusal]:
    return list(prepare(model, spec).refusals)


@pytest.mark.parametrize("opset", [9, 11, 12, 13, 17, 18, 21])
def test_opsets(build: Build, opset: int) -> None:
    """Softmax flattened its input before opset 13, Dropout had no inputs before 12."""
    text = """(float[N, 2, 3] x) => (float[N, 2, 3] y) {
        z = Mul(x, w) s = Softmax<axis=1>(z) d = Dropout(s) y = BatchNormalization(d, scale, shift, mean, var)
    }"""
    weights = {
        "w": normal(3),
        "scale": normal(2),
        "shift": normal(2),
        "mean": normal(2),
        "var": np.ones(2, np.float32),
    }
    model = model_from(text, weights, opset=opset)
    session = build(model, ("w", "scale", "shift"), batch=4, shards=1)
    x = normal(4, 2, 3, seed=1)
    z = np.exp(x * weights["w"])
    s = z / z.sum(axis=1 if opset >= 13 else (1, 2), keepdims=True)
    scale, shift, mean = (weights[name].reshape(2, 1) for name in ("scale", "shift", "mean"))
    expected = (s - mean) / np.sqrt(1 + 1e-5) * scale + shift
    np.testing.assert_allclose(session.predict({"x": x}), expected, rtol=1e-5, atol=1e-6)
    assert np.isfinite(session.step({"x": x}, x))
    assert session.grads.any()


def test_newer_opset_of_known_operators(build: Build) -> None:
    text = "(float[N, 2] x) => (float[N, 2] y) { y = Mul(x, w) }"
    old, new = (build(model_from(text, {"w": normal(2)}, opset=n), ("w",), batch=2) for n in (21, 23))
    x, t = normal(2, 2, seed=1), normal(2, 2, seed=2)
    assert old.step({"x": x}, t) == new.step({"x": x}, t)
    np.testing.assert_array_equal(old.grads, new.grads)


def test_too_new() -> None:
    model = model_from(
        "(float[N, 2] x) => (float[N, 2] y) { h = Mul(x, w) y = CumProd(h, i) }",
        {"w": normal(2), "i": np.array(1)},
        opset=26,
    )
    with pytest.raises(
        UnsupportedError, match="CumProd is of opset 26, training reads up to 21: export the model"
    ):
        prepare(model, spec("w"))


def test_new_operators_are_written_out(build: Build) -> None:
    """Several of a kind: onnx leaves the nodes of a definition unnamed, which ONNX Runtime's fusions mix up."""
    model = model_from(
        "(float[N, 2, 3, 4] x) => (float[N, 2, 3, 4] y) "
        "{ a = Mul(x, w) b = Attention<is_causal=1>(a, a, a) c = RMSNormalization(b, s) d = Swish(c) "
        "y = Attention<is_causal=1>(d, d, d) }",
        {"w": normal(4), "s": normal(4)},
        opset=24,
    )
    session = build(model, ("w", "s"), batch=2)
    x = normal(2, 2, 3, 4, seed=1)
    np.testing.assert_allclose(
        session.predict({"x": x}), ReferenceEvaluator(model).run(None, {"x": x})[0], rtol=1e-5, atol=1e-6
    )
    losses = [session.step({"x": x}, np.zeros_like(x))]
    session.params -= 0.1 * session.grads
    assert session.step({"x": x}, np.zeros_like(x)) < losses[0]


def test_upsample_of_old_models(build: Build) -> None:
    model = model_from(
        '(float[N, 1, 2, 2] x) => (float[N, 1, 4, 4] y) { a = Mul(x, w) y = Upsample<mode="nearest">(a, s) }',
        {"w": normal(2, 2), "s": np.array([1, 1, 2, 2], np.float32)},
        opset=9,
    )
    session = build(model, ("w",), batch=2)
    x = normal(2, 1, 2, 2, seed=1)
    wide = (x * onnx.numpy_helper.to_array(model.graph.initializer[0])).repeat(2, axis=2).repeat(2, axis=3)
    np.testing.assert_allclose(session.predict({"x": x}), wide, rtol=1e-6)
    assert session.step({"x": x}, wide) == pytest.approx(0.0, abs=1e-10)


def test_open_sample_sizes(build: Build) -> None:
    model = model_from("(float[N, C, H] x) => (float[N, C, H] y) { y = Mul(x, w) }", {"w": normal(3)})
    with pytest.raises(UnsupportedError, match="input 'x' leaves axis 1 open besides the batch"):
        prepare(model, spec("w"))
    with pytest.raises(UsageError, match=r"sample shape \[3\] contradicts input 'x'"):
        prepare(model, spec("w", sample_shapes={"x": (3,)}))
    session = build(model, ("w",), batch=4, sample_shapes={"x": (2, 3)})
    x = normal(4, 2, 3)
    assert session.step({"x": x}, np.zeros_like(x)) > 0


def test_only_one_output_is_trained(build: Build) -> None:
    """Inputs and nodes that only other outputs need are not asked for, not even an op without gradient."""
    model = model_from(
        "(float[N, 3] x, float[N, 3] z) => (float[N, 3] p, float[N, 3] q) "
        "{ p = Mul(x, w) a = Mul(z, w) q, i = Unique<axis=1>(a) }",
        {"w": normal(3)},
    )
    assert refusals(model, spec("w")) == []
    session = build(model, ("w",), batch=4)
    assert session.step({"x": normal(4, 3)}, normal(4, 3)) > 0
    (refusal,) = refusals(model, spec("w", output="q"))
    assert refusal.op == "Unique"


def test_refusals_name_node_op_and_remedy() -> None:
    model = model_from(
        "(float[N, 3] x) => (float[N, 3] y) "
        "{ a = Atan(x) b = Mul(a, w) c = Unique<axis=0>(b) d = Det(c) y = Relu(d) }",
        {"w": normal(3)},
    )
    for index, node in enumerate(model.graph.node):
        node.name = f"n{index}"
    found = refusals(model, spec("w"))
    assert [(refusal.node, refusal.op) for refusal in found] == [("n2", "Unique"), ("n3", "Det")]
    assert str(found[0]).startswith(
        "node 'n2' (Unique): the size of its output depends on its values: leave what feeds it untrained"
    )
    with pytest.raises(UnsupportedError, match=r"node 'n2' \(Unique\): .*node 'n3' \(Det\)"):
        require_trainable(prepare(model, spec("w")).refusals)


def test_a_reason_is_said_once() -> None:
    """As for the copies of a body: with the first node, and how many more there are."""
    det = "{0} = Det(b) ".format
    text = "(float[N, 3, 3] x) => (float[N] y) { b = Mul(x, w) " + "".join(map(det, "cdef"))
    model = model_from(text + "u = Unique<axis = 0>(b) v = Det(u) y = Sum(c, d, e, f, v) }", {"w": normal(3)})
    for index, node in enumerate(model.graph.node):
        node.name = f"n{index}"
    with pytest.raises(UnsupportedError) as caught:
        require_trainable(prepare(model, spec("w")).refusals)
    assert re.fullmatch(
        r"training cannot handle node 'n1' \(Det\) and 4 more: a determinant [^;]*; "
        r"node 'n5' \(Unique\): the size [^;]*",
        str(caught.value),
    )


def test_foreign_domains_and_bodies_are_refused_only_on_the_path() -> None:
    text = """(float[N, 3] x, bool flag) => (float[N, 3] y) {
        a = If (flag) <then_branch = g1 () => (float[N, 3] t) { t = Mul(x, w) },
                       else_branch = g2 () => (float[N, 3] e) { e = Neg(x) }>
        y = Add(a, v)
    }"""
    model = model_from(text, {"w": normal(3), "v": normal(3)})
    assert [refusal.op for refusal in refusals(model, spec("w", "v"))] == ["If"]
    assert refusals(model, spec("v")) == []


def test_gradient_ends_at_integers_and_comparisons() -> None:
    model = model_from(
        """(float[N, 3] x) => (float[N, 3] y) {
            a = Mul(x, w) i = ArgMax<axis=1, keepdims=1>(a) f = Cast<to=1>(i) z = OneHot<axis=1>(i, three, pair)
            y = Mul(f, v)
        }""",
        {"w": normal(3), "v": normal(3), "three": np.array(3), "pair": np.array([0, 1], np.float32)},
    )
    assert refusals(model, spec("w", "v")) == []


def test_shape_arithmetic_is_folded(build: Build) -> None:
    model = model_from(
        """(float[N, 2, 6] x) => (float[N, 3, 4] y) {
            s = Shape(x) n = Gather(s, zero) u = Unsqueeze(n, axes) t = Concat<axis=0>(u, rest)
            a = Mul(x, w) y = Reshape(a, t)
        }""",
        {"w": normal(6), "zero": np.array(0), "axes": np.array([0]), "rest": np.array([3, 4])},
    )
    graph = lowered_for(detached(model, spec("w")), spec("w"), 4, covers).model.graph
    assert not {"Shape", "Gather", "Unsqueeze", "Concat"} & {node.op_type for node in graph.node}
    session = build(model, ("w",), batch=4)
    x = normal(4, 2, 6)
    assert session.step({"x": x}, np.zeros((4, 3, 4), np.float32)) > 0


def test_unknown_inference_is_tried_again_after_lowering(build: Build) -> None:
    """Shape inference knows nothing of GroupNormalization; what follows it is lowered a round later."""
    model = model_from(
        """(float[N, 4, 3] x) => (float[N, 4] y) {
            a = Mul(x, w) g = GroupNormalization<num_groups=2>(a, s, s) h = ReduceMax(g, axes) y = Squeeze(h, axes)
        }""",
        {"w": normal(3), "s": normal(2), "axes": np.array([2])},
        opset=18,
    )
    session = build(model, ("w", "s"), batch=4)
    assert session.step({"x": normal(4, 4, 3)}, normal(4, 4)) > 0


def test_types_are_static_only_when_every_size_is_a_number() -> None:
    model = model_from("(float[N, 2] x) => (float[N, 2] y) { y = Add(x, w) }", {"w": normal(2)})
    known = types(model)
    assert known["w"].static == (2,)
    assert known["y"].static is None
    assert known["y"].shape == ("N", 2)
    assert UNKNOWN.static is None


def test_another_loss_of_the_same_tensors_is_attached_to_what_was_lowered() -> None:
    """The teacher's variance is known after the model was prepared: nothing else is made anew."""
    model = model_from(
        "(float[N, 3] x) => (float[N, 2] y) { y = MatMul(x, w) }", {"w": np.ones((3, 2), np.float32)}
    )
    first = Distill(matches=(Match(),))
    preparation = prepare_for(model, TrainingSpec(("w",), first, batch=2, shards=1), choose_backend())
    assert set(preparation.targets) == {"teacher.0"}
    other = preparation.with_loss(Distill(matches=(Match(scale=4.0),)))
    x, said = np.ones((2, 3), np.float32), np.zeros((2, 2), np.float32)
    losses = []
    for each in (preparation, other):
        session = each.build()
        losses.append(session.step({"x": x}, {"teacher.0": said}))
        session.close()
    assert losses == pytest.approx([9.0, 2.25])
    assert other.loss == Distill(matches=(Match(scale=4.0),))


def test_nodes_without_names_may_be_fused(build: Build) -> None:
    """ONNX Runtime names what it fuses after the first of its nodes, and refuses two of one name."""
    halves = "{0} = Gather<axis=1>({1}, zero) {0}2 = Gather<axis=1>({1}, one)"
    text = (
        "(float[N, 4] x) => (float[N, 4] y) { a = MatMul(x, w) b = Reshape(a, sizes) "
        f"{halves.format('c', 'b')} d = Mul(c, c2) e = MatMul(d, v) f = Reshape(e, sizes) "
        f"{halves.format('g', 'f')} y = Mul(g, g2) }}"
    )
    numbers = {"zero": np.int64(0), "one": np.int64(1), "sizes": np.array([0, 2, 4])}
    model = model_from(text, {"w": normal(4, 8), "v": normal(4, 8, seed=1), **numbers})
    assert not any(node.name for node in model.graph.node)
    session = build(model, ("w", "v"), batch=4)
    assert np.isfinite(session.step({"x": normal(4, 4)}, normal(4, 4)))
