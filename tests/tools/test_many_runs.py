"""A sweep over ranks: what its configurations are, who takes which, and what is lost with a rank."""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "tools"
SWEEP = """
[train]
model = "net.onnx"
data = "package.module:function"
flip = true
lr = [0.1]
[sweep]
sparsity = [0.5, 0.7]
seed = [0, 1, 2]
"""


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("many_runs")
    sys.modules.pop("many_runs", None)


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    (tmp_path / "net.onnx").write_bytes(b"")
    (tmp_path / "sweep.toml").write_text(SWEEP)
    return tmp_path / "sweep.toml"


def test_every_combination_once(many: Any, sweep: Path) -> None:
    found = many.configurations(sweep)
    assert len({each.name for each in found}) == len(found) == 6
    assert found[0].varied == {"sparsity": 0.5, "seed": 0}
    words = found[-1].words()
    assert words[0] == str(sweep.parent / "net.onnx")
    assert words[words.index("--sparsity") + 1] == "0.7"
    assert words[words.index("--data") + 1] == "package.module:function"
    assert "--flip" in words
    assert "--run" not in words


@pytest.mark.parametrize(
    ("text", "message"),
    [("[train]\nmodel = 'm'\n", "data is missing"), ("[sweep]\nseed = 3\n", "seed under \\[sweep\\] is 3")],
)
def test_what_a_file_does_not_say(many: Any, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "sweep.toml").write_text(text)
    with pytest.raises(SystemExit, match=message):
        many.configurations(tmp_path / "sweep.toml")


def test_a_dead_rank_loses_its_configuration_and_no_other(
    many: Any, sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every, runs = many.configurations(sweep), tmp_path / "runs"
    runs.mkdir()
    lost, began = "sparsity-0.5_seed-1", threading.Barrier(3)
    asked: list[str] = []

    def trained(configuration: Any, folder: Path, *, dies: bool = True) -> int:
        asked.append(configuration.name)
        if len(asked) <= 3 and dies:
            began.wait(10)  # each of three ranks has one
        if configuration.name == lost and dies:
            raise KeyboardInterrupt  # nothing of it is written, and the rank does no more
        folder.mkdir()
        (folder / "result.json").write_text(json.dumps({"metric": {"name": "accuracy", "compact": 0.5}}))
        return 0

    def rank(number: int, job: str) -> list[str]:
        queue, done = many.Queue(runs, job), []
        with contextlib.suppress(KeyboardInterrupt):
            done = [each.name for each, _ in many.work(every, runs, queue, number)]
        return done

    monkeypatch.setattr(many, "trained", trained)
    with ThreadPoolExecutor(3) as pool:
        done = [name for names in pool.map(lambda number: rank(number, "first"), range(3)) for name in names]
    assert sorted(asked) == sorted(each.name for each in every)  # none twice
    assert sorted(line["name"] for line in many.merge(every, runs)) == sorted({*asked} - {lost})
    assert len(done) <= 5
    assert f"{lost:40} not done" in many.table(every, many.merge(every, runs))
    monkeypatch.setattr(many, "trained", lambda *given: trained(*given, dies=False))
    assert rank(0, "second") == [lost]
    lines = [json.loads(line) for line in (runs / many.RESULTS).read_text().splitlines()]
    assert [line["name"] for line in lines] == [each.name for each in every]
    assert lines[0]["seed"] == 0


def test_starts_are_told_apart(many: Any) -> None:
    assert many.job_of({"PMIX_NAMESPACE": "prterun-a/1@1"}) == "prterun-a-1@1"
    assert many.job_of({"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "2"}) == "7-2"
    assert many.job_of({"PMI_RANK": "0"}) is None
