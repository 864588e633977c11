"""How text from outside is shown: names, files, messages of libraries may hold anything, of any length."""

from __future__ import annotations

import re

MOST_LINE = 4000
MOST_WORD = 300
"""Characters shown of a line, and of a run of characters without a space: longer ones lose their middle."""
CUT = "[...]"
UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Characters that Unicode calls printable, and that print nothing."""
LONG_WORD = re.compile(rf"\S{{{MOST_WORD + 1},}}")


def shown(text: str) -> str:
    r"""Return `text` as one line that can neither move the cursor nor pass for something else, cut to a sane length.

    Whatever does not print (controls, line ends, what reorders or joins characters, halves of surrogate pairs) is
    written as an escape; letters of all languages stay.

    >>> shown("a\nb \x1b[31m é \u202e"), len(shown("N" * 10**6))
    ('a\\nb \\x1b[31m é \\u202e', 300)
    """
    line = _cut(text, MOST_LINE)
    if not line.isprintable() or UNSEEN.search(line):
        line = "".join(map(_visible, line))
    return _cut(LONG_WORD.sub(lambda word: _cut(word[0], MOST_WORD), line), MOST_LINE)


def lasting(seconds: float) -> str:
    """Return how long something takes, as people say it.

    >>> lasting(11.2), lasting(283), lasting(30_000)
    ('11 s', '5 min', '8.3 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _visible(char: str) -> str:
    if char.isprintable() and not UNSEEN.match(char):
        return char
    return char.encode("unicode_escape").decode("ascii")


def _cut(text: str, most: int) -> str:
    """Return at most `most` characters: two thirds of them from the beginning, the others from the end."""
    if len(text) <= most:
        return text
    head = most * 2 // 3
    return text[:head] + CUT + text[len(text) - (most - head - len(CUT)) :]
