"""Budgets of latency: by a table that fits, on the runtime that the table is of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnx_oto
from onnx_oto.errors import DataError, StorageError, UsageError
from onnx_oto.runtime.timing import Latencies
from tests.contract.builder import build

TEXT = """g (float[N,16,24,24] x) => (float[N,8,24,24] y)
<float[64,16,3,3] w0, float[64] b0, float[64,64,3,3] w1, float[8,64,1,1] w2>
{ a = Conv<pads=[1,1,1,1]>(x, w0, b0) b = Relu(a) c = Conv<pads=[1,1,1,1]>(b, w1) d = Relu(c) y = Conv(d, w2) }"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model, m.onnx, and its table, t.json."""
    folder = tmp_path_factory.mktemp("table")
    onnx.save(build(TEXT), folder / "m.onnx")
    onnx_oto.bench(folder / "m.onnx", table=folder / "t.json", threads=1, seconds=0.1)
    return folder


def test_the_same_table_gives_the_same_model(made: Path, tmp_path: Path) -> None:
    results = [
        onnx_oto.prune(made / "m.onnx", tmp_path / f"{i}.onnx", latency=0.6, table=made / "t.json")
        for i in (0, 1)
    ]
    first, second = ((tmp_path / f"{i}.onnx").read_bytes() for i in (0, 1))
    assert first == second
    assert results[0].plan is not None
    (budget,) = results[0].plan.budgets
    assert budget.cost(results[0].plan.choice.drop) <= budget.most
    assert budget.full == json.loads((made / "t.json").read_text())["measured_ms"]
    assert isinstance(results[0].summary.latency, Latencies)
    assert results[0].summary.latency.threads == 1
    assert results[0].summary.removed > 0


def test_a_table_that_is_not_there_is_made(made: Path, tmp_path: Path) -> None:
    said: list[str] = []
    table = tmp_path / "new.json"
    onnx_oto.prune(made / "m.onnx", tmp_path / "c.onnx", latency=0.7, table=table, threads=1, say=said.append)
    assert any(str(table) in line for line in said)
    assert json.loads(table.read_text())["threads"] == 1


def test_a_table_that_cannot_be_written_is_refused_before_it_is_measured(made: Path, tmp_path: Path) -> None:
    said: list[str] = []
    missing = tmp_path / "missing" / "t.json"
    with pytest.raises(StorageError, match=r"cannot write '.*t\.json'"):
        onnx_oto.prune(made / "m.onnx", tmp_path / "c.onnx", latency=0.7, table=missing, say=said.append)
    with pytest.raises(StorageError, match=r"cannot write '.*t\.json'"):
        onnx_oto.bench(made / "m.onnx", table=missing, say=said.append)
    assert (said, list(tmp_path.iterdir())) == ([], [])


def test_threads_are_those_that_were_asked_for(made: Path, tmp_path: Path) -> None:
    found = onnx_oto.prune(made / "m.onnx", tmp_path / "c.onnx", macs=0.5, threads=1)
    assert isinstance(found.summary.latency, Latencies)
    assert found.summary.latency.threads == 1
    with pytest.raises(UsageError, match=r"'.*t\.json' was measured with 1 threads, not with --threads 3"):
        onnx_oto.prune(made / "m.onnx", tmp_path / "d.onnx", latency=0.7, table=made / "t.json", threads=3)
    onnx_oto.prune(made / "m.onnx", tmp_path / "d.onnx", latency=0.7, table=made / "t.json", threads=1)


def test_a_table_of_nodes_that_are_not_there_is_damaged(made: Path, tmp_path: Path) -> None:
    told = json.loads((made / "t.json").read_text())
    told["operators"][0]["nodes"] = ["nobody"]
    (tmp_path / "t.json").write_text(json.dumps(told))
    with pytest.raises(UsageError, match=r"is a damaged latency table: 'm\.onnx' has no node 'nobody'"):
        onnx_oto.prune(made / "m.onnx", tmp_path / "c.onnx", latency=0.7, table=tmp_path / "t.json")


