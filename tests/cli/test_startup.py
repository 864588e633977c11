"""What a command loads. Not how long it takes (tools/bench_startup.py measures that): a test knows only the cause."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

DUMP = """
import atexit, sys
def dump(path=sys.argv.pop(1)):
    with open(path, "w") as file:
        file.write("\\n".join(sys.modules))
atexit.register(dump)
from onnx_oto.cli import main
main()
"""
LARGE = frozenset({"numpy", "onnx", "onnxruntime", "onnx_graphsurgeon", "rich", "psutil", "subprocess"})
LARGE |= {"tomli", "tomli_w", "tomllib", "importlib.metadata"}
OURS = ("machine", "settings", "cli", "errors", "signals", "peers", "text")
"""What of this package a command line is read with."""
COMPLETE = {"_ONNX_OTO_COMPLETE": "bash_complete"}


def loaded(folder: Path, *arguments: object, **environment: str) -> set[str]:
    """Return the modules that are loaded when a command line ends."""
    command = [sys.executable, "-c", DUMP, str(folder / "modules"), *map(str, arguments)]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, check=False)
    assert b"Traceback" not in done.stderr, done.stderr
    return set((folder / "modules").read_text().split())


def typed(words: str) -> dict[str, str]:
    """Return the environment by which bash asks what may follow."""
    return {**COMPLETE, "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--help"], {}),
        (["--version"], {}),
        (["inspct"], {}),
        ([], {}),
        (["train", "m.onnx", "--sparsty", "1"], {}),
        (["inspect"], {}),
        ([], typed("onnx-oto ins")),
        ([], typed("onnx-oto inspect --fix")),
        ([], typed("onnx-oto train --spa")),
        ([], typed("onnx-oto train --scope g")),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else given.get("COMP_WORDS", ""),
)
def test_reading_a_command_line_loads_nothing_large(
    tmp_path: Path, arguments: list[str], environment: dict[str, str]
) -> None:
    trains = arguments[:1] == ["train"] or "train" in environment.get("COMP_WORDS", "")
    large = (
        LARGE - {"numpy"} if trains else LARGE
    )  # optimizers, arrays all of them, state options of their own
    runs = (
        large - {"psutil", "subprocess"} if arguments[:1] == ["train"] else large
    )  # its process starts early
    found = loaded(tmp_path, *arguments, **environment)
    assert not found & runs
    ours = {name for name in found if name.startswith("onnx_oto.")}
    allowed = (
        *OURS,
        "pipeline",
        *(["optim"] if trains else []),
        *(["runtime"] if arguments[:1] == ["train"] else []),
    )
    assert {name for name in ours if name.split(".")[1] not in allowed} == set()
    pipeline = {name for name in ours if name.startswith("onnx_oto.pipeline.")}
    assert {name for name in pipeline if not name.endswith("options")} == set()


def test_help_of_a_command_loads_no_runtime(tmp_path: Path) -> None:
    assert not loaded(tmp_path, "train", "--help") & {"onnxruntime", "onnx_graphsurgeon", "rich"}


def test_inspect_loads_no_runtime_and_no_surgeon(tmp_path: Path, model: Path) -> None:
    found = loaded(tmp_path, "inspect", model)
    assert not found & {"onnxruntime", "onnx_graphsurgeon", "psutil", "tomllib"}
    assert "rich" in found
    assert "rich" not in loaded(tmp_path, "inspect", model, "--json")
    assert not loaded(tmp_path, "inspect", model, "--curve") & {"onnxruntime", "onnx_graphsurgeon", "psutil"}


def test_importing_the_package_loads_nothing(tmp_path: Path) -> None:
    code = "import sys; before = {*sys.modules}; import onnx_oto; print(*{*sys.modules} - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = set(done.stdout.split())
    assert {name for name in found if name.startswith("onnx_oto")} == {"onnx_oto"}
    assert not found & LARGE


def test_completion_gives_names_and_files(tmp_path: Path) -> None:
    def complete(words: str) -> list[str]:
        command = [sys.executable, "-m", "onnx_oto"]
        env = {**os.environ, **typed(words)}
        return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.split()

    assert complete("onnx-oto ins") == ["plain,inspect"]
    assert complete("onnx-oto prune m.onnx --scope g") == ["plain,global"]
    assert complete("onnx-oto train --loss m") == ["plain,mse"]
    assert complete("onnx-oto prune mod") == ["file,mod"]
