"""What a report says of a run, of half a run, of damaged ones, and of two models; and where it is written."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import sys
from pathlib import Path

import onnx
import pytest
from reporting.conftest import NASTY, network

import onnx_oto
from onnx_oto.errors import (
    DataError,
    ModelError,
    RuntimeMissingError,
    StorageError,
    UnsupportedError,
    UsageError,
)
from onnx_oto.pipeline.folder import MANIFEST
from onnx_oto.reporting import layout, writing
from onnx_oto.reporting.page import MOST_BYTES
from onnx_oto.reporting.writing import leave_report


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Path:
    """Return a copy of the run that may be changed."""
    shutil.copytree(run, tmp_path / "run")
    return tmp_path / "run"


def test_every_run_leaves_a_page_that_says_what_its_result_says(run: Path) -> None:
    page = (run / "report.html").read_text(encoding="utf-8")
    found = json.loads((run / "result.json").read_text())
    report = onnx_oto.report(run, output="-", format="json")
    told = json.loads(report.text)
    assert len(page.encode()) < MOST_BYTES
    for name in ("params", "macs", "bytes"):
        assert told[name]["before"] == found[name]["before"]
        assert told[name]["after"] == found[name]["after"]
        assert f"{found[name]['after']:,}" in page
    assert told["verify"] == found["verify"]
    assert told["metrics"][0] == found["metric"]
    assert told["latency_ms"]["full_interval"] == found["latency_ms"]["full_interval"]
    assert {each["name"]: each["after"] for each in told["dimensions"]} == {
        each["name"]: each["after"] for each in found["dimensions"]
    }
    assert sum(layer["macs"]["after"] for layer in told["layers"]) == found["macs"]["after"]
    assert told["provenance"]["model"]["sha256"] in page
    assert told["repeat"][0].startswith("onnx-oto train --config ")
    assert "report.html" in json.loads((run / MANIFEST).read_text())["files"]


def test_the_page_asks_for_nothing_and_takes_names_for_text(run: Path) -> None:
    page = (run / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!#|data:)""", page)
    assert not re.findall(r"url\((?!#)|@import|//[a-z0-9.]+/", page.replace("http://www.w3.org/2000/svg", ""))
    assert "<script>alert" not in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert page.count("<script") == page.count("</script>") == 2


def test_markdown_keeps_its_tables_whatever_layers_are_called(run: Path) -> None:
    text = onnx_oto.report(run, output="-", format="md").text
    row = next(line for line in text.splitlines() if "alert" in line and line.startswith("| \\<script"))
    assert len(re.findall(r"(?<!\\)\|", row)) == len(re.findall(r"\|", "| a | b | c | d | e | f | g |"))
    assert "<script" not in text.replace("\\<script", "")
    assert "## Verification" in text


def test_it_is_written_again_and_elsewhere(copied: Path, tmp_path: Path) -> None:
    (copied / "report.html").unlink()
    assert onnx_oto.report(copied).path == copied / "report.html"
    assert onnx_oto.report(copied, format="md").path == copied / "report.md"
    assert onnx_oto.report(copied, output=tmp_path / "a.json").kind == "json"
    assert json.loads((tmp_path / "a.json").read_text())["kind"] == "run"
    assert onnx_oto.report(copied, output=copied / "report.html").path == copied / "report.html"
    before = (copied / "result.json").read_bytes()
    with pytest.raises(UsageError, match="belongs to the run"):
        onnx_oto.report(copied, output=copied / "result.json")
    assert (copied / "result.json").read_bytes() == before


def test_what_somebody_else_put_there_stays(copied: Path) -> None:
    (copied / "report.json").write_text("mine")
    with pytest.raises(UsageError, match=r"no earlier run wrote it.* with -o"):
        onnx_oto.report(copied, format="json")
    assert (copied / "report.json").read_text() == "mine"


def half_of(path: Path, *gone: str) -> None:
    for name in gone:
        (path / name).unlink()


