"""A table made of known times tells them back, also at widths that were not measured."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from onnx_oto.errors import StorageError, UsageError
from onnx_oto.model import normalise
from onnx_oto.pipeline.latency.probing import Probe, probes
from onnx_oto.pipeline.latency.table import Table, digest, read_table, table, without_profiling, write_table
from onnx_oto.runtime.bench import Host, Staircase
from onnx_oto.zigs import Analysis, analyse
from onnx_oto.zigs.terms import mac_terms
from onnx_oto.zigs.units import families
from onnx_oto.zigs.widths import Rounding, rounded, told_apart
from tests.contract.builder import build

TEXT = """g (float[1,16,9,9] x) => (float[1,8,9,9] y)
<float[64,16,3,3] w0, float[96,64,1,1] w1, float[8,96,1,1] w2>
{ [c0] a = Conv<pads=[1,1,1,1]>(x, w0) [r0] b = Relu(a) [c1] c = Conv(b, w1) [r1] d = Relu(c) [c2] y = Conv(d, w2) }"""
HOST = Host("ONNX Runtime", "1.32.0", "onnxruntime", "A processor", "0123456789ab", 2)
STAIRS = Staircase(4, 16, {16: 0.1, 17: 0.2})
EVENTS = {"b_nchwc": "c0", "d_nchwc": "c1", "c2": "c2"}
CALL, MAC = 0.01, 1e-6
REORDER = ("ReorderOutput", "ReorderOutput", 0)


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    return analyse(normalise(build(TEXT)))


def blocks(n: float) -> float:
    return np.ceil(n / 16) * 16


def truth(analysis: Analysis, drop: np.ndarray) -> dict[tuple[str, str, int], float]:
    """Return what each event takes: a call, and what is computed in blocks of 16."""
    keep = {dimension.name: int((~drop[dimension.lanes]).sum()) for dimension in analysis.prunable}
    a, b = keep["w0"], keep["w1"]
    macs = {"c0": 81 * 9 * 16 * blocks(a), "c1": 81 * blocks(a) * blocks(b), "c2": 81 * blocks(b) * 8}
    return {(event, "Conv", 0): CALL + MAC * macs[node] for event, node in EVENTS.items()}


def made(analysis: Analysis, off: float = 1.0) -> Table:
    found = []
    for drop, aligned in probes(analysis, Rounding(16, 4)):
        nodes = truth(analysis, drop) | {("ReorderOutput", "ReorderOutput", 0): 0.0}
        ms = off * sum(nodes.values()) * (1.0 if aligned else 1.5)
        found.append(Probe(drop, aligned, ms, 0.99 * ms, 1.01 * ms, nodes, 0.0))
    return table(analysis, found, HOST, STAIRS, python="python", threads=2, sizes={"x": (1, 16, 9, 9)})


def test_every_operator_has_its_row(analysis: Analysis) -> None:
    rows = {row.name: row for row in made(analysis).rows}
    assert {name: row.nodes for name, row in rows.items()} == {
        "b_nchwc": ("c0", "r0"), "d_nchwc": ("c1", "r1"), "c2": ("c2",),
    }  # fmt: skip
    assert all(len(row.ms) == len(made(analysis).times) for row in rows.values())


def test_predictions_are_what_was_measured_and_what_was_not(analysis: Analysis) -> None:
    known = made(analysis)
    assert known.error < 1e-6
    assert known.is_whole
    assert known.cliff == pytest.approx(1.5, rel=1e-6)
    terms, rest = known.terms(analysis)
    offered = rounded(
        analysis,
        families(analysis, np.ones(analysis.lanes.count), apart=told_apart(analysis)),
        Rounding(4, 4),
    )
    rng = np.random.default_rng(5)
    for _ in range(20):
        drop = np.zeros(analysis.lanes.count, bool)
        for family in offered:
            drop[family.units[: rng.choice(family.steps)].reshape(-1)] = True
        assert terms.at(~drop) + rest == pytest.approx(sum(truth(analysis, drop).values()), rel=1e-6)


def test_a_sum_that_is_off_is_said(analysis: Analysis) -> None:
    assert made(analysis, 1.14).is_whole
    assert not made(analysis, 1.2).is_whole
    assert made(analysis, 1.2).error < 1e-6  # the whole is told by the sum all the same


def test_the_probes_differ_and_the_first_one_is_the_full_model(analysis: Analysis) -> None:
    every = list(probes(analysis, Rounding(16, 4)))
    macs = mac_terms(analysis, {})
    kept = [macs.at(~drop) for drop, _ in every]
    assert not every[0][0].any()
    assert kept[1:8] == sorted(kept[1:8], reverse=True)
    assert len({drop.tobytes() for drop, _ in every}) > 8
    assert [aligned for _, aligned in every] == [True] * 13 + [False]


def test_what_profiling_adds_to_every_node_is_taken_off() -> None:
    added = {("a", "A", 0): 5.5, ("b", "B", 0): 2.5, ("c", "C", 0): 0.2}
    found = without_profiling(added, 7.2)
    assert list(found.values()) == pytest.approx([5.1, 2.1, 0.0], abs=1e-9)
    assert without_profiling(added, 9.0) == added


def test_a_curve_ascends(analysis: Analysis) -> None:
    known = made(analysis)
    assert len(known.curve) > 3
    assert all(a < c and b < d for (a, b), (c, d) in itertools.pairwise(known.curve))


def test_a_file_gives_the_table_back(analysis: Analysis, tmp_path: Path) -> None:
    known = made(analysis)
    write_table(known, tmp_path / "t.json")
    assert read_table(tmp_path / "t.json") == known
    told = json.loads((tmp_path / "t.json").read_text())
    assert (told["measured_ms"], told["batch"], told["threads"]) == (known.times[0], 1, 2)
    assert told["host"]["fingerprint"] == HOST.fingerprint
    assert told["staircase"]["block"] == 16
    assert told["conversions"] == [{"name": "ReorderOutput", "op": "ReorderOutput", "ms": 0.0}]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", "is no latency table"),
        (b"\xff\xfe", "is no latency table"),
        (b"[]", "is no latency table of this version"),
        (b'{"kind": "onnx-oto latency table", "schema": 99}', "of this version"),
        (b'{"kind": "onnx-oto latency table", "schema": 1}', "is a damaged latency table"),
    ],
)
def test_files_that_are_no_tables(content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_bytes(content)
    with pytest.raises(UsageError, match=says):
        read_table(tmp_path / "t.json")


@pytest.mark.parametrize("content", [b"[" * 100_000, b"1" * 5_000])
def test_files_that_are_hard_to_read(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_bytes(content)
    with pytest.raises(UsageError, match="is no latency table"):
        read_table(tmp_path / "t.json")


@pytest.mark.parametrize("value", [None, "x", -1, float("nan"), float("inf"), [], {}, 10**30, True])
@pytest.mark.parametrize(
    "where",
    [
        *("host", "host cores", "threads", "inputs x", "staircase ms", "staircase block", "probes", "scale"),
        *("probes 0 ms", "probes 0 interval", "probes 1 predicted_ms", "operators 0 rates macs"),
    ],
)
def test_a_damaged_table_is_refused(where: str, value: object, analysis: Analysis, tmp_path: Path) -> None:
    """A value of another kind is found when the table is read, and not by what computes with it."""
    write_table(made(analysis), tmp_path / "t.json")
    told = place = json.loads((tmp_path / "t.json").read_text())
    *outer, last = (int(each) if each.isdigit() else each for each in where.split())
    for each in outer:
        place = place[each]
    if isinstance(place[last], list | dict) and value in ([], {}):
        return  # empty, which some of them may be
    place[last] = value
    (tmp_path / "t.json").write_text(json.dumps(told))
    with pytest.raises(UsageError, match="is a damaged latency table"):
        read_table(tmp_path / "t.json")


def test_a_table_without_probes_is_damaged(analysis: Analysis, tmp_path: Path) -> None:
    write_table(made(analysis), tmp_path / "t.json")
    told = json.loads((tmp_path / "t.json").read_text())
    (tmp_path / "t.json").write_text(json.dumps({**told, "probes": []}))
    with pytest.raises(UsageError, match="is a damaged latency table"):
        read_table(tmp_path / "t.json")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot read the table"):
        read_table(tmp_path / "t.json")


def test_a_digest_tells_graphs_apart_and_not_weights(analysis: Analysis) -> None:
    small = TEXT.replace("c = Conv(b, w1)", "e = Conv(b, w1) c = Mul(e, s)").replace(
        "float[8,96", "float[1] s, float[8,96"
    )
    for text in (TEXT, small):
        assert digest(normalise(build(text))) == digest(normalise(build(text, seed=7)))
    assert digest(normalise(build(TEXT))) == digest(analysis.model)
    assert digest(normalise(build(TEXT.replace("96", "80")))) != digest(analysis.model)
    assert digest(normalise(build(TEXT.replace("pads", 'auto_pad = "NOTSET", pads')))) != digest(
        analysis.model
    )
