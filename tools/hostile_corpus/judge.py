"""The rules: what a command did against what it may do. Pure, so that a test can show it anything."""

from __future__ import annotations

import fnmatch
import signal
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hostile_corpus.case import Trial

WORK = "work"
"""The folder of the files, in which the command runs; beside it are its HOME, its TMPDIR and what is outside."""
MOST_CHARACTERS = 600
TRACEBACK = "Traceback (most recent call last)"
TEMPORARY = ("*.tmp", "*.old", "*.partial")
# Not control characters by category, but they reorder or break the lines of a terminal.
_UNSEEN = {*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x2028, 0x2029}


@dataclass(frozen=True)
class Limits:
    """What a command may take: seconds, and bytes of resident memory over all its processes."""

    seconds: float = 30.0
    memory: int = 2 * 2**30


@dataclass(frozen=True)
class Seen:
    """What a command did.

    code: its exit code, negative where a signal ended it. stopped: why it was ended by us, or "". orphans: whether
    processes outlived it. before, after: listings of the sandbox.
    """

    code: int
    seconds: float
    memory: int
    stdout: str
    stderr: str
    before: Mapping[str, str]
    after: Mapping[str, str]
    stopped: str = ""
    orphans: bool = False


def judge(trial: Trial, seen: Seen, limits: Limits) -> list[str]:
    """Return every rule that is broken, one line each; empty when all is well.

    Of a command that we ended nothing else is asked: what it left, it could not clear away.
    """
    if seen.stopped:
        return [seen.stopped]
    return [*_ending(trial, seen, limits), *_words(trial, seen), *_files(trial, seen)]


def _ending(trial: Trial, seen: Seen, limits: Limits) -> Iterator[str]:
    if seen.code < 0:
        yield f"ended by {signal.Signals(-seen.code).name}"
    elif seen.code not in trial.codes:
        allowed = ", ".join(map(str, sorted(trial.codes)))
        yield f"exit {seen.code} instead of {allowed}: {_quoted(last_line(seen.stderr))}"
    if seen.seconds > limits.seconds:
        yield f"took {seen.seconds:.0f} s, more than {limits.seconds:g}"
    if seen.memory > limits.memory:
        yield f"took {seen.memory / 2**20:.0f} MB, more than {limits.memory / 2**20:.0f}"
    if seen.orphans:
        yield "left processes behind"


def _words(trial: Trial, seen: Seen) -> Iterator[str]:
    for name, text in (("stdout", seen.stdout), ("stderr", seen.stderr)):
        if TRACEBACK in text:
            yield f"traceback on {name}: {_quoted(last_line(text))}"
        odd = next((c for c in text if _is_control(c)), None)
        if odd is not None:
            yield f"control character {odd!r} on {name}"
    lines = [line for line in seen.stderr.split("\n") if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    if seen.code == 0 and errors:
        yield f"exit 0 with an error: {_quoted(errors[0])}"
    if seen.code > 0 and (len(errors) != 1 or lines[-1] != errors[0]):
        yield f"stderr does not end in its one error line: {_quoted(last_line(seen.stderr))}"
    if trial.words[0] != "train" and len(lines) > len(errors):
        other = next(line for line in lines if line not in errors)
        if seen.code == 0 and all(line.startswith("warning: ") for line in lines):
            return
        yield f"more on stderr than one error line: {_quoted(other)}"
    longest = max(lines, key=len, default="")
    if len(longest) > MOST_CHARACTERS:
        yield f"a line of {len(longest)} characters on stderr: {_quoted(longest)}"


def _is_control(character: str) -> bool:
    return character not in "\n\t" and (unicodedata.category(character) == "Cc" or ord(character) in _UNSEEN)


def _files(trial: Trial, seen: Seen) -> Iterator[str]:
    for path in sorted({*seen.before, *seen.after}):
        was, now = seen.before.get(path), seen.after.get(path)
        if was == now:
            continue
        place, _, inside = path.partition("/")
        mine = place == WORK and _matches(inside, trial.writes)
        what = "created" if was is None else "changed" if now is not None else "removed"
        if was is None and _matches(path.rpartition("/")[2], TEMPORARY):
            yield f"left a temporary file: {path}"
        elif not mine:
            yield f"{what} {path}"
        elif seen.code and not (was is None and _matches(inside, trial.remains)):
            yield f"failed, but {what} {path}"
    if not seen.code:
        for name in trial.writes:
            if not name.endswith("/*") and not any(
                _matches(path, (f"{WORK}/{name}",)) for path in seen.after
            ):
                yield f"exit 0 without {name}"


def _matches(path: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


def last_line(text: str) -> str:
    """Return the last line that is not blank, or ""."""
    return next((line for line in reversed(text.split("\n")) if line.strip()), "")


def _quoted(text: str) -> str:
    return ascii(text[:160])