def test_the_curve_estimates_by_a_table(made: Path) -> None:
    found = onnx_oto.inspect(made / "m.onnx", curve=True, table=made / "t.json").curve
    assert found is not None
    times = [point.milliseconds for point in found]
    assert all(each is not None for each in times)
    assert times[0][0] == times[0][1] > times[5][1]  # type: ignore[index]


def test_a_table_of_another_model_is_refused(made: Path, tmp_path: Path) -> None:
    onnx.save(build(TEXT.replace("[8,64", "[9,64").replace("N,8", "N,9")), tmp_path / "other.onnx")
    for verb in (
        lambda: onnx_oto.prune(
            tmp_path / "other.onnx", tmp_path / "c.onnx", latency=0.5, table=made / "t.json"
        ),
        lambda: onnx_oto.inspect(tmp_path / "other.onnx", curve=True, table=made / "t.json"),
    ):
        with pytest.raises(
            UsageError, match=r"is a table of another model than 'other\.onnx': make one with"
        ):
            verb()
    assert not (tmp_path / "c.onnx").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"version": "9.9"}, "is a table of another runtime: it was measured in ONNX Runtime 9.9 on"),
        ({"cores": 512}, "is a table of another runtime: .* 512 cores"),
    ],
)
def test_a_table_of_another_runtime_is_refused(
    change: dict[str, object], says: str, made: Path, tmp_path: Path
) -> None:
    told = json.loads((made / "t.json").read_text())
    told["host"] |= change
    (tmp_path / "t.json").write_text(json.dumps(told))
    with pytest.raises(UsageError, match=says):
        onnx_oto.prune(made / "m.onnx", tmp_path / "c.onnx", latency=0.5, table=tmp_path / "t.json")


def test_the_interpreter_that_a_table_names_is_never_run(made: Path, tmp_path: Path) -> None:
    """A table is a file like any other: whoever wrote it must not choose which program runs here."""
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path / 'sprung'}\n")
    trap.chmod(0o755)
    told = json.loads((made / "t.json").read_text()) | {"python": str(trap)}
    (tmp_path / "t.json").write_text(json.dumps(told))
    result = onnx_oto.prune(made / "m.onnx", tmp_path / "c.onnx", latency=0.6, table=tmp_path / "t.json")
    assert result.summary.removed
    told["host"]["version"] = "9.9"
    (tmp_path / "t.json").write_text(json.dumps(told))
    with pytest.raises(UsageError, match=r"say which one serves \(--python .*trap\)"):
        onnx_oto.prune(made / "m.onnx", tmp_path / "c.onnx", latency=0.6, table=tmp_path / "t.json")
    assert not (tmp_path / "sprung").exists()


def test_a_table_without_a_budget_of_latency_is_refused(made: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="table is for --latency: give that too"):
        onnx_oto.prune(made / "m.onnx", tmp_path / "c.onnx", macs=0.6, table=made / "t.json")


def test_less_than_anything_takes_is_refused(made: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--latency 1us cannot be reached: .*; give --latency 0"):
        onnx_oto.prune(made / "m.onnx", tmp_path / "c.onnx", latency="1us", table=made / "t.json")


def test_bench_says_what_it_measured(made: Path) -> None:
    found = onnx_oto.bench(made / "m.onnx", seconds=0.1, threads=1)
    assert found.timing.low <= found.timing.median <= found.timing.high
    assert (found.batch, found.threads, dict(found.sizes)) == (1, 1, {"x": (1, 16, 24, 24)})
    assert sum(found.by_op.values()) > 0
    assert next(iter(found.by_op)) == "Conv"
    told = found.as_json()
    assert told["latency_ms"]["runtime"].startswith("ONNX Runtime")
    assert told["host"]["fingerprint"] == found.host.fingerprint


def test_inputs_that_the_model_does_not_take_are_refused(made: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.ones((2, 16, 5, 5), np.float32))
    with pytest.raises(DataError, match="the model reads float32"):
        onnx_oto.bench(made / "m.onnx", inputs=tmp_path / "x.npz")
