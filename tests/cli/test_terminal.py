"""What reaches the terminal: names from outside escaped, narrow and plain screens, and nothing that is not ours."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnx_oto.cli import screen
from onnx_oto.cli.progress import Progress
from onnx_oto.cli.text import MOST_LINE
from onnx_oto.training import Judged, Started, Stepped

NAMES = {
    "escape": "\x1b[31m\x1b]0;title\x07\x1b[2J",
    "markup": "[red]",
    "closing markup": "[/]",
    "link": "[link=file:///x]",
    "lines": "a\nerror: fake\n",
    "return": "a\rfake",
    "c1": "\x9b31m",
    "bidi": "\u202eevil\u200b",
    "long": "N" * 50_000,
}


def renamed(model: onnx.ModelProto, prefix: str) -> onnx.ModelProto:
    """Put a prefix before every name of a model."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    for value in (*graph.input, *graph.output, *graph.initializer, *graph.node):
        value.name = prefix + value.name
    graph.input[0].type.tensor_type.shape.dim[0].dim_param = prefix
    for node in graph.node:
        node.input[:] = [prefix + name for name in node.input]
        node.output[:] = [prefix + name for name in node.output]
    return result


@pytest.fixture
def named(model: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that writes the small network with a prefix before every name."""

    def write(prefix: str) -> Path:
        path = tmp_path / "named.onnx"
        path.write_bytes(renamed(onnx.load(model), prefix).SerializeToString())
        return path

    return write


def check(text: str) -> None:
    """Fail on lines that could do anything but stand there."""
    for line in text.splitlines():
        assert line.isprintable(), repr(line[:300])
        assert len(line) <= MOST_LINE + 10
        assert not line.startswith("error: fake")


@pytest.mark.parametrize("prefix", NAMES.values(), ids=NAMES)
def test_names_of_a_model(at_screen, named, data, tmp_path, prefix):
    path, out = named(prefix), tmp_path / "out.onnx"
    train = ["train", path, "--data", data, "--run", tmp_path / "run", "--epochs", 1, "--batch", 16]
    for code, arguments in (
        (0, ["inspect", path]),
        (0, ["inspect", path, "--why", "*w1"]),
        (2, ["inspect", path, "--keep", prefix + "\x1bnone"]),
        (0, ["prune", path, "-o", out]),
        (4, ["compact", path, "-o", out]),
        (1, ["verify", path, out]),
        (2, [*train, "--model-output", prefix]),
        (0, train),
    ):
        found, printed, said = at_screen(*arguments)
        assert found == code, said
        check(printed)
        check(said)


@pytest.mark.parametrize("prefix", NAMES.values(), ids=NAMES)
def test_json_keeps_names_whole_and_is_ascii(at_screen, named, prefix):
    _, printed, _ = at_screen("inspect", named(prefix), "--json")
    assert printed.isascii()
    assert {d["name"] for d in json.loads(printed)["dimensions"]} >= {prefix + "w2", prefix + "w3"}


@pytest.mark.parametrize("prefix", NAMES.values(), ids=NAMES)
def test_arguments_and_keys_of_data(at_screen, model, data_arrays, tmp_path, prefix):
    source = tmp_path / "data.npz"
    np.savez(source, **{prefix + "x": np.zeros(2)}, **data_arrays())
    for arguments in (
        ["train", model, "--data", source, "--run", tmp_path / "run"],
        ["prune", model, "-o", tmp_path / "out.onnx", "--inputs", source],
        ["prune", model, "-o", tmp_path / "out.onnx", f"--{prefix}"],
        ["prune", model, "-o", tmp_path / "out.onnx", "--by", prefix],
        ["inspect", tmp_path / ("\udcff" + prefix)],
        [prefix],
    ):
        code, printed, said = at_screen(*arguments)
        assert code != 0
        assert printed == ""
        assert "defect" not in said
        check(said)


def test_no_command_shows_the_help_in_lines(at_screen):
    code, printed, said = at_screen()
    assert (code, printed) == (2, "")
    assert "Commands:" in said.splitlines()


def test_json_of_usage_and_of_defects(at_screen, model, monkeypatch):
    code, printed, said = at_screen("inspect", model, "--jsn", "--json")
    error = json.loads(printed)["error"]
    assert (code, error["code"], error["kind"]) == (2, 2, "UsageError")
    assert said == f"error: {error['message']}\n"
    monkeypatch.setattr("onnx_oto.pipeline.inspecting.open_model", lambda *_, **__: 1 / 0)
    code, printed, said = at_screen("inspect", model, "--json")
    error = json.loads(printed)["error"]
    assert (code, error["code"], error["kind"]) == (1, 1, "Defect")
    assert "ZeroDivisionError" in error["message"]
    assert said.count("\n") == 1


def test_not_enough_memory_is_no_defect(at_screen, model, monkeypatch):
    def fill(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("onnx_oto.pipeline.inspecting.open_model", fill)
    assert at_screen("inspect", model) == (4, "", "error: there is not enough memory for this\n")


# --- screens --------------------------------------------------------------------------------------------------------
def on_terminal(columns: int, *arguments: object, **environment: str) -> tuple[int, str]:
    """Run `onnx-oto` on a terminal of its own; return its exit code and all that came."""
    outer, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    unset = ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "TERM")
    env = {key: value for key, value in os.environ.items() if key not in unset}
    with subprocess.Popen(
        [sys.executable, "-m", "onnx_oto", *map(str, arguments)],
        stdin=subprocess.DEVNULL, stdout=inner, stderr=inner, env={**env, "TERM": "xterm", **environment},
    ) as process:  # fmt: skip
        os.close(inner)
        text = b"".join(chunks(outer)).decode()
    os.close(outer)
    return process.returncode, text.replace("\r\n", "\n")


def chunks(descriptor: int) -> Iterator[bytes]:
    while True:
        try:
            chunk = os.read(descriptor, 65536)
        except OSError:  # the other end was closed
            return
        yield chunk


def test_no_color_means_no_codes_at_all(model, data, tmp_path):
    train = ["train", model, "--data", data, "--run", tmp_path / "run", "--epochs", 2, "--batch", 16]
    for arguments in (["inspect", model], train):
        code, text = on_terminal(80, *arguments, NO_COLOR="1")
        assert code == 0, text
        assert "\x1b" not in text
        assert "\r" not in text
    assert "\x1b" in on_terminal(80, "inspect", model)[1]


def test_narrow_terminals_show_everything(at_screen, monkeypatch, model, tmp_path):
    monkeypatch.setattr(screen.out, "_width", 40)
    _, inspected, _ = at_screen("inspect", model)
    assert "w4: size 3, params 2\n  no: it is part of the model's output 'logits'\n" in inspected
    _, pruned, _ = at_screen("prune", model, "-o", tmp_path / "out.onnx")
    assert "parameters: 1,587 -> 435 (27.4%)\n" in pruned
    assert "MACs (at N=1): 55,332 -> 14,994 (27.1%)\n" in pruned
    monkeypatch.setattr(screen.out, "_width", 80)
    wide = at_screen("prune", model, "-o", tmp_path / "out.onnx")[1]
    assert re.search(r"^parameters +1,587 +435 +27\.4%$", wide, re.MULTILINE)


def test_the_width_is_that_of_the_terminal(model):
    assert "w2: size 8, params 9\n  yes\n" in on_terminal(40, "inspect", model)[1]
    assert "w2: size 8" not in on_terminal(100, "inspect", model)[1]


@pytest.mark.parametrize("columns", [20, 40, 80, 120])
def test_the_screen_of_a_run_fits_its_terminal(monkeypatch, capsys, columns):
    for key, value in {"COLUMNS": str(columns), "FORCE_COLOR": "1", "TERM": "xterm"}.items():
        monkeypatch.setenv(key, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    with Progress() as progress:
        progress.notice(Judged("test", "accuracy", 0.9))
        progress.notice(Started(3, 3333, 9999, 0, samples=64))
        progress.notice(Stepped(2, 5000, 9999, 0.5, 0.1, "shrink", 168, 280, 0.01))
        progress._live.refresh()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)
    lines = re.split(r"[\r\n]+", text)
    assert max(len(line.rstrip()) for line in lines) <= columns
    assert "…" not in text
    assert any(line.startswith(" loss") for line in lines)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_streams_that_cannot_show_all_letters(named, process_environment, encoding):
    done = subprocess.run(
        [sys.executable, "-m", "onnx_oto", "inspect", str(named("é中"))],
        capture_output=True, check=False, env={**process_environment, "PYTHONIOENCODING": encoding},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert "é中w2".encode(encoding, "backslashreplace") in done.stdout


# --- what others print ----------------------------------------------------------------------------------------------
NOISE = """
import os, warnings
import onnx_oto.pipeline.inspecting as inspecting

def noisy(*arguments, before=inspecting.open_model, **options):
    os.write(1, b"NOISE of native code\\n")
    os.write(2, b"NOISE of native code\\n")
    warnings.simplefilter("always")
    warnings.warn("NOISE of Python", RuntimeWarning)
    return before(*arguments, **options)

inspecting.open_model = noisy
from onnx_oto.cli import main
main()
"""


@pytest.mark.parametrize(
    ("environment", "heard"),
    [({}, 0), ({"PYTHONWARNINGS": "default"}, 1), ({"ONNX_OTO_DEBUG": "1"}, 3)],
)
def test_libraries_are_heard_on_demand(model, process_environment, environment, heard):
    done = subprocess.run(
        [sys.executable, "-c", NOISE, "inspect", str(model)],
        capture_output=True, text=True, check=False, env={**process_environment, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [line for line in (done.stdout + done.stderr).splitlines() if "NOISE of" in line]
    assert len([line for line in lines if "warnings.warn(" not in line]) == heard


def test_closed_streams(model, tmp_path):
    """No file gets the number of a closed stream, where libraries would print into it."""
    command = f'"{sys.executable}" -m onnx_oto prune "{model}" -o "{tmp_path}/out.onnx" >&- 2>&- <&-'
    assert subprocess.run(command, shell=True, check=False).returncode == 0
    onnx.checker.check_model(str(tmp_path / "out.onnx"))
