"""Run with `pytest tools/trainable_table`: what is drawn, that every result can be said, and that a run goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest
from onnx import numpy_helper

from onnx_oto.data import open_data
from trainable_table import __main__ as runs
from trainable_table import forks, probe
from trainable_table.__main__ import is_meant
from trainable_table.batch import CannotFeed, draw
from trainable_table.probe import Task
from trainable_table.table import page, summary

TOOL = Path(__file__).parents[1] / "trainable"
CLASSIFIER = """
<ir_version: 8, opset_import: ["": 17]>
g (float[N, 6] x) => (float[N, 4] y) <float[6, 16] w1, float[16] b1, float[16, 4] w2>
{ h = MatMul(x, w1)  a = Add(h, b1)  r = Relu(a)  y = MatMul(r, w2) }
"""
WITHOUT_WEIGHTS = """
<ir_version: 8, opset_import: ["": 17]>
g (float[N, 3] x) => (float[N, 3] y) { y = Softmax(x) }
"""
REFUSED = """
<ir_version: 8, opset_import: ["": 17]>
g (float[N, 4, 4] x) => (float[N] y) <float[4, 6] w1, float[6, 4] w2>
{ h = MatMul(x, w1)  r = Relu(h)  q = MatMul(r, w2)  y = Det(q) }
"""
FIXED = """
<ir_version: 8, opset_import: ["": 17]>
g (float[2, 6, 5] x) => (int64[2, 5] k, float[2, 6, 5] y) { y = Sigmoid(x)  k = ArgMax<axis = 1, keepdims = 0>(x) }
"""
IDS = """
<ir_version: 8, opset_import: ["": 17]>
g (int64[L, batch] ids, int64[L, batch] mask, float scale) => (float[L, batch, 3] y) <float[7, 3] table>
{ e = Gather(table, ids)  f = Cast<to = 1>(mask)  a = Constant<value_ints = [2]>()  g = Unsqueeze(f, a)
  m = Mul(e, g)  y = Mul(m, scale) }
