"""Nothing from outside moves the cursor, hides, passes for a line of ours, or floods the screen."""

from __future__ import annotations

import pytest

from onnx_oto.cli.text import MOST_LINE, MOST_WORD, shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[31m\x1b]0;title\x07", r"\x1b[31m\x1b]0;title\x07"),
        ("a\0b\x7f", r"a\x00b\x7f"),
        ("a\rfake", r"a\rfake"),
        ("a\nerror: fake\n", r"a\nerror: fake\n"),
        ("\u2028\u2029\x85", r"\u2028\u2029\x85"),
        ("\x9b31m", r"\x9b31m"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("w\u200b1\ufeff", r"w\u200b1\ufeff"),
        ("w\u3164\u034f\ufe0e", r"w\u3164\u034f\ufe0e"),
        ("\ud800x\udcff", r"\ud800x\udcff"),
        ("\ufffe\U000e0041", r"\ufffe\U000e0041"),
    ],
)
def test_what_does_not_print_is_escaped(text, expected):
    assert shown(text) == expected


@pytest.mark.parametrize(
    "text", ["conv.weight/1", "é, ü, 中文, עברית, 💩", r"C:\models\a.onnx", "[/] [red] [link=x]", ""]
)
def test_what_prints_stays(text):
    assert shown(text) == text


def test_a_long_name_loses_its_middle_and_nothing_around_it_does():
    line = shown("node '" + "N" * 10**6 + "z' has no rule: see docs")
    assert len(line) < MOST_WORD + 30
    assert line.startswith("node 'NNN")
    assert "[...]" in line
    assert line.endswith("NNz' has no rule: see docs")


@pytest.mark.parametrize("text", ["a b " * 10**6, "\x1b" * 10**6, "\x1b " * 10**6])
def test_no_line_is_longer_than_the_longest(text):
    line = shown(text)
    assert MOST_WORD - 1 <= len(line) <= MOST_LINE
    assert line.isprintable()