def test_half_a_run_says_so_and_how_to_go_on(copied: Path) -> None:
    half_of(copied, "result.json", "trained.onnx", "compact.onnx")
    lines = (copied / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (copied / "metrics.jsonl").write_bytes(b"".join(lines[: len(lines) // 2]) + b'{"kind": "st')
    found = onnx_oto.report(copied)
    assert found.report.kind == "half"
    assert re.search(r"half a run: \d of 8 epochs", found.report.state[0])
    assert found.report.way_on == (f"onnx-oto resume {copied}",)
    assert f"onnx-oto resume {copied}" in found.text
    assert found.report.picture is None or found.report.picture.tiles
    assert "verification" not in found.text.split("<main")[1].split("What there is to gain")[0].lower()
    assert found.report.provenance["model"]["sha256"]


def test_a_run_that_was_trained_and_not_compacted_names_both_ways(copied: Path) -> None:
    half_of(copied, "result.json", "compact.onnx")
    found = onnx_oto.report(copied).report
    assert "trained to its end" in found.state[0]
    assert found.way_on[1].startswith("onnx-oto compact ")
    assert found.layers


def test_a_run_that_diverged_is_told_as_one(copied: Path) -> None:
    half_of(copied, "result.json", "compact.onnx", "trained.onnx")
    shutil.copy(copied / "checkpoint.npz", copied / "last-good.npz")
    found = onnx_oto.report(copied).report
    assert "diverged" in found.state[0]
    assert "--lr" in found.way_on[0]


@pytest.mark.parametrize("name", ["trained.onnx", "compact.onnx", "result.json", "run.toml", "metrics.jsonl"])
@pytest.mark.parametrize("content", [None, b"", b"\xff{not ours", b"[1, 2]"])
def test_what_is_damaged_or_missing_is_said_and_the_rest_is_there(
    copied: Path, name: str, content: bytes | None
) -> None:
    if content is None:
        (copied / name).unlink()
    else:
        (copied / name).write_bytes(content)
    found = onnx_oto.report(copied, output="-", layout_seconds=20)
    assert found.report.notes or found.report.state or not found.report.charts
    assert "<h1>" in found.text


@pytest.mark.parametrize(
    ("int8", "said"),
    [
        (
            {
                "file": "compact.int8.onnx",
                "bytes": {"compact": 9000, "int8": 4500},
                "latency_ms": {"compact": None, "int8": None, "not_measured": "no time"},
                "metric": {"name": "accuracy", "compact": 0.75, "int8": 0.7475},
                "lost": 0.25,
                "allowed": 0.5,
            },
            "compact.int8.onnx: 9.00 kB → 4.50 kB (50.0%); test accuracy 0.7500 → 0.7475; lost 0.25, 0.5 are allowed.",
        ),
        (
            {"failed": "the int8 model loses <b>9</b> points"},
            "none was written: the int8 model loses <b>9</b> points",
        ),
        ("damaged", None),
        (None, None),
    ],
)
def test_an_int8_model_is_told_of_and_why_there_is_none(copied: Path, int8: object, said: str | None) -> None:
    found = json.loads((copied / "result.json").read_text())
    (copied / "result.json").write_text(json.dumps(found | ({} if int8 is None else {"int8": int8})))
    page = onnx_oto.report(copied, output="-").text
    told = json.loads(onnx_oto.report(copied, output="-", format="json").text)
    assert ("In 8 bits" in page) == (said is not None)
    assert told["int8"] == (int8 if said is not None else None)
    if said is not None:
        assert f"In 8 bits: {html.escape(said)}" in page
        assert "\nIn 8 bits: " in onnx_oto.report(copied, output="-", format="md").text


def test_a_run_of_an_older_version_needs_a_place(copied: Path, tmp_path: Path) -> None:
    (copied / MANIFEST).unlink()
    result = json.loads((copied / "result.json").read_text())
    for key in ("provenance", "dimensions", "metrics", "warnings", "whole_images"):
        del result[key]
    (copied / "result.json").write_text(json.dumps(result))
    with pytest.raises(UsageError, match=r"-o report\.html"):
        onnx_oto.report(copied)
    found = onnx_oto.report(copied, output=tmp_path / "old.html").report
    assert found.params.after == result["params"]["after"]
    assert any(bar.lanes.after != bar.lanes.before for bar in found.bars)
    assert found.provenance["model"]["sha256"], "its checkpoint knows"


@pytest.mark.parametrize("what", ["nowhere", "empty", "file"])
def test_what_is_no_run_is_refused(what: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="FULL COMPACT"):
        onnx_oto.report(tmp_path / what)


def test_a_page_that_fails_loses_no_run(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    before = {path.name: path.read_bytes() for path in run.iterdir()}

    def fails(*_: object) -> None:
        raise ZeroDivisionError("nothing")

    monkeypatch.setattr(writing, "of_run", fails)
    assert leave_report(run, said.append) is None
    assert len(said) == 1
    assert "ZeroDivisionError" in said[0]
    assert f"onnx-oto report {run}" in said[0]
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written_is_a_line(copied: Path) -> None:
    copied.chmod(0o500)
    try:
        with pytest.raises(StorageError):
            onnx_oto.report(copied)
    finally:
        copied.chmod(0o700)


def test_a_place_that_is_no_folder_is_a_line(run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="cannot write"):
        onnx_oto.report(run, output=tmp_path / "file" / "report.html")


# --- two models --------------------------------------------------------------------------------------------------
def test_two_models_are_counted_compared_and_measured(folder: Path, tmp_path: Path) -> None:
    small, zeroed = tmp_path / "c.onnx", tmp_path / "z.onnx"
    cut = onnx_oto.prune(
        folder / "net.onnx", small, sparsity=0.5, skip_latency=True, round_to=1, save_zeroed=zeroed
    ).as_json()
    found = onnx_oto.report(zeroed, small)
    told = found.as_json()
    assert found.path == tmp_path / "c.report.html"
    assert told["verify"]["passed"] is True
    assert told["params"]["after"] == cut["params"]["after"]
    assert told["macs"]["after"] == cut["macs"]["after"]
    assert told["lanes"] == {
        "before": cut["lanes"]["prunable"],
        "after": cut["lanes"]["prunable"] - cut["lanes"]["removed"],
    }
    assert told["latency_ms"]["runs"] >= 5
    assert onnx_oto.report(zeroed, small, skip_latency=True).path == found.path
    changed = onnx_oto.report(folder / "net.onnx", small, output="-", skip_latency=True).report
    assert changed.verification is not None
    assert changed.verification["passed"] is False
    assert "differ: output 'logits'" in changed.state[1]
    swapped = onnx_oto.report(small, zeroed, output="-", skip_latency=True).report
    assert "the larger one" in swapped.state[1]


def test_two_models_that_cannot_be_compared_are_refused(folder: Path, tmp_path: Path) -> None:
    other = network()
    other.graph.input[0].name = "z"
    other.graph.node[0].input[0] = "z"
    onnx.save(other, tmp_path / "other.onnx")
    with pytest.raises(DataError, match="inputs"):
        onnx_oto.report(folder / "net.onnx", tmp_path / "other.onnx", output="-")
    for name, sizes in (("flat", "N, 4"), ("deep", "N, 4, 2")):
        values = f"(float[{sizes}] x) => (float[{sizes}] y) {{ y = Relu(x) }}"
        model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {name} {values}')
        onnx.save(model, tmp_path / f"{name}.onnx")
    with pytest.raises(DataError, match=r"deep\.onnx' reads 'x' as float32 \[\?, 4, 2\]"):
        onnx_oto.report(tmp_path / "flat.onnx", tmp_path / "deep.onnx", output="-")
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError):
        onnx_oto.report(folder / "net.onnx", tmp_path / "bad.onnx", output="-")
    with pytest.raises(UsageError, match="overwrite"):
        onnx_oto.report(folder / "net.onnx", folder / "net.onnx", output=folder / "net.onnx")
    with pytest.raises(UsageError, match="skip-latency"):
        onnx_oto.report(folder / "net.onnx", folder / "net.onnx", skip_verify=True)


# --- the drawing -------------------------------------------------------------------------------------------------
def test_the_graph_alone_is_the_same_picture(folder: Path, tmp_path: Path) -> None:
    for kind, begin in (("svg", b"<svg"), ("png", b"\x89PNG"), ("html", b"<!doctype html>")):
        onnx_oto.inspect(folder / "net.onnx", graph=tmp_path / f"g.{kind}")
        assert (tmp_path / f"g.{kind}").read_bytes().startswith(begin)
    text = (tmp_path / "g.svg").read_text()
    assert text.count('class="tile') == text.count('role="img"') == 5
    assert "frozen: it is part of the model&#39;s output" in text
    assert NASTY not in text
    with pytest.raises(UsageError, match=r"\.png"):
        onnx_oto.inspect(folder / "net.onnx", graph=tmp_path / "g.pdf")


@pytest.fixture
def without_graphviz(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide pygraphviz and the binary."""
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    monkeypatch.setattr(layout.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(layout.shutil, "which", lambda name: None)


@pytest.mark.usefixtures("without_graphviz")
def test_without_graphviz_the_graph_is_listed(run: Path, folder: Path, tmp_path: Path) -> None:
    found = onnx_oto.report(run, output="-")
    assert found.report.picture is not None
    assert "onnx-oto[report]" in found.report.picture.why
    assert "It is listed, not drawn" in found.text
    assert "The graph as a list" in found.text
    onnx_oto.inspect(folder / "net.onnx", graph=tmp_path / "g.html")
    with pytest.raises(RuntimeMissingError, match=r"onnx-oto\[report\]"):
        onnx_oto.inspect(folder / "net.onnx", graph=tmp_path / "g.svg")
    assert not (tmp_path / "g.svg").exists()


def test_a_layout_that_takes_too_long_is_ended(
    run: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = onnx_oto.report(run, output="-", layout_seconds=0.001)
    assert found.report.picture is not None
    assert "takes more than 0.001 s" in found.report.picture.why
    monkeypatch.setattr(layout, "run_dot", lambda *_: b"not plain")
    with pytest.raises(UnsupportedError, match="is not drawn"):
        onnx_oto.inspect(folder / "net.onnx", graph=tmp_path / "g.svg")
