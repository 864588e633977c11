"""Models run in a process of their own: what happens there stays there."""

from __future__ import annotations

import gc
import io
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import onnx
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import parser

from onnx_oto.errors import CrashedError, LimitError, UnsupportedError
from onnx_oto.runtime import worker
from onnx_oto.runtime.comparing import compare
from onnx_oto.runtime.limits import LEAST_MEMORY, MIB, Allowance, Limits, allowance, limited
from onnx_oto.runtime.messages import receive, send
from onnx_oto.runtime.runner import runner, time_runners
from onnx_oto.runtime.sessions import Patience
from onnx_oto.runtime.worker import JobFailed, shared
from tests.contract.builder import build
from tests.runtime.crashing import divides_and_dies

HEALTHY = "g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }"
DIVIDES = "g (int64[N] x, int64[N] d) => (int64[N] y) { y = Div(x, d) }"
FILLS = "g (int64[1] n) => (float[] y) { z = ConstantOfShape(n)  y = ReduceSum<keepdims = 0>(z) }"
WIDENS = "g (int64[1] n) => (float[K] y) { y = ConstantOfShape(n) }"
LOOPS = """g (int64 n) => (float s) <float zero = {0}, bool go = {1}> {
    s = Loop(n, go, zero) <body = b (int64 i, bool c, float a) => (bool d, float t) { d = Identity(c)  t = Add(a, a) }>
}"""
KINDS = [np.float32, np.int64, bool]
X = np.array([[-1.0, 2.0, -3.0, 4.0]], np.float32)


def model(text: str) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {text}')


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@pytest.fixture
def healthy() -> Iterator[None]:
    """After the test, models run as before."""
    yield
    (y,) = runner(model(HEALTHY))({"x": X})
    np.testing.assert_array_equal(y, np.maximum(X, 0))


@divides_and_dies
@pytest.mark.usefixtures("healthy")
def test_a_signal_of_the_runtime_is_an_error_and_the_session_is_opened_again() -> None:
    run = runner(model(DIVIDES))
    with pytest.raises(CrashedError, match="brings the runtime down"):
        run({"x": ints(1, 2), "d": ints(1, 0)})
    np.testing.assert_array_equal(run({"x": ints(7), "d": ints(2)})[0], [3])


@pytest.mark.usefixtures("healthy")
def test_memory_beyond_the_limit_is_an_error_long_before_the_machine_is_full() -> None:
    run = runner(model(FILLS))
    assert run({"n": ints(1000)})[0] == 0
    with (
        limited(Limits(memory=400 * MIB)),
        pytest.raises(LimitError, match=r"more than 0\.4 GB.*--limit-memory"),
    ):
        run({"n": ints(2_000_000_000)})


@pytest.mark.usefixtures("healthy")
def test_a_run_without_end_is_stopped() -> None:
    run = runner(model(LOOPS))
    assert run({"n": np.array(3)})[0] == 0
    begin = time.monotonic()
    with limited(Limits(seconds=0.3)), pytest.raises(LimitError, match=r"longer than 0\.3 s.*--limit-time"):
        run({"n": np.array(10**12)})
    assert time.monotonic() - begin < 20


@pytest.mark.usefixtures("healthy")
def test_waiting_is_not_held_against_a_job_unless_the_user_said_how_long() -> None:
    shared().call(Allowance(LEAST_MEMORY, 0.2), time.sleep, 0.6)
    with pytest.raises(LimitError, match=r"longer than 0\.2 s"):  # it waits for ever
        shared().call(Allowance(LEAST_MEMORY, 0.2), time.sleep, 600)
    with pytest.raises(LimitError, match=r"longer than 0\.2 s"):  # it works
        shared().call(Allowance(LEAST_MEMORY, 0.2), pow, 7, 10**9)
    with pytest.raises(LimitError, match=r"longer than 0\.2 s"):
        shared().call(Allowance(LEAST_MEMORY, 0.2, by_the_clock=True), time.sleep, 600)


def test_the_seconds_of_a_job_begin_when_the_process_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = "import time; time.sleep(1.5); " + worker._BOOT
    monkeypatch.setattr(worker, "_BOOT", slow)
    one = worker.Worker()
    try:
        one.call(Allowance(LEAST_MEMORY, 1.0, by_the_clock=True), time.sleep, 0.1)
    finally:
        one.kill()


def test_a_process_that_is_never_up_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_BOOT", "import time; time.sleep(600); " + worker._BOOT)
    monkeypatch.setattr(worker, "_STARTING", Allowance(LEAST_MEMORY, 0.3, by_the_clock=True))
    with pytest.raises(LimitError, match="is not up after"):
        worker.Worker().call(Allowance(LEAST_MEMORY, 60.0), time.sleep, 0.1)


