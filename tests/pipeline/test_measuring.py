"""What is measured after a cut, and what a user is warned of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

import onnx_oto
from onnx_oto.errors import UnsupportedError
from onnx_oto.pipeline.measuring import missed, warnings_of
from onnx_oto.runtime.timing import Latencies, Latency, Untimed
from onnx_oto.zigs.budgets import budget
from onnx_oto.zigs.terms import terms

HEADER = '<ir_version: 8, opset_import: ["" : 17]>\n'
PLAIN = "g (float[N,6] x) => (float[N,3] y) { a = MatMul(x, w1) b = Relu(a) y = MatMul(b, w2) }"
FIXED = PLAIN.replace("float[N,", "float[4,")
IMAGES = (
    "g (float[N,3,H,W] x) => (float[N,2,H,W] y) { a = Conv<pads = [1,1,1,1]>(x, k1) b = Relu(a) "
    "y = Conv<pads = [1,1,1,1]>(b, k2) }"
)
TEXT = "g (float[N,T,6] x) => (float[N,T,3] y) { p = Add(x, w0) a = MatMul(p, w1) b = Relu(a) y = MatMul(b, w2) }"
WEIGHTS = {"w0": (16, 6), "w1": (6, 8), "w2": (8, 3), "k1": (8, 3, 3, 3), "k2": (2, 8, 3, 3)}


def fast_and_slow(full: float, compact: float) -> Latencies:
    made = (Latency(x, 0.99 * x, 1.01 * x, 25) for x in (full, compact))
    ratio = compact / full
    return Latencies(*made, (0.98 * ratio, 1.02 * ratio), runtime="ONNX Runtime 1.19.2", threads=2, batch=1)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that writes a model, with the weights that its text names, and returns where."""

    def written(text: str) -> Path:
        made = parser.parse_model(HEADER + text)
        rng = np.random.default_rng(0)
        used = {name for node in made.graph.node for name in node.input}
        for name in sorted(WEIGHTS.keys() & used):
            array = rng.standard_normal(WEIGHTS[name]).astype(np.float32)
            made.graph.initializer.append(numpy_helper.from_array(array, name))
        onnx.save(made, tmp_path / "model.onnx")
        return tmp_path / "model.onnx"

    return written


def pruned(path: Path, **settings: object) -> onnx_oto.Pruned:
    return onnx_oto.prune(path, path.with_name("compact.onnx"), **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("compact", "asked", "says"),
    [
        (5.4, 0.5, ""),
        (5.6, 0.5, "takes 56.0% of the full one's time, --latency 0.5 asked for 50.0%: measure a table"),
        (5.6, "3ms", "takes 56.0% of the full one's time, --latency 3ms asked for 30.0%"),
    ],
)
def test_a_budget_of_latency_that_was_missed_is_told(compact, asked, says):
    latencies = budget("latency", asked, 10.0, terms([]))
    told = missed(fast_and_slow(10.0, compact), [latencies, budget("macs", 0.5, 10.0, terms([]))])
    assert len(told) == bool(says)
    assert all(says in each for each in told)
    assert missed(Untimed("it crashes"), [latencies]) == ()


@pytest.mark.parametrize(
    ("latency", "round_to", "expected"),
    [
        (None, 1, ()),
        (Untimed("it crashes"), 1, ()),
        (fast_and_slow(48.6, 21.9), 1, ()),
        (fast_and_slow(21.9, 22.0), 1, ()),
        (
            fast_and_slow(21.9, 48.6),
            1,
            (
                "the compact model is slower: 21.9 ms -> 48.6 ms in ONNX Runtime 1.19.2; numbers of channels that are "
                "no multiple of 4 leave its fast kernels: prune or train with --round-to auto, or remove more",
            ),
        ),
    ],
    ids=["not wanted", "not measured", "faster", "about the same", "slower"],
)
def test_a_slower_model_is_warned_of(latency, round_to, expected):
    assert warnings_of(latency, round_to) == expected


@pytest.mark.parametrize(
    ("round_to", "remedy"),
    [(1, "--round-to"), (None, "--round-to"), (8, "--fixed-norms"), ("auto", "--fixed-norms")],
)
def test_the_remedy_is_one_that_was_not_taken(round_to, remedy):
    (warning,) = warnings_of(fast_and_slow(1.0, 2.0), round_to)
    assert [each for each in ("--round-to", "--fixed-norms") if each in warning] == [remedy]
    assert "remove more" in warning


@pytest.mark.parametrize(
    ("text", "settings", "batch", "at"),
    [
        (PLAIN, {}, 1, {"N": 1}),
        (FIXED, {}, 4, {}),
        (IMAGES, {}, 1, {"N": 1, "H": 224, "W": 224}),
        (IMAGES, {"input_shape": ["x:2,3,20,30"]}, 2, {"N": 2, "H": 20, "W": 30}),
        (TEXT, {}, 1, {"N": 1, "T": 16}),
    ],
    ids=["open batch", "fixed sizes", "images", "sizes of the user", "what the graph says"],
)
def test_what_is_fed_is_what_somebody_may_use(write, text, settings, batch, at):
    result = pruned(write(text), **settings)
    latency = result.summary.latency
    assert isinstance(latency, Latencies), latency
    assert (latency.batch, latency.at) == (batch, at)
    assert latency.full.runs >= 5
    assert 0 < result.latency_seconds < 10


def test_inputs_that_were_given_are_fed(write, tmp_path):
    np.savez(tmp_path / "inputs.npz", x=np.ones((7, 6), np.float32))
    latency = pruned(write(PLAIN), inputs=tmp_path / "inputs.npz").summary.latency
    assert isinstance(latency, Latencies)
    assert latency.batch == 7


def test_latency_is_left_out_where_nobody_wants_it(write):
    result = pruned(write(PLAIN), skip_latency=True)
    assert result.summary.latency is None
    assert result.as_json()["latency_ms"] is None


def test_a_model_that_cannot_be_timed_is_pruned_all_the_same(write, monkeypatch):
    def refused(*arguments: object, **options: object) -> None:
        raise UnsupportedError("no kernel")

    monkeypatch.setattr("onnx_oto.pipeline.measuring.in_onnxruntime", refused)
    path = write(PLAIN)
    result = pruned(path)
    assert result.summary.latency == Untimed("no kernel")
    assert path.with_name("compact.onnx").exists()
