"""Run with `pytest tools/sweep_table`: the sweep as a command, and that it can say every result."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from sweep_table import pair, probe
from sweep_table.stock import Stock
from sweep_table.table import summary, table
from sweep_table.task import Task

SWEEP = Path(__file__).parents[1] / "sweep"
PRUNABLE = """
<ir_version: 8, opset_import: ["": 17]>
g (float[N, 3, 8, 8] x) => (float[N, 4, 8, 8] y)
<float[6, 3, 3, 3] w1, float[6] b1, float[4, 6, 1, 1] w2>
{ h = Conv<pads = [1, 1, 1, 1]>(x, w1, b1)  r = Relu(h)  y = Conv(r, w2) }
"""
WITHOUT_WEIGHTS = """
<ir_version: 8, opset_import: ["": 17]>
g (float[N, 3] x) => (float[N, 3] y) { y = Softmax(x) }
"""


OPEN = """
<ir_version: 8, opset_import: ["": 17]>
g (float[N, T, 6] x) => (float[N, T, 5] y)
<float[6, 4] w1, float[4, 5] w2, int64[3] back = {SHAPE}, int64[2] flat = {-1, 4}>
{ a = MatMul(x, w1)  b = Reshape(a, flat)  c = Relu(b)  d = Reshape(c, back)  y = MatMul(d, w2) }
"""
"""Runs at every length, or at the length that SHAPE fixes."""


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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a model to prune, one with nothing to prune, and a file that is no model."""
    models = tmp_path / "models"
    models.mkdir()
    onnx.save(model(PRUNABLE), models / "a.onnx")
    onnx.save(model(WITHOUT_WEIGHTS), models / "b.onnx")
    (models / "c.onnx").write_bytes(b"no model")
    return models


def sweep(folder: Path, *more: str) -> tuple[subprocess.CompletedProcess[str], Path]:
    """Run the command; return what it said, and the path of its table."""
    output = folder.parent / "table.md"
    command = [str(SWEEP), str(folder), "-o", str(output), "--latency", "0", *more]
    return subprocess.run(command, capture_output=True, text=True, check=False), output


def test_one_row_per_model_and_resumed(folder: Path) -> None:
    done, output = sweep(folder)
    assert done.stdout.startswith("1 exact, 2 refused, 0 wrong, 0 crashed")
    assert done.returncode == 0
    rows = [json.loads(line) for line in output.with_suffix(".jsonl").read_text().splitlines()]
    exact = next(row for row in rows if row["model"] == "a")
    assert exact["removed_params"] == pytest.approx(1 - (3 * 28 + 3 * 4) / (6 * 28 + 6 * 4), abs=1e-4)
    assert "| c | " in output.read_text()
    again, _ = sweep(folder)
    assert again.stderr == ""
    assert again.stdout == done.stdout


def test_a_model_that_takes_too_long_is_a_crash(folder: Path) -> None:
    done, output = sweep(folder, "--only", "a", "--timeout", "0.01")
    assert done.returncode == 1
    assert "0 exact, 0 refused, 0 wrong, 1 crashed" in done.stdout
    assert "not finished in 0.01 s" in output.read_text()


@pytest.mark.parametrize(("seed", "result"), [(0, "exact"), (1, "wrong")])
def test_different_models_are_wrong(seed: int, result: str, capsys: pytest.CaptureFixture[str]) -> None:
    probe._judge_here(model(PRUNABLE), model(PRUNABLE, seed), Task("", latency=0))
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["result"] == result


@pytest.mark.parametrize(
    ("change", "passed"),
    [(0.0, True), (1e-5, True), (1e-3, False), (float("nan"), False), (float("inf"), False)],
)
def test_pair_tells_how_far_outputs_differ(change: float, passed: bool) -> None:
    a = np.linspace(-1, 1, 5, dtype=np.float32)
    b = a.copy()
    b[2] += np.float32(change)
    assert pair.differ([a], [b])[0] is passed


def test_pair_reads_maps_of_probabilities() -> None:
    full = [[{0: 0.25, 1: 0.75}, {0: 0.5, 1: 0.5}]]
    assert pair.differ(full, [[{0: 0.25, 1: 0.75 + 1e-7}, {0: 0.5, 1: 0.5}]])[0]
    assert pair.differ(full, [[{0: 0.25, 1: 0.74}, {0: 0.5, 1: 0.5}]])[:2] == (
        False,
        pytest.approx(0.01, abs=1e-6),
    )


def test_pair_compares_files_in_a_process_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(tmp_path / f"{seed}.onnx") for seed in (0, 1)]
    for seed, path in enumerate(paths):
        onnx.save(model(PRUNABLE, seed), path)
    pair.main(paths[1], paths[0], paths[0], "0", "0")
    same = json.loads(capsys.readouterr().out)
    assert (same["passed"], same["max_rel"]) == (True, 0.0)
    assert same["effect"] > 0.1
    pair.main(paths[0], paths[0], paths[1], "0", "0")
    assert json.loads(capsys.readouterr().out)["passed"] is False


@pytest.fixture
def any_length(tmp_path: Path) -> tuple[Path, Path]:
    """Return a model for two sequences of any length, with feeds of lengths 16, 5 and 9, and the feeds' file."""
    path = tmp_path / "m.onnx"
    onnx.save(model(OPEN.replace("SHAPE", "2, -1, 4")), path)
    rng = np.random.default_rng(0)
    shapes = ((2, 16, 6), (2, 5, 6), (2, 9, 6))
    arrays = {f"{i}|x": rng.standard_normal(s).astype(np.float32) for i, s in enumerate(shapes)}
    np.savez(path.with_suffix(".npz"), **arrays)
    return path, path.with_suffix(".npz")