def test_outputs_too_large_to_compare_are_refused() -> None:
    with (
        limited(Limits(memory=800 * MIB)),
        pytest.raises(UnsupportedError, match=r"outputs take 0\.3 GB, too much"),
    ):
        runner(model(WIDENS))({"n": ints(80_000_000)})


def test_what_the_runtime_says_arrives() -> None:
    with pytest.raises(JobFailed, match="INVALID_ARGUMENT"):
        runner(model(HEALTHY))({"x": X[:, :3]})


@pytest.mark.usefixtures("healthy")
def test_an_interrupted_job_leaves_no_reply_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    run = runner(model(HEALTHY))

    def interrupted(stream: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(worker, "receive", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run({"x": X})
    monkeypatch.undo()
    np.testing.assert_array_equal(run({"x": 2 * X})[0], np.maximum(2 * X, 0))


def test_a_session_that_nobody_holds_is_closed() -> None:
    runner(model(HEALTHY))
    before = shared().held_bytes
    for _ in range(5):
        runner(model(HEALTHY))
    assert shared().held_bytes <= before + len(model(HEALTHY).SerializeToString())


def test_a_worker_that_keeps_memory_without_a_model_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    run, own = runner(model(HEALTHY)), shared()
    monkeypatch.setattr(worker, "MOST_IDLE_MEMORY", 0)
    assert shared() is own
    del run
    gc.collect()
    assert shared() is not own
    assert not own.is_alive


def test_comparing_leaves_no_session_open() -> None:
    """Not until garbage is collected: what failed at some sizes must not hold the comparison."""
    graph = build(
        "g (float[N,T] x) => (float[N,3] y) <float[8,3] w, int64[2] s = {-1, 8}> {"
        " r = Reshape(x, s)  y = MatMul(r, w) }"
    )
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            assert compare(graph, graph).skipped
        runner(graph)
        assert len(shared()._held) <= 3
    finally:
        gc.enable()


def test_timing_counts_at_least_five_rounds_of_every_model() -> None:
    runners = [runner(model(HEALTHY)) for _ in range(2)]
    times = time_runners(runners, {"x": X}, Patience(short=0.0, long=0.0))
    assert [len(its) for its in times] == [5, 5]


def test_the_worker_ends_with_its_parent_even_in_the_middle_of_a_job() -> None:
    script = (
        "import os, threading, numpy as np\n"
        "from tests.runtime.test_worker import LOOPS, ints, model\n"
        "from onnx_oto.runtime.runner import runner\n"
        "from onnx_oto.runtime.worker import shared\n"
        "run = runner(model(LOOPS))\n"
        "print(shared()._process.pid, flush=True)\n"
        "run({'n': np.array(10**12)})\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    time.sleep(0.3)
    assert child.is_running()
    parent.kill()
    parent.communicate()
    child.wait(timeout=20)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_starts_a_worker_of_its_own() -> None:
    own = shared()
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    process = context.Process(
        target=lambda: answers.put((not own.is_alive, runner(model(HEALTHY))({"x": X})[0]))
    )
    process.start()
    other, y = answers.get()
    process.join()
    assert other
    assert own.is_alive
    np.testing.assert_array_equal(y, np.maximum(X, 0))


def test_signals_meant_for_the_parent_do_not_end_the_worker() -> None:
    own = shared()
    runner(model(HEALTHY))
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            os.kill(own._process.pid, getattr(signal, name))
    runner(model(HEALTHY))({"x": X})
    assert shared() is own


def test_allowances_grow_with_weights_inputs_and_nodes_but_not_without_end() -> None:
    small = allowance(weights=0, fed=0)
    assert small.memory == LEAST_MEMORY
    large = allowance(weights=100 * MIB, fed=30 * MIB)
    assert large.memory == LEAST_MEMORY + 400 * MIB + 960 * MIB
    assert large.seconds > 80
    assert allowance(weights=0, fed=0, nodes=100_000).seconds > small.seconds + 60
    assert allowance(weights=10**15, fed=0).memory == psutil.virtual_memory().total / 2
    with limited(Limits(memory=5.0, seconds=7.0)):
        assert allowance(weights=10**15, fed=10**15) == (5.0, 7.0, True)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        arrays.arrays(
            st.sampled_from([np.float32, np.int64, bool]), arrays.array_shapes(min_dims=0, min_side=0)
        )
    )
)
def test_arrays_travel_unchanged(values: list[np.ndarray]) -> None:
    stream = io.BytesIO()
    send(stream, ("text", values, [value.T for value in values]))
    send(stream, 7)
    stream.seek(0)
    text, found, turned = receive(stream)
    assert (text, receive(stream)) == ("text", 7)
    for value, one, other in zip(values, found, turned, strict=True):
        np.testing.assert_array_equal(value, one)
        np.testing.assert_array_equal(value.T, other)
        assert value.dtype == one.dtype
    with pytest.raises(EOFError):
        receive(stream)
