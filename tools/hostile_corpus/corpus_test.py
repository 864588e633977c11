"""Run with `pytest tools/hostile_corpus`: the corpus is what it says, and a sample of it on the product."""

from __future__ import annotations

import collections
from pathlib import Path

import pytest

from hostile_corpus.__main__ import parse
from hostile_corpus.case import OK, Trial
from hostile_corpus.corpus import corpus
from hostile_corpus.judge import WORK, Limits, judge
from hostile_corpus.process import OUTSIDE, attempt
from hostile_corpus.report import Outcome, Result, failure_lines, table

CASES = {case.title: case for case in corpus()}
LARGE = ("sizes",)
"""Kinds whose files take seconds to build."""
SAMPLE = (
    "constants/constant-of-shape-tera-beside",
    "attributes/softmax-axis-beyond-path",
    "functions/calls-itself",
    "structure/cycle",
    "tensors/dims-negative",
    "sparse/beyond",
    "headers/opset-0",
    "damage/foreign-noise",
    "external/escaping",
    "data/objects",
    "feeds/wrong-shape-prune",
    "files/output-is-input",
)
TWINS = (
    "constants/constant-of-shape-tera-beside",
    "attributes/softmax-axis-beyond-function",
    "external/escaping",
    "files/output-is-input",
)
LIMITS = Limits(seconds=60)


def test_there_are_enough_cases_and_no_two_share_a_name() -> None:
    names = collections.Counter(case.title for case in corpus())
    assert len(names) >= 600
    assert [name for name, times in names.items() if times > 1] == []


def test_another_seed_and_count_change_the_random_parts_only() -> None:
    first, other = ({case.title for case in corpus(5, seed)} for seed in (0, 1))
    assert first != other
    assert all(title.startswith("damage/") for title in first ^ other)


def test_every_case_has_a_twin_that_must_be_accepted() -> None:
    for case in CASES.values():
        assert case.twin.codes == OK
        assert case.twin is not case.hostile
        assert case.hostile.codes


def built(trial: Trial, sandbox: Path) -> dict[str, str | bytes]:
    """Return what the builder of a trial makes."""
    for name in (WORK, OUTSIDE):
        (sandbox / name).mkdir(parents=True)
    trial.build(sandbox / WORK)
    return {
        str(path.relative_to(sandbox)): path.read_bytes() if path.is_file() and path.stat().st_size < 2**26 else "other"
        for path in sandbox.rglob("*")
    }  # fmt: skip


@pytest.mark.parametrize("kind", sorted({case.kind for case in CASES.values()} - {*LARGE}))
def test_the_poison_is_the_only_difference_and_there_is_one(kind: str, tmp_path: Path) -> None:
    twins: dict[Trial, dict[str, str | bytes]] = {}
    for number, case in enumerate(c for c in CASES.values() if c.kind == kind):
        hostile, twin = case.hostile, case.twin
        assert hostile.words[0] == twin.words[0]
        if twin not in twins:
            twins[twin] = built(twin, tmp_path / f"twin{number}")
        same = built(hostile, tmp_path / f"hostile{number}") == twins[twin]
        assert not (same and hostile.words == twin.words and hostile.file_limit is None), case.title


@pytest.mark.parametrize("title", SAMPLE)
def test_a_sample_is_refused(title: str, tmp_path: Path) -> None:
    trial = CASES[title].hostile
    assert judge(trial, attempt(trial, tmp_path, LIMITS), LIMITS) == []


@pytest.mark.parametrize("title", TWINS)
def test_twins_of_the_sample_are_accepted(title: str, tmp_path: Path) -> None:
    trial = CASES[title].twin
    assert judge(trial, attempt(trial, tmp_path, LIMITS), LIMITS) == []


def test_a_failure_is_one_line_with_the_command_that_repeats_it() -> None:
    case = CASES["structure/cycle"]
    good, bad = (Outcome(3, 1.0, 50 << 20, "", reasons) for reasons in ((), ("exit 1 instead of 3",)))
    result = Result(case, bad, good)
    assert failure_lines(result).splitlines() == [
        "FAILED structure/cycle: hostile: exit 1 instead of 3",
        "       tools/hostile --only 'structure/cycle' --keep build/hostile",
    ]
    assert failure_lines(Result(case, good, good)) == ""
    rows = [line.split() for line in table([result, Result(case, good, good)]).splitlines()]
    assert rows[1] == ["structure", "2", "1", "2", "1.0", "s", "50", "MB"]
    assert rows[-1][0] == "all"


def test_options_have_the_limits_of_the_product() -> None:
    args = parse([])
    assert (args.timeout, args.memory, args.kill) == (30, 2, None)
    assert parse(["--kill"]).kill == 100