"""
POSITIVE = """
<ir_version: 8, opset_import: ["": 17]>
g (bool[N, 3] x) => (float[N, 3] y) { f = Cast<to = 1>(x)  y = Log(f) }
"""


def model(text: str, seed: int = 0) -> onnx.ModelProto:
    """Return the parsed model, every tensor that is only declared being a weight of normal numbers."""
    parsed = onnx.parser.parse_model(text)
    rng = np.random.default_rng(seed)
    for value in parsed.graph.value_info:
        shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        weight = rng.standard_normal(shape).astype(np.float32)
        parsed.graph.initializer.append(numpy_helper.from_array(weight, value.name))
    del parsed.graph.value_info[:]
    return parsed


def test_scores_get_labels_and_the_batch_is_read_by_the_product(tmp_path: Path) -> None:
    batch = draw(model(CLASSIFIER), 5, 0)
    assert (batch.loss, batch.output, len(batch)) == ("cross-entropy", None, 5)
    batch.save(str(tmp_path / "b.npz"))
    train = open_data(tmp_path / "b.npz").train
    assert (train.samples, train.inputs[""].shape) == (5, (6,))
    with np.load(tmp_path / "b.npz") as arrays:
        assert arrays["y_train"].max() < 4


def test_a_fixed_batch_is_fed_often_enough_and_the_first_float_output_is_read() -> None:
    batch = draw(model(FIXED), 5, 0)
    assert batch.inputs["x"].shape == (6, 6, 5)
    assert len(np.unique(batch.inputs["x"])) == 180
    assert (batch.loss, batch.output) == ("mse", "y")
    assert batch.target.shape == (6, 6, 5)
    assert batch.target.min() >= 0
    assert batch.target.max() <= 1


def test_samples_come_first_whatever_their_axis_and_ids_stay_in_the_table() -> None:
    batch = draw(model(IDS), 5, 0)
    assert {name: array.shape for name, array in batch.inputs.items()} == {
        "ids": (5, 16),
        "mask": (5, 16),
        "scale": (5,),
    }
    assert batch.inputs["ids"].max() < 7
    assert batch.inputs["mask"].min() == 1
    assert batch.target.shape == (5, 16, 3)


def test_inputs_that_give_no_finite_numbers_are_not_taken() -> None:
    assert draw(model(POSITIVE), 5, 0).inputs["x"].all()
    with pytest.raises(CannotFeed, match="no random inputs fit"):
        draw(model(POSITIVE.replace("Log(f)", "Log(n)").replace("y =", "n = Neg(f)  y =")), 5, 0)


def test_the_type_of_most_weights_is_told() -> None:
    half = model(CLASSIFIER)
    for tensor in half.graph.initializer:
        tensor.CopyFrom(
            numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name)
        )
    assert [probe.kind_of(m) for m in (model(CLASSIFIER), half, model(WITHOUT_WEIGHTS))] == [
        "float32",
        "float16",
        "none",
    ]


@pytest.mark.parametrize(
    ("losses", "verified", "result"),
    [
        ([2.0, 1.0, 1.0, 1.0, 1.0], True, "trained"),
        ([1.0, 0.5, 0.5, 2.0, 2.0], True, "not lowered"),
        ([2.0, 1.0, 1.0, 1.0, 1.0], False, "wrong"),
    ],
)
def test_every_end_of_a_run_is_judged(
    tmp_path: Path, losses: list[float], verified: bool, result: str
) -> None:
    onnx.save(model(CLASSIFIER), tmp_path / "compact.onnx")
    told = {"params": {"before": 4, "after": 3}, "verify": {"passed": verified}}
    assert probe._judged(told, losses, tmp_path)["result"] == result


def test_a_result_that_would_train_on_is_told() -> None:
    drop = """
    <ir_version: 8, opset_import: ["": 17]>
    g (float[N, 4] x) => (float[N, 4] y) <float half = {0.5}, bool mode = {MODE}> { y = Dropout(x, half, mode) }
    """
    norm = """
    <ir_version: 8, opset_import: ["": 17]>
    g (float[N, 2] x) => (float[N, 2] y) <float[2] s = {1, 1}, float[2] b = {0, 0}, float[2] v = {VARIANCE}>
    { y, m2, v2 = BatchNormalization<training_mode = MODE>(x, s, b, b, v) }
    """
    quiet = norm.replace("y, m2, v2 =", "y =").replace("MODE", "0")
    assert probe.in_training(model(drop.replace("MODE", "0"))) == ""
    assert "Dropout" in probe.in_training(model(drop.replace("MODE", "1")))
    assert "in training mode" in probe.in_training(
        model(norm.replace("MODE", "1").replace("VARIANCE", "1, 1"))
    )
    assert probe.in_training(model(quiet.replace("VARIANCE", "1, 0"))) == ""
    assert "is zero" in probe.in_training(model(quiet.replace("VARIANCE", "0, 0")))


def test_a_reason_names_no_place_of_this_machine() -> None:
    task = Task("/models/set/m.onnx", "/scratch/t-1", 5, 24, 0)
    told = "'/models/set/m.onnx': the weights are in '/scratch/t-1/run/trained.onnx'"
    assert probe.placeless(told, task) == "'m.onnx': the weights are in 'run/trained.onnx'"


def tool(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(TOOL), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHON": sys.executable, "PATH": "/usr/bin:/bin"},
    )


def test_a_run_tells_every_model_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    folder, log, output = tmp_path / "set", tmp_path / "rows.jsonl", tmp_path / "page.md"
    folder.mkdir()
    for name, text in (("good", CLASSIFIER), ("none", WITHOUT_WEIGHTS), ("refused", REFUSED)):
        onnx.save(model(text), folder / f"{name}.onnx")
    arguments = (
        "--source",
        str(folder),
        "--log",
        str(log),
        "-o",
        str(output),
        "--steps",
        "12",
        "--backend",
        "plain",
    )
    done = tool(*arguments)
    assert done.returncode == 0, done.stderr
    rows = {row["model"]: row for row in map(json.loads, log.read_text().splitlines())}
    assert {name: row["result"] for name, row in rows.items()} == {
        "set/good": "trained",
        "set/none": "nothing",
        "set/refused": "refused",
    }
    assert rows["set/good"]["last"] < rows["set/good"]["first"]
    assert rows["set/good"]["backend"] == "plain"
    assert "onnxruntime" in rows["set/good"]["runtime"]
    assert "Det" in rows["set/refused"]["reason"]
    assert "1 of 2 models (50.0%) train" in output.read_text()
    again = tool(*arguments, "--timeout", "0.1", "--redo", "refused")
    assert "[1/1] set/refused" in again.stderr
    assert "timeout" in again.stderr


def test_a_command_in_a_fork_says_and_returns_what_a_process_of_its_own_does(tmp_path: Path) -> None:
    arguments = ("inspect", str(tmp_path / "none.onnx"), "--json")
    alone = subprocess.run(
        [sys.executable, "-m", "onnx_oto", *arguments], capture_output=True, text=True, check=False
    )
    forked = forks.command(arguments, tmp_path / "said")
    assert (forked.returncode, forked.stdout, forked.stderr) == (8, alone.stdout, alone.stderr)


def test_a_probe_that_dies_is_a_crash_and_ends_with_all_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "probe", _die)
    task = Task("m.onnx", str(tmp_path), 5, 24, 0)
    assert runs._run(task, 60) == {"stage": "train", "result": "crash", "reason": "in train: exit -9"}
    monkeypatch.setattr(runs, "probe", _linger)
    assert runs._run(task, 8)["result"] == "timeout"
    started = int((tmp_path / "out").read_text())
    for _ in range(50):
        if not psutil.pid_exists(started) or psutil.Process(started).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.1)
    raise AssertionError("what the probe started goes on")


def _die(task: Task) -> None:
    probe.say(stage="train")
    os.kill(os.getpid(), signal.SIGKILL)


def _linger(task: Task) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
    print(child.pid, flush=True)
    child.wait()


def test_models_are_named_with_or_without_their_folder() -> None:
    patterns = ("*", "unet*", "extra/*", "*/unet", "extra", "tcn")
    assert [is_meant("extra/unet", pattern) for pattern in patterns] == [True, True, True, True, False, False]


def test_a_page_groups_reasons_by_what_they_have_in_common() -> None:
    rows = [
        {"model": f"s/{n}", "result": "refused", "reason": f"node '{n}' (LSTM): no gradient", "seconds": 1}
        for n in "abc"
    ]
    rows.append({"model": "s/d", "result": "trained", "seconds": 1})
    rows.append({"model": "s/e", "result": "refused", "kind": "float16", "reason": "float16", "seconds": 1})
    text = page(rows, "a test")
    assert summary(rows) == "1 of 4 models (25.0%) train; the goal is 97%"
    assert "| 3 | refused | node 'a' (LSTM): no gradient | s/a, s/b, s/c |" in text


def test_a_page_shows_another_backend_beside() -> None:
    rows = [{"model": f"s/{n}", "result": "trained", "last": 0.5, "seconds": 1} for n in "abc"]
    rows.append({"model": "s/d", "result": "refused", "reason": "no", "seconds": 1})
    made = {"backend": "plain", "python": "3.13.0", "runtime": "onnxruntime 1.32.0"}
    beside = {f"s/{n}": {"model": f"s/{n}", "result": "trained", "last": 0.25, **made} for n in "ad"}
    beside["s/b"] = {"model": "s/b", "result": "refused", "reason": "its shape", **made}
    text = page(rows, "a test", beside, "Not all.")
    words = " ".join(text.split())
    assert "Python 3.13.0 with onnxruntime 1.32.0, for 2 of the 3 models that train: **1 of 2 train" in words
    assert "train there, too.** Not run: s 1 of 3." in words
    assert "There alone train: s/d." in text
    assert "| 1 | refused | its shape | s/b |" in text
    assert "| trained | 0.25 | trained |" in text
    assert "\n\nNot all.\n\n" in text
    assert "other backend" not in page(rows, "a test")
    beside["s/c"] = {"model": "s/c", "result": "trained", **made}
    assert "**2 of 3 train there, too.** All have been run." in " ".join(page(rows, "a test", beside).split())
