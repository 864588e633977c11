"""Models that crash, never end or want the whole machine when they are run: one line, exit 4, at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.contract.builder import build
from tests.runtime.crashing import divides_and_dies

PATH = "h = MatMul(x, w)  a = Relu(h)  y = MatMul(a, v)"
DIVIDES = f"""g (float[N,4] x, int64[N] d) => (float[N,3] y, int64[N] q) <float[4,16] w, float[16,3] v> {{
    {PATH}  zero = Sub(d, d)  q = Div(d, zero)
}}"""
ENDLESS = f"""g (float[N,4] x, int64 n) => (float[N,3] y, float s)
<float[4,16] w, float[16,3] v, bool go = {{1}}, float one = {{1}}, int64 many = {{1000000000000}}> {{
    {PATH}  zero = Sub(n, n)  count = Add(zero, many)
    s = Loop(count, go, one) <body = b (int64 i, bool c, float e) => (bool k, float f) {{
        k = Identity(c)  f = Abs(e)
    }}>
}}"""
HUNGRY = f"""g (float[N,4] x, int64[1] n) => (float[N,3] y, float s)
<float[4,16] w, float[16,3] v, int64[1] many = {{1000000000}}> {{
    {PATH}  zero = Sub(n, n)  size = Add(zero, many)  z = ConstantOfShape(size)  s = ReduceSum<keepdims = 0>(z)
}}"""


def write(text: str, folder: Path) -> Path:
    path = folder / "m.onnx"
    onnx.save(build(text), path)
    return path


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        pytest.param(DIVIDES, [], "running the model brings the runtime down", marks=divides_and_dies),
        (ENDLESS, ["--limit-time", "1"], "takes longer than 1 s: allow more with --limit-time SECONDS"),
        (
            HUNGRY,
            ["--limit-memory", "700MB"],
            "takes more than 0.7 GB of memory: allow more with --limit-memory",
        ),
    ],
)
def test_what_goes_wrong_where_the_model_runs_is_one_line(refused_alone, tmp_path, text, options, says):
    model = write(text, tmp_path)
    assert says in refused_alone(4, "prune", model, "-o", tmp_path / "c.onnx", *options)
    assert not (tmp_path / "c.onnx").exists()


@divides_and_dies
def test_verify_survives_what_it_runs(refused_alone, tmp_path):
    model = write(DIVIDES, tmp_path)
    assert "running the model brings the runtime down" in refused_alone(4, "verify", model, model)


@pytest.mark.parametrize("text", ["much", "0GB", "-1GB", "8XB"])
def test_a_size_of_memory_is_a_number_with_a_unit(cli, model, text):
    done = cli("prune", model, "-o", "c.onnx", f"--limit-memory={text}")
    assert done.returncode == 2
    assert f"limit-memory is '{text}': write a size of memory such as 8GB" in done.stderr


@divides_and_dies
@pytest.mark.parametrize("optimizer", ["dense", "dhspg"])
def test_training_tries_the_graph_elsewhere_before_it_runs_it_itself(refused_alone, tmp_path, optimizer):
    model = write(
        f"""g (float[N,4] x) => (float[N,3] out) <float[4,16] w, float[16,3] v> {{
        {PATH}  i = Cast<to=7>(x)  zero = Sub(i, i)  q = Div(i, zero)  f = Cast<to=1>(q)
        s = ReduceSum<keepdims=0>(f)  out = Add(y, s) }}""",
        tmp_path,
    )
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((48, 4), np.float32), rng.integers(0, 3, 48)
    np.savez(tmp_path / "d.npz", x_train=x[:32], y_train=y[:32], x_test=x[32:], y_test=y[32:])
    run = ["--data", tmp_path / "d.npz", "--run", tmp_path / "run", "--epochs", 1, "--batch", 16]
    line = refused_alone(4, "train", model, *run, "--optimizer", optimizer)
    assert "running the model brings the runtime down" in line
    assert not (tmp_path / "run").exists()
