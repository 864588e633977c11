"""Run with `pytest tools/hostile_corpus`: bad commands are seen through, good ones are let pass."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hostile_corpus.case import FILES, INVALID, OK, PRUNE, TRAIN, Trial, outputs
from hostile_corpus.judge import Limits, judge
from hostile_corpus.process import attempt

REFUSES = "import sys; sys.stderr.write('error: no\\n'); sys.exit(3)"
LIMITS = Limits(seconds=3.0, memory=200 * 2**20)


def build(folder: Path) -> None:
    """Write an input, an earlier output, and a folder."""
    (folder / "m.onnx").write_bytes(b"model")
    (folder / "out.onnx").write_bytes(b"earlier")


def judged(
    code: str,
    sandbox: Path,
    codes: frozenset[int] = INVALID,
    words: tuple[str, ...] = PRUNE,
    limit: int | None = None,
) -> list[str]:
    """Return what is said of a command that is this piece of Python."""
    trial = Trial(build, words, codes, outputs(words), ("run", "run/metrics.jsonl"), limit)
    return judge(trial, attempt(trial, sandbox, LIMITS, command=(sys.executable, "-c", code)), LIMITS)


GOOD = {
    "refusal": (REFUSES, INVALID, PRUNE),
    "success": ("open('out.onnx', 'wb').write(b'new'); print('1 \\u2713')", OK, PRUNE),
    "warns": ("import sys; open('out.onnx', 'w'); sys.stderr.write('warning: hm\\n')", OK, PRUNE),
    "progress": ("import sys; sys.stderr.write('epoch 1\\nepoch 2\\nerror: no\\n'); sys.exit(8)", FILES, TRAIN),
    "metrics": (
        f"import os; os.mkdir('run'); open('run/metrics.jsonl', 'w'); {REFUSES}",
        INVALID,
        TRAIN,
    ),
    "own-temporary": (f"import tempfile\nwith tempfile.NamedTemporaryFile() as f: pass\n{REFUSES}", INVALID, PRUNE),
    "reading": (f"open('m.onnx').read(); {REFUSES}", INVALID, PRUNE),
}  # fmt: skip
BAD = {
    "other-code": (REFUSES.replace("exit(3)", "exit(1)"), INVALID, "exit 1 instead of 3, 4: 'error: no'"),
    "accepts": ("open('out.onnx', 'wb').write(b'new')", INVALID, "exit 0 instead of 3, 4"),
    "refuses": (REFUSES, OK, "exit 3 instead of 0"),
    "traceback": ("import sys; sys.excepthook(*[None] * 3) if 0 else 1 / 0", frozenset({1}), "traceback on stderr"),
    "signal": ("import os; os.kill(os.getpid(), 11)", INVALID, "ended by SIGSEGV"),
    "abort": ("import os; os.abort()", INVALID, "ended by SIGABRT"),
    "hangs": ("import time; time.sleep(60)", INVALID, "ended: more than 3 s"),
    "hangs-in-a-child": ("import subprocess; subprocess.run(['sleep', '60'])", INVALID, "ended: more than 3 s"),
    "greedy": ("x = b'x' * 300_000_000; import time; time.sleep(60)", INVALID, "ended: more than 200 MB"),
    "greedy-child": (
        "import subprocess, sys\n"
        "subprocess.run([sys.executable, '-c', \"x = b'x' * 300_000_000; import time; time.sleep(60)\"])",
        INVALID,
        "ended: more than 200 MB",
    ),
    "orphan": (
        f"import subprocess; subprocess.Popen(['sleep', '60']); {REFUSES}", INVALID, "left processes behind"),
    "silent": ("import sys; sys.exit(3)", INVALID, "stderr does not end in its one error line"),
    "two-errors": (REFUSES.replace("no", "no\\nerror: really"), INVALID, "stderr does not end in its one error line"),
    "chatty": (REFUSES.replace("error", "warning: hm\\nerror"), INVALID, "more on stderr than one error line"),
    "chatty-success": (
        "import sys; open('out.onnx', 'w'); sys.stderr.write('hm\\n')", OK, "more on stderr than one error line"),
    "chatty-after": (REFUSES.replace("no", "no\\nbye"), INVALID, "stderr does not end in its one error line"),
    "error-and-success": (
        "import sys; sys.stderr.write('error: no\\n'); open('out.onnx', 'w').write('new')", OK, "exit 0 with an error"),
    "long": (REFUSES.replace("no", "n' + 'o' * 700 + '"), INVALID, "a line of 708 characters"),
    "escape": (REFUSES.replace("no", "\\x1b[31m"), INVALID, "control character '\\x1b' on stderr"),
    "return": (REFUSES.replace("no", "a\\rb"), INVALID, "control character '\\r' on stderr"),
    "bidi": (
        "import sys; sys.stderr.reconfigure(encoding='utf-8'); " + REFUSES.replace("no", "\\u202e"),
        INVALID,
        "control character '\\u202e' on stderr",
    ),
    "escape-on-stdout": ("print('\\x1b[31m'); " + REFUSES, INVALID, "control character '\\x1b' on stdout"),
    "changes-input": (f"open('m.onnx', 'w').write('x'); {REFUSES}", INVALID, "changed work/m.onnx"),
    "removes-input": (f"import os; os.remove('m.onnx'); {REFUSES}", INVALID, "removed work/m.onnx"),
    "input-mode": (f"import os; os.chmod('m.onnx', 0o600); {REFUSES}", INVALID, "changed work/m.onnx"),
    "input-to-link": (
        f"import os; os.rename('m.onnx', 'n'); os.symlink('n', 'm.onnx'); {REFUSES}", INVALID, "changed work/m.onnx"),
    "writes-beside": (f"open('unpickled', 'w'); {REFUSES}", INVALID, "created work/unpickled"),
    "writes-outside": (f"open('../outside/x', 'w'); {REFUSES}", INVALID, "created outside/x"),
    "writes-home": (f"import os; open(os.path.expanduser('~/x'), 'w'); {REFUSES}", INVALID, "created home/x"),
    "leaves-tmp": (f"import tempfile; tempfile.mkstemp(suffix='.x'); {REFUSES}", INVALID, "created tmp/"),
    "leaves-partial": (f"open('.out.1.tmp', 'w'); {REFUSES}", INVALID, "left a temporary file: work/.out.1.tmp"),
    "leaves-old": ("open('out.onnx', 'w'); open('.out.1.old', 'w')", OK, "left a temporary file: work/.out.1.old"),
    "spoils-earlier": (f"open('out.onnx', 'w'); {REFUSES}", INVALID, "failed, but changed work/out.onnx"),
    "removes-earlier": (f"import os; os.remove('out.onnx'); {REFUSES}", INVALID, "failed, but removed work/out.onnx"),
    "without-output": ("import os; os.remove('out.onnx')", OK, "exit 0 without out.onnx"),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_a_good_command_is_let_pass(name: str, tmp_path: Path) -> None:
    code, codes, words = GOOD[name]
    assert judged(code, tmp_path, codes, words) == []


@pytest.mark.parametrize("name", BAD)
def test_a_bad_command_is_seen_through(name: str, tmp_path: Path) -> None:
    code, codes, reason = BAD[name]
    reasons = judged(code, tmp_path, codes)
    assert any(reason in line for line in reasons), reasons


def test_a_full_disk_is_met(tmp_path: Path) -> None:
    code = "open('out.onnx', 'wb').write(bytes(100_000))"
    reasons = judged(code, tmp_path, frozenset({1}), limit=16_384)
    assert any("File too large" in line for line in reasons), reasons


def test_what_a_failed_training_may_leave_is_named(tmp_path: Path) -> None:
    code = f"import os; os.mkdir('run'); open('run/result.json', 'w'); {REFUSES}"
    assert judged(code, tmp_path, INVALID, TRAIN) == ["failed, but created work/run/result.json"]
