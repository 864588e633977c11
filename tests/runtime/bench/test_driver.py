"""Models measured by an interpreter that is named: what comes back, and what can go wrong."""

from __future__ import annotations

import os
import sys
import threading
import time
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest
from onnx import parser

from onnx_oto.errors import CrashedError, LimitError, RuntimeMissingError, UnsupportedError, UsageError
from onnx_oto.runtime.bench import Bench, driver
from onnx_oto.runtime.installed import installed
from onnx_oto.runtime.limits import Limits, limited
from tests.runtime.crashing import divides_and_dies

pytest.importorskip("onnxruntime")

TWO_NODES = "g (float[N,4] x) => (float[N,4] y) { [first] z = Relu(x)  [second] y = Softmax(z) }"
ONE_NODE = "g (float[N,4] x) => (float[N,4] y) { [only] y = Erf(x) }"
UNKNOWN = "g (float[N,4] x) => (float[N,4] y) { y = nobody.knows.Nothing(x) }"
DIVIDES = "g (int64[N] x, int64[N] d) => (int64[N] y) { y = Div(x, d) }"
LOOPS = """g (int64 n) => (float s) <float zero = {0}, bool go = {1}> {
    s = Loop(n, go, zero) <body = b (int64 i, bool c, float a) => (bool d, float t) { d = Identity(c)  t = Add(a, a) }>
}"""
X = {"x": np.array([[-1.0, 2.0, -3.0, 4.0]], np.float32)}
posix = pytest.mark.skipif(os.name == "nt", reason="an interpreter is a shell script here")


def model(text: str) -> onnx.ModelProto:
    opsets = '["": 17, "nobody.knows": 1]' if "nobody" in text else '["": 17]'
    return parser.parse_model(f"<ir_version: 8, opset_import: {opsets}> {text}")