def test_feeds_beside_a_model_find_what_the_guessed_size_hides(
    any_length: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, feeds = any_length
    fixed = tmp_path / "fixed.onnx"
    onnx.save(model(OPEN.replace("SHAPE", "2, 16, 4")), fixed)
    task = Task(str(path), stock=sys.executable, latency=0)
    zeroed, small = onnx.load(path), onnx.load(fixed)

    def said() -> dict[str, object]:
        probe._judge_in_stock(zeroed, zeroed, small, task)
        return {k: v for line in capsys.readouterr().out.splitlines() for k, v in json.loads(line).items()}

    facts = said()
    assert facts["result"] == "wrong"
    assert "the compact model does not run" in str(facts["reason"])
    feeds.unlink()
    assert said()["result"] == "exact"


def test_feeds_that_the_full_model_does_not_take_are_counted(
    any_length: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fixed = str(tmp_path / "fixed.onnx")
    onnx.save(model(OPEN.replace("SHAPE", "2, 16, 4")), fixed)
    pair.main(fixed, fixed, fixed, "0", "0", str(any_length[1]))
    facts = json.loads(capsys.readouterr().out)
    assert (facts["passed"], facts["feeds"], facts["skipped"]) == (True, 1, 2)


def test_given_feeds_serve_where_no_guess_runs(
    any_length: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = str(tmp_path / "odd.onnx")
    onnx.save(model(OPEN.replace("SHAPE", "2, 5, 4")), odd)
    pair.main(odd, odd, odd, "0", "0", str(any_length[1]))
    assert json.loads(capsys.readouterr().out)["feeds"] == 1
    with pytest.raises(Exception, match="Reshape"):
        pair.main(odd, odd, odd, "0", "0")


def test_only_named_feeds_of_the_models_inputs_are_read(any_length: tuple[Path, Path]) -> None:
    path, feeds = any_length
    x = np.zeros((2, 3, 6), np.float32)
    np.savez(feeds, **{"1|x": x, "0|x": x + 1, "0|z": x, "x": x})
    found = pair.read_feeds(str(feeds), pair.session(str(path)))
    assert [(list(feed), float(feed["x"].max())) for feed in found] == [(["x"], 1.0), (["x"], 0.0)]


def test_the_sweep_hands_over_the_feeds(any_length: tuple[Path, Path]) -> None:
    done, output = sweep(any_length[0], "--stock", sys.executable)
    assert done.stdout.startswith("1 exact")
    assert output.read_text().endswith("| exact (3 feeds) |\n")


def test_a_compact_file_that_does_not_load_is_wrong(
    any_length: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    pair.main(str(any_length[0]), str(any_length[0]), str(broken), "0", "1")
    facts = json.loads(capsys.readouterr().out)
    assert facts["passed"] is False
    assert facts["trouble"]


def test_summary_counts_every_result() -> None:
    rows = [{"result": r} for r in ("exact", "exact", "wrong", "crash", "unverified")]
    assert summary(rows) == "2 exact, 0 refused, 1 wrong, 1 crashed, 1 unverified"


FLOOR = """
<ir_version: 8, opset_import: ["": 17]>
g (float[N, 3] x) => (float[N, 3] y) <float zero = {0.0}, float[1] c = {VALUE}>
{ z = Mul(x, zero)  s = Add(z, c)  y = Floor(s) }
"""


@pytest.mark.parametrize(("value", "passed"), [("0.9999999", True), ("0.9", False)])
def test_models_are_compared_in_front_of_operators_that_jump(
    value: str, passed: bool, tmp_path: Path
) -> None:
    """1 and the number below it are alike, what Floor makes of them is not; 0.9 is not alike."""
    one, other = (model(FLOOR.replace("VALUE", text)) for text in ("1.0", value))
    task = Task(str(tmp_path / "m.onnx"), stock=sys.executable, latency=0)
    facts = Stock(task, tmp_path, one, one, other).compare()
    assert facts["passed"] is passed
    assert facts.get("jumps", False) is passed


def test_sizes_that_are_not_guessed_are_those_of_the_package(tmp_path: Path) -> None:
    wide = model(
        OPEN.replace("SHAPE", "2, -1, 4").replace("[N, T, 6] x", "[N, T, C] x").replace("6, 4]", "301, 4]")
    )
    task = Task(str(tmp_path / "m.onnx"), stock=sys.executable, latency=0)
    facts = Stock(task, tmp_path, wide, wide, wide).compare()
    assert facts["passed"]
    assert facts["feeds"] >= 1


def test_strings_are_fed(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["": 17]> g (string[N] x) => (string[N] y) { y = Identity(x) }"""
    onnx.save(model(text), tmp_path / "m.onnx")
    run = pair.session(str(tmp_path / "m.onnx"))
    feed, made = pair.runnable(run, np.random.default_rng(0), 2)
    assert set(feed["x"].tolist()) <= {"a", "b"}
    assert pair.differ([feed["x"]], made)[0]


def test_a_column_tells_of_openvino_where_it_was_asked() -> None:
    row = {"model": "a", "result": "exact"}
    assert "OpenVINO" not in table([row], "t")
    lines = table([{**row, "openvino": "1.0e-07"}, row], "t").splitlines()
    assert lines[-4].endswith("| OpenVINO | result |")
    assert lines[-2].endswith("| 1.0e-07 | exact |")
    assert lines[-1].endswith("|  | exact |")
