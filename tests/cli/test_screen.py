"""What training says on stderr while it runs, and what is said of a difference."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from onnx_oto.cli import screen
from onnx_oto.cli.curve import print_curve
from onnx_oto.cli.objects import print_json
from onnx_oto.cli.progress import Progress
from onnx_oto.metrics import Better
from onnx_oto.pipeline.by_data import Judgements
from onnx_oto.pipeline.curve import End, Point
from onnx_oto.pipeline.inspecting import Inspected
from onnx_oto.pipeline.judging import Judgement
from onnx_oto.pipeline.prune import Pruned
from onnx_oto.pipeline.summary import Change, Summary
from onnx_oto.runtime.comparing import Departure, Verdict
from onnx_oto.runtime.timing import Latencies, Latency, Untimed
from onnx_oto.training import EpochEnded, Score, Started, Stepped


def step(number: int, *, loss: float = 0.5) -> Stepped:
    return Stepped(1, number, 1000, loss, 0.1, "shrink", 3, 12, 0.01)


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """A clock that stands still until a test moves its only element."""
    now = [100.0]
    monkeypatch.setattr("onnx_oto.cli.progress.time.perf_counter", lambda: now[0])
    return now


def test_without_a_terminal_a_line_comes_every_ten_seconds(capsys, clock):
    with Progress() as progress:
        progress.notice(Started(1, 1000, 1000, 0))
        for number in range(1, 301):
            clock[0] = 100.0 + number * 0.1
            progress.notice(step(number))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "step 100 of 1000: loss 0.500, shrink, zero groups 3 of 12, about 90 s left",
        "step 200 of 1000: loss 0.500, shrink, zero groups 3 of 12, about 80 s left",
        "step 300 of 1000: loss 0.500, shrink, zero groups 3 of 12, about 70 s left",
    ]


def test_a_run_that_goes_on_counts_its_own_steps_only(capsys, clock):
    with Progress() as progress:
        progress.notice(Started(1, 1000, 1000, 900))
        clock[0] = 120.0
        progress.notice(step(950))
    assert "about 20 s left" in capsys.readouterr().err


def test_the_end_of_an_epoch(capsys):
    ended = EpochEnded(2, 500, 1000, 0.25, 0.1, "done", 12, 12, "accuracy", 0.9, 0.3, 4.0)
    with Progress() as progress:
        progress.notice(ended)
    line = capsys.readouterr().err.strip()
    assert line == (
        "epoch 2: loss 0.2500  test accuracy 0.9000  done, zero groups 12 of 12 (4.0 s, about 8 s left)"
    )


def test_json_holds_no_number_that_json_does_not_know(capsys):
    print_json({"a": math.inf, "b": [math.nan, 1.5], "c": {"d": "x"}})
    assert capsys.readouterr().out == (
        '{\n "a": null,\n "b": [\n  null,\n  1.5\n ],\n "c": {\n  "d": "x"\n }\n}\n'
    )


@pytest.mark.parametrize(
    ("sizes", "where"), [((), ""), (({"N": 1}, {"N": 3}), ", after they agreed at N=1; N=3")]
)
def test_a_difference_names_no_size_at_which_there_was_none(capsys, sizes, where):
    trouble = "output 'y' by 1.8 at N=2"
    screen.print_verdict(Verdict(False, 1.8, 1.0, 0, "ONNX Runtime 1", sizes=sizes, trouble=trouble))
    assert capsys.readouterr().out == f"full and compact DIFFER: {trouble}\n  in ONNX Runtime 1{where}\n"


def screens(
    capsys, latency: Latencies | Untimed | None, *warnings: str, at: Mapping[str, int] = {"N": 1}
) -> tuple[str, str]:
    """Return what `prune` prints on stdout and stderr for this latency."""
    change = Change(1000, 500)
    verdict = Verdict(True, 0.0, 0.0, 2)
    summary = Summary(change, change, change, 8, 4, verdict, at, latency, warnings)
    screen.print_pruned(Pruned(summary, 0.1, 0.2), Path("compact.onnx"))
    printed = capsys.readouterr()
    return printed.out, printed.err


def latencies(compact: float, at: Mapping[str, int]) -> Latencies:
    full, small = (Latency(x, 0.99 * x, 1.01 * x, 25) for x in (3.214, compact))
    ratio = compact / 3.214
    return Latencies(full, small, (0.98 * ratio, 1.02 * ratio), "ONNX Runtime 1.19.2", 2, 1, at)


@pytest.mark.parametrize(
    ("compact", "row"),
    [
        (1.9, "3.21 ms -> 1.90 ms (1.69x faster)"),
        (3.2, "3.21 ms -> 3.20 ms (about the same)"),
        (12.34, "3.21 ms -> 12.3 ms (3.84x slower)"),
    ],
)
def test_latency_says_what_it_was_measured_in(capsys, monkeypatch, compact, row):
    monkeypatch.setattr(screen.out, "_width", 40)
    out, _ = screens(capsys, latencies(compact, {"N": 1}))
    assert f"latency: {row}\n" in out
    assert "latency in ONNX Runtime 1.19.2, 2 threads, batch 1\n" in out


def test_noise_that_hides_much_is_no_likeness(capsys, monkeypatch):
    monkeypatch.setattr(screen.out, "_width", 40)
    noisy = replace(latencies(6.4, {"N": 1}), ratio=(0.9, 2.5))
    assert "3.21 ms -> 6.40 ms (within the noise)" in screens(capsys, noisy)[0]


def test_a_long_name_is_folded_and_the_table_stays(capsys, monkeypatch):
    monkeypatch.setattr(screen.out, "_width", 70)
    lines = screens(capsys, None, at={"samples": 1, "height": 224, "width": 224})[0].splitlines()
    assert lines[2].startswith("MACs (at samples=1,")
    assert lines[2].endswith("  50.0%")
    assert lines[3].rstrip().endswith("width=224)")
    lines = screens(capsys, latencies(1.9, {"N": 1}))[0].splitlines()
    assert lines[4].startswith("latency  ")
    assert lines[4].endswith("  1.69x faster")


def test_other_sizes_than_those_of_macs_are_said(capsys):
    where = "\nlatency in ONNX Runtime 1.19.2, 2 threads, batch 1, at N=3, T=7\n"
    assert where in screens(capsys, latencies(1.9, {"N": 3, "T": 7}))[0]


def test_why_latency_was_not_measured_is_said(capsys):
    assert "\nlatency: not measured: it crashes\n" in screens(capsys, Untimed("it crashes"))[0]
    assert "latency" not in screens(capsys, None)[0]


def test_warnings_go_to_stderr(capsys):
    out, err = screens(capsys, latencies(12.34, {"N": 1}), "the compact model is slower: remove more")
    assert err == "warning: the compact model is slower: remove more\n"
    assert "warning" not in out


def judged(capsys, monkeypatch, width: int, *judgements: Judgement, layers: int = 12) -> list[str]:
    """Return the lines of what data say of a model."""
    monkeypatch.setattr(screen.out, "_width", width)
    screen.print_judged(Judgements(*judgements, layers=layers, left=0.125))
    return capsys.readouterr().out.splitlines()


SCORES = [
    Judgement(1000, Score("top-1", value, 1 - value, 1000, {"top-5": 1.0})) for value in (0.875, 0.25, 0.8)
]


def test_original_cut_and_refitted_are_rows(capsys, monkeypatch):
    assert judged(capsys, monkeypatch, 80, *SCORES) == [
        "on 1,000 test samples    loss   top-1   top-5",
        "original               0.1250  0.8750  1.0000",
        "cut                    0.7500  0.2500  1.0000",
        "refitted               0.2000  0.8000  1.0000",
        "12 layers were fitted anew: 12.5% of the error that the cut made in them is left",
    ]


def test_on_a_narrow_screen_they_are_lines(capsys, monkeypatch):
    assert judged(capsys, monkeypatch, 40, *SCORES[:2]) == [
        "on 1,000 test samples:",
        "  original: loss 0.1250, top-1 0.8750, top-5 1.0000",
        "  cut: loss 0.7500, top-1 0.2500, top-5 1.0000",
    ]


def test_without_labels_it_is_said_how_far_outputs_are_off(capsys, monkeypatch):
    found = [Judgement(50, change=change, agreement=agreed) for change, agreed in ((0.0, 1.0), (0.5, 0.5))]
    lines = judged(capsys, monkeypatch, 80, *found, found[1], layers=0)
    assert lines[0] == "on 50 test samples  agreement  output change"
    assert lines[-1] == "no layer could be fitted anew"
    found = [Judgement(50, change=0.25)] * 2
    assert judged(capsys, monkeypatch, 40, *found)[0] == "on 50 test samples  output change"


def metric(value: float, better: Better = "higher") -> Judgement:
    return Judgement(50, Score("metric", value, 1.0, 50, better=better))


@pytest.mark.parametrize(
    ("original", "last", "lost"),
    [
        (metric(0.8), metric(0.41), None),
        (metric(0.8), metric(0.39), "metric 0.39 against 0.8"),
        (metric(0.8), metric(math.nan), "metric is no number"),
        (metric(0.1, "lower"), metric(0.19, "lower"), None),
        (metric(0.1, "lower"), metric(0.21, "lower"), "metric 0.21 against 0.1"),
        (metric(0.0), metric(0.0), None),
        (Judgement(9, change=0.0, agreement=1.0), Judgement(9, change=0.9, agreement=0.6), None),
        (
            Judgement(9, change=0.0, agreement=1.0),
            Judgement(9, change=0.1, agreement=0.4),
            "it agrees with the original on 40% of the answers",
        ),
        (Judgement(9, change=0.0), Judgement(9, change=0.4), None),
        (Judgement(9, change=0.0), Judgement(9, change=0.6), "its outputs are off the original's by 60%"),
        (Judgement(9, change=0.0), Judgement(9, change=math.nan), "its outputs are no numbers"),
    ],
)
def test_what_is_of_no_use_is_said(original, last, lost):
    for judgements in (Judgements(original, last), Judgements(original, original, last)):
        warnings = judgements.warnings()
        if lost is None:
            assert warnings == []
        else:
            (line,) = warnings
            assert line == (
                f"the compact model is of no use as it is: {lost}. Remove less, or `onnx-oto train` to the same target "
                "with the same data"
            )


def curves(capsys, monkeypatch, width: int, **changes: object) -> list[str]:
    """Return the lines of a curve of three points, the last of which misses its share."""
    monkeypatch.setattr(screen.out, "_width", width)
    full = Point(
        0.0, 0.0, 0, 4800, 16, Change(11_684_712, 11_684_712), Change(1, 1), Change(46_850_048, 46_850_048)
    )
    half = replace(
        full, sparsity=0.5, achieved=0.5, removed=2400, params=Change(11_684_712, 3_054_000), **changes
    )
    last = replace(half, sparsity=0.9, achieved=0.8, removed=3840, why="nothing more can go: it is so")
    full = replace(full, **changes)
    end = End(0.8, 3840, Change(11_684_712, 1000), ("it is so", "and so"))
    print_curve(Inspected("m", 0, 0, {}, 0, 0, 0, (), (), (), (), (full, half, last), end))
    return capsys.readouterr().out.splitlines()


def test_a_curve_is_a_table(capsys, monkeypatch):
    lines = curves(capsys, monkeypatch, 80)
    assert lines[:4] == [
        "share        groups  parameters    MACs         bytes",
        "  0.0      0   0.0%  11.7M 100%  1 100%  46.9 MB 100%",
        "  0.5  2,400  50.0%  3.05M  26%  1 100%  46.9 MB 100%",
        "  0.9  3,840  80.0%  3.05M  26%  1 100%  46.9 MB 100%",
    ]
    assert lines[4:] == [
        "0.5 to 0.9: widths keep multiples of 16",
        "0.9: nothing more can go: it is so",
        "at most 80.0% of the groups can go (3,840): it is so; and so",
    ]


def test_what_is_estimated_and_what_data_say_are_columns(capsys, monkeypatch):
    score = Score("accuracy", 0.875, 1234.5, 100)
    lines = curves(capsys, monkeypatch, 100, milliseconds=(4.0, 2.0), judgement=Judgement(100, score))
    assert lines[0].split() == [
        "share",
        "groups",
        "parameters",
        "MACs",
        "bytes",
        "est.",
        "ms",
        "loss",
        "accuracy",
    ]
    assert lines[2].endswith("46.9 MB 100%  2.00 ms  50%  1.23e+03    0.8750")
    lines = curves(capsys, monkeypatch, 80, judgement=Judgement(100, change=0.25))
    assert lines[0].endswith("  output change")


def test_a_narrow_curve_is_lines(capsys, monkeypatch):
    lines = curves(capsys, monkeypatch, 40, judgement=Judgement(100, Score("accuracy", 0.875, 0.5, 100)))
    assert lines[2:4] == [
        "0.5: groups 2,400 50.0%",
        "  parameters 3.05M 26%, MACs 1 100%, bytes 46.9 MB 100%, loss 0.5000, accuracy 0.8750",
    ]


def test_outputs_without_a_distance_are_only_said_to_be_others() -> None:
    """Strings that differ are infinitely far off, which says nothing to people."""
    assert screen.change_text(Departure(0.5, 0.25)).endswith("by 0.25 of the largest output (0.5)")
    assert screen.change_text(Departure(math.inf, math.inf)) == "outputs are not those of the original model"