def interpreter(folder: Path, script: str) -> Path:
    """Return a file that does as `script` says when it is run as a Python."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def processes() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


def test_what_a_model_takes_of_memory_is_weighed_in_a_process_of_its_own() -> None:
    before = processes()
    with Bench() as bench:
        found = bench.weigh(model(TWO_NODES), X)
        assert found.provider == "CPUExecutionProvider"
        if found.memory is not None:
            assert found.peak is not None
            assert 0 <= found.memory <= found.peak
        with pytest.raises(UnsupportedError, match="does not run the model"):
            bench.weigh(model(UNKNOWN), X)
    assert processes() == before


def test_the_host_is_told() -> None:
    with Bench() as bench, Bench(sys.executable, "onnxruntime") as other:
        host = bench.host
        assert (host.runtime, host.engine) == ("ONNX Runtime", "onnxruntime")
        assert host.version == next(iter(installed().values()))
        assert host.processor
        assert len(host.features) == 12
        assert 1 <= host.cores <= (os.cpu_count() or 1)
        assert host.fingerprint == other.host.fingerprint


def test_models_are_timed_equally_often_and_their_nodes_in_the_order_they_run() -> None:
    with Bench(threads=1) as bench:
        feed = X | {"unused": np.zeros(3, np.float32)}
        two, one = bench.measure([model(TWO_NODES), model(ONE_NODE)], feed, seconds=0.01, nodes=True, most=9)
    assert 6 <= two.timing.runs == one.timing.runs <= 9
    for each in (two, one):
        assert 0 < min(each.timing.times) <= each.timing.low <= each.timing.median <= each.timing.high
        assert all(node.ms >= 0 for node in each.nodes)
        assert 0 <= each.others <= 1
    assert [(node.name, node.op) for node in two.nodes] == [("first", "Relu"), ("second", "Softmax")]
    assert [(node.name, node.op) for node in one.nodes] == [("only", "Erf")]


def test_nodes_are_timed_only_when_they_are_asked_for_and_no_model_takes_no_time() -> None:
    with Bench() as bench:
        (one,) = bench.measure([model(ONE_NODE)], X, seconds=0.0, least=3, most=3)
        assert one.nodes == ()
        assert one.timing.runs == 3
        assert bench.measure([], X, seconds=9.0) == []


def test_models_of_newer_ir_versions_and_other_names_of_inputs_are_served() -> None:
    newer = model(ONE_NODE.replace("x", "file"))
    newer.ir_version = 13
    with Bench() as bench:
        assert bench.measure([newer], {"file": X["x"]}, seconds=0.0)


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = processes()
    with Bench() as bench:
        started = processes() - before
        assert len(started) == 1
        bench.measure([model(ONE_NODE)], X, seconds=0.0, nodes=True)
        assert not list(tmp_path.iterdir())
    assert not processes() & started


def test_it_ends_with_its_parent_even_in_the_middle_of_a_run() -> None:
    with Bench() as bench:
        pipe = bench._alive()._process.stdin
        closing = threading.Timer(0.5, pipe.close)  # as the system does when the parent is killed
        closing.start()
        with pytest.raises(CrashedError, match="exit code 0"):
            bench.measure([model(LOOPS)], {"n": np.array(10**12)}, seconds=0.0)


@pytest.mark.parametrize(("busy", "share"), [([5.0, 1e9], 1.0), ([5.0, 5.0], 0.0)])
def test_the_share_of_other_work_is_told(
    busy: list[float], share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "_busy_seconds", lambda: busy.pop(0))
    with Bench() as bench:
        (one,) = bench.measure([model(ONE_NODE)], X, seconds=0.0)
    assert one.others == share


def test_weights_may_lie_beside_a_large_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_EXTERNAL_ABOVE", 0)
    large = model("g (float[N,400] x) => (float[N,4] y) { y = MatMul(x, w) }")
    large.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((400, 4), np.float32), "w"))
    with Bench() as bench:
        assert bench.measure([large], {"x": np.ones((1, 400), np.float32)}, seconds=0.0)


def test_texts_are_fed() -> None:
    texts = model("g (string[N] x) => (string[N] y) { y = Identity(x) }")
    with Bench() as bench:
        assert bench.measure([texts], {"x": np.array(["a", "longer"], object)}, seconds=0.0)


@pytest.mark.parametrize(
    ("text", "feed", "said"),
    [
        (UNKNOWN, X, "nobody.knows"),
        (ONE_NODE, {"other": X["x"]}, "[Ii]nput.*x"),
        (ONE_NODE, {"x": X["x"].astype(np.float64)}, "[Dd]ata type"),
    ],
)
def test_a_refusal_is_one_line_and_the_next_model_is_served(text: str, feed: dict, said: str) -> None:
    with Bench() as bench:
        with pytest.raises(UnsupportedError, match=f"does not run the model: .*{said}") as caught:
            bench.measure([model(text)], feed, seconds=0.0)
        assert "\n" not in str(caught.value)
        with pytest.raises(UnsupportedError, match="does not run model 2 of 2"):
            bench.measure([model(ONE_NODE), model(UNKNOWN)], X, seconds=0.0)
        assert bench.measure([model(ONE_NODE)], X, seconds=0.0)


def test_what_takes_too_long_is_stopped_and_the_next_model_is_served() -> None:
    with Bench() as bench:
        begin = time.monotonic()
        with (
            limited(Limits(seconds=0.05)),
            pytest.raises(LimitError, match=r"longer than 0\.8 s.*--limit-time"),
        ):
            bench.measure([model(LOOPS)], {"n": np.array(10**12)}, seconds=0.0)
        assert time.monotonic() - begin < 30
        assert bench.measure([model(ONE_NODE)], X, seconds=0.0)


@divides_and_dies
def test_a_crash_is_an_error_and_the_next_model_is_served() -> None:
    with Bench() as bench:
        with pytest.raises(CrashedError, match=r"brings the runtime of '.*' down \("):
            bench.measure([model(DIVIDES)], {"x": np.array([1, 2]), "d": np.array([1, 0])}, seconds=0.0)
        assert bench.measure([model(ONE_NODE)], X, seconds=0.0)


def test_an_engine_that_is_unknown_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="'tflite' is no engine: choose auto, onnxruntime or openvino"):
        Bench(engine="tflite")


def test_an_interpreter_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RuntimeMissingError, match=r"no_python'.*cannot be started \(.*give the path"):
        Bench(tmp_path / "no_python").__enter__()


@posix
@pytest.mark.parametrize(
    ("script", "did"),
    [
        ("exit 3", "ended with exit code 3"),
        ("echo hello", "ended with exit code 0"),
        ("kill -9 $$", "ended with SIGKILL"),
        ("exec sleep 60", "did not answer for 1 s"),
        ("exec cat", "did not answer for 1 s"),
    ],
)
def test_what_is_no_python_is_told(
    tmp_path: Path, script: str, did: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "START_SECONDS", 1.0)
    before = processes()
    with pytest.raises(RuntimeMissingError, match=f"does not answer as Python 3.9 or newer does: it {did}"):
        Bench(interpreter(tmp_path, script)).__enter__()
    assert processes() <= before


@posix
def test_a_python_that_prints_when_it_starts_is_one(tmp_path: Path) -> None:
    script = f"echo Welcome; echo '{{}}'; exec '{sys.executable}' \"$@\""
    with Bench(interpreter(tmp_path, script)) as bench:
        assert bench.measure([model(ONE_NODE)], X, seconds=0.0)


@posix
@pytest.mark.parametrize(
    ("module", "engine", "said"),
    [
        (None, "auto", "has no numpy: run `.*python -m pip install numpy`"),
        ("", "auto", "has no onnxruntime: run `.*python -m pip install onnxruntime`"),
        ("", "openvino", "has no openvino: run `.*python -m pip install openvino`"),
        (
            "import gone_with_it",
            "auto",
            "does not load .*gone_with_it.*--force-reinstall --no-deps onnxruntime`",
        ),
        ("raise OSError('libx.so\\nis gone')", "auto", "does not load .libx.so is gone.*--force-reinstall"),
    ],
)
def test_a_runtime_that_is_missing_or_broken_comes_with_the_command_that_mends_it(
    tmp_path: Path, module: str | None, engine: str, said: str
) -> None:
    packages = tmp_path / "packages"
    packages.mkdir()
    if module is not None:
        (packages / "numpy.py").touch()
    if module:
        (packages / "onnxruntime.py").write_text(module, encoding="utf-8")
    bare = f"PYTHONPATH='{packages}' exec '{sys.executable}' -S \"$@\""
    with pytest.raises(RuntimeMissingError, match=said):
        Bench(interpreter(tmp_path, bare), engine).__enter__()


def test_an_engine_that_is_not_installed_here_is_named() -> None:
    if any(name.lower() == "openvino" for name in metadata.packages_distributions()):
        pytest.skip("it is installed")
    with pytest.raises(RuntimeMissingError, match="pip install openvino"):
        Bench(engine="openvino").__enter__()
