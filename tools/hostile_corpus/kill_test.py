"""Run with `pytest tools/hostile_corpus`: commands that replace their files in one step survive being killed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from hostile_corpus import kill
from hostile_corpus.placing import carrier, write

SAFE = """
import os, sys, json, glob, time
for old in glob.glob('*.tmp'):
    os.remove(old)
with open('out.json.tmp', 'w') as file:
    json.dump([sys.argv[1]] * 2000, file)
time.sleep(0.05)
os.replace('out.json.tmp', 'out.json')
"""
LITTERING = SAFE.replace("os.remove(old)", "pass").replace("'out.json.tmp'", "f'{time.time()}.tmp'", 1)
HALF = """
import sys, json, time
with open('out.json', 'w') as file:
    for character in json.dumps([sys.argv[1]] * 40):
        file.write(character)
        file.flush()
        time.sleep(0.0002)
"""
REMOVING = SAFE.replace("with open", "os.path.exists('out.json') and os.remove('out.json')\nwith open")


def run(code: str, capsys: pytest.CaptureFixture[str], count: int = 8) -> tuple[int, str]:
    """Return the exit code and the words of a run on a command that is this piece of Python."""
    job = kill.Job(lambda folder: None, ("earlier",), ("new",), ("out.json",))
    result = kill.run(count, 0, command=(sys.executable, "-c", code), jobs={"fake": job})
    return result, capsys.readouterr().out


def test_whole_files_pass(capsys: pytest.CaptureFixture[str]) -> None:
    result, said = run(SAFE, capsys)
    assert (result, "FAILED" in said) == (0, False), said


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (HALF, "out.json is broken"),
        (REMOVING, "out.json is gone"),
        (LITTERING.replace("os.replace('out.json.tmp'", "os.replace(file.name"), ".tmp"),
    ],
)
def test_half_files_missing_ones_and_litter_fail(
    code: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result, said = run(code, capsys)
    assert result == 1
    assert words in said


def test_a_whole_file_can_be_used(tmp_path: Path) -> None:
    write(tmp_path, carrier())
    model = tmp_path / "m.onnx"
    assert kill.is_whole(model)
    model.write_bytes(model.read_bytes()[:-100])
    assert not kill.is_whole(model)
    np.savez(tmp_path / "a.npz", a=np.ones(1000))
    assert kill.is_whole(tmp_path / "a.npz")
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:-300])
    assert not kill.is_whole(tmp_path / "a.npz")
    lines = tmp_path / "m.jsonl"
    lines.write_text('{"a": 1}\n{"a"')
    assert kill.is_whole(lines)
    lines.write_text('{"a"\n{"a": 1}\n')
    assert not kill.is_whole(lines)
