"""Signals at any moment: the documented code, one line, nothing half done."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import onnx
import pytest

from onnx_oto.pipeline.folder import BEFORE, CHECKPOINT, MANIFEST, METRICS, SETTINGS
from tests.cli import warm

CODES = {signal.SIGHUP: 129, signal.SIGINT: 130, signal.SIGTERM: 143}
OLD = b"what was there before"
MAIN = "\nfrom onnx_oto.cli import main\nmain()"


def start(*arguments: Any, code: str = "") -> subprocess.Popen[str]:
    """Start `onnx-oto` from the ground up; `code` runs before it, in the same process."""
    how = ["-c", code + MAIN] if code else ["-m", "onnx_oto"]
    return subprocess.Popen(
        [sys.executable, *how, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_loaded(*arguments: Any, code: str) -> warm.Process:
    """Start `onnx-oto` where nothing is to happen before all is loaded; `code` runs before it, in the same process."""
    return warm.start(*arguments, code=code + MAIN)


def leftovers(folder: Path) -> list[Path]:
    """Return the hidden files: temporary ones and locks, but for the mark of a run."""
    return [path for path in folder.rglob(".*") if path.name != MANIFEST]


def check(process: warm.Process, sent: list[signal.Signals], *, as_json: bool = False) -> str:
    """Wait for the end, check it, and return what stderr has."""
    out, err = process.communicate(timeout=300)
    code = process.returncode
    ours = err.replace(f"{os.sep}onnx_oto{os.sep}__init__.py", "")
    if "KeyboardInterrupt" in err and f"{os.sep}onnx_oto{os.sep}" not in ours:
        return err  # the interpreter had not come to us yet, at most to the face of the package
    assert code in {0, *(CODES[number] for number in sent), *(-number for number in sent)}, err
    assert "Traceback" not in err
    assert "ignored" not in err
    if err or out:  # nothing is said by what Python itself, or loading us, is killed in
        assert err.count("interrupted") == (code > 0)
    if as_json and out and code > 0:  # an error, or the result if it was out already
        assert json.loads(out).get("error", {"code": code})["code"] == code
    return err


@pytest.mark.parametrize("seed", range(24))
def test_a_signal_at_any_moment(model, data, tmp_path, seed):
    rng = random.Random(seed)
    output, run = tmp_path / "out.onnx", tmp_path / "run"
    output.write_bytes(OLD)
    arguments = [
        ["inspect", model],
        ["prune", model, "-o", output],
        ["train", model, "--data", data, "--run", run, "--epochs", 20, "--batch", 16],
    ][seed % 3]
    as_json = rng.random() < 0.3
    sent = [rng.choice(list(CODES)) for _ in range(1 + seed % 2)]
    process = start(*arguments, *(["--json"] if as_json else []))
    time.sleep(rng.uniform(0, 1.5))
    for number in sent:
        process.send_signal(number)
        time.sleep(0.05)
    check(process, sent, as_json=as_json)
    assert leftovers(tmp_path) == []
    if arguments[0] != "prune":
        assert output.read_bytes() == OLD
    elif process.returncode == 0 or output.read_bytes() != OLD:  # the signal may come when all is written
        onnx.checker.check_model(onnx.load(output), full_check=True)


STOPS = """
import os, signal, time
def stop_at(module, name, number):
    import importlib
    where = importlib.import_module(module)
    before = getattr(where, name)
    def stopping(*arguments, **options):
        os.kill(os.getpid(), number)
        return before(*arguments, **options)
    setattr(where, name, stopping)
"""
PLACES = {
    "cutting": ("onnx_oto.pipeline.proving", "cut_out"),
    "verifying": ("onnx_oto.pipeline.proving", "compare"),
    "writing": ("onnx_oto.pipeline.finishing", "save"),
    "measuring": ("onnx_oto.pipeline.finishing", "measure"),
    "renaming": ("os", "fsync"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("number", CODES)
def test_a_signal_after_training(model, data, tmp_path, place, number):
    """It is not taken for a wish to stop training, which nobody would ask for any more."""
    module, name = PLACES[place]
    process = start_loaded(
        "train", model, "--data", data, "--run", tmp_path / "run", "--epochs", 1, "--batch", 16,
        code=f"{STOPS}\nstop_at({module!r}, {name!r}, {int(number)})",
    )  # fmt: skip
    err = check(process, [number])
    assert process.returncode == CODES[number], err
    assert leftovers(tmp_path) == []
    assert not (tmp_path / "run" / "result.json").exists()


LOADING = """
import importlib.machinery, os, pathlib, signal
kind = importlib.machinery.ExtensionFileLoader
before, sent = kind.create_module, []
def create_module(self, spec):
    if spec.name.startswith("onnx.") and not sent:
        sent.append(spec.name)
        os.kill(os.getpid(), signal.SIGINT)
        module = before(self, spec)
        pathlib.Path(PLACE).write_text(spec.name)
        return module
    return before(self, spec)
kind.create_module = create_module
"""


@pytest.mark.parametrize(
    "line", [("inspect", None), ("prune", None, "-o", "c.onnx", "--loss", "mse"), ("verify", None, None)]
)
def test_native_modules_are_loaded_to_their_end(model, tmp_path, line):
    """A signal that comes while onnx's begins is heard behind it: raised inside, it would crash the process."""
    place = tmp_path / "loaded"
    process = start(*(part or model for part in line), code=f"PLACE = {str(place)!r}\n{LOADING}")
    err = check(process, [signal.SIGINT])
    assert process.returncode == CODES[signal.SIGINT], err
    assert place.read_text().startswith("onnx.")


def test_a_signal_before_training_leaves_the_earlier_run(model, data, tmp_path):
    run = tmp_path / "run"
    train = ["train", model, "--data", data, "--run", run, "--epochs", 1, "--batch", 16]
    check(warm.start(*train), [])
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    process = start_loaded(
        *train, "--overwrite",
        code=f"{STOPS}\nstop_at('onnx_oto.pipeline.train', 'make_optimizer', {int(signal.SIGTERM)})",
    )  # fmt: skip
    check(process, [signal.SIGTERM])
    assert process.returncode == 143
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_a_signal_in_the_last_step_is_heard(model, data, tmp_path):
    process = start_loaded(
        "train", model, "--data", data, "--run", tmp_path / "run", "--epochs", 1, "--batch", 16,
        code=f"{STOPS}\nstop_at('onnx_oto.training.loop', 'evaluate', {int(signal.SIGTERM)})",
    )  # fmt: skip
    err = check(process, [signal.SIGTERM])
    assert process.returncode == 143
    assert "everything up to here is in" in err
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        MANIFEST,
        CHECKPOINT,
        BEFORE,
        METRICS,
        SETTINGS,
    }


@pytest.mark.parametrize("second", CODES)
def test_the_second_signal_interrupts_training_at_once(model, data, tmp_path, second):
    """The step after the first signal does not end; the second has its own code."""
    hang = f"""{STOPS}
stop_at("onnx_oto.training.loop", "evaluate", signal.SIGINT)
import onnx_oto.training.keeping as keeping
calls, before = [], keeping.write_state
def hanging(*arguments, **options):
    calls.append(1)
    if len(calls) == 1:  # before the first step
        return before(*arguments, **options)
    print("saving", flush=True)
    time.sleep(600)
keeping.write_state = hanging
"""
    process = start_loaded(
        "train", model, "--data", data, "--run", tmp_path / "run", "--epochs", 1, "--batch", 16, code=hang
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "saving\n"
    process.send_signal(second)
    check(process, [second])
    assert process.returncode == CODES[second]


HANG = """
import hashlib
import onnx_oto.signals
onnx_oto.signals.HANGING = 0.3
def hang(*_, **__):
    print("hanging", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
"""


@pytest.mark.parametrize("training", [False, True])
def test_native_code_that_does_not_come_back(model, data, tmp_path, training):
    """Python would never get to handle the signal; while training it takes a second one."""
    if training:
        where = "import onnx_oto.training.loop as loop\nloop.evaluate = hang"
        arguments = ["train", model, "--data", data, "--run", tmp_path / "run", "--epochs", 1]
    else:
        where = "import onnx_oto.pipeline.inspecting as inspecting\ninspecting.open_model = hang"
        arguments = ["inspect", model]
    process = start_loaded(*arguments, code=HANG + where)
    assert process.stdout is not None
    assert process.stdout.readline() == "hanging\n"
    process.send_signal(signal.SIGTERM)
    if training:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=1.0)
        process.send_signal(signal.SIGTERM)
    check(process, [signal.SIGTERM])
    assert process.returncode == 143


def test_a_worker_that_is_being_imported_does_not_hold_up_the_end():
    half = "import sys, types\nsys.modules['onnx_oto.runtime.worker'] = types.ModuleType('half')\n"
    code = f"{half}from onnx_oto.cli.ending import leave_at_once\nleave_at_once(143)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (143, "")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("verb", ["inspect", "prune", "train", "help", "usage"])
def test_nobody_reads(model, data, tmp_path, stream, verb):
    """Who stops reading results has seen enough; who does not read progress does not stop the work."""
    output, run = tmp_path / "out.onnx", tmp_path / "run"
    arguments = {
        "inspect": ["inspect", model],
        "prune": ["prune", model, "-o", output],
        "train": ["train", model, "--data", data, "--run", run, "--epochs", 1, "--batch", 16],
        "help": ["prune", "--help"],
        "usage": ["prune", "--helpp"],
    }[verb]
    reader, writer = os.pipe()
    os.close(reader)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: writer}
    done = subprocess.run(
        [sys.executable, "-m", "onnx_oto", *map(str, arguments)], check=False, text=True, **streams
    )
    os.close(writer)
    assert done.returncode == (2 if verb == "usage" else 0), done.stderr
    assert "Traceback" not in (done.stderr or "")
    assert "error" not in (done.stderr or "") or verb == "usage"
    assert output.exists() == (verb == "prune")
    assert (run / "result.json").exists() == (run / "report.html").exists() == (verb == "train")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_behind_stdout(model):
    for arguments in (["inspect", str(model)], ["inspect", str(model), "--json"], ["--help"]):
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "onnx_oto", *arguments],
                stdout=full, stderr=subprocess.PIPE, text=True, check=False,
            )  # fmt: skip
        assert done.returncode == 8
        assert done.stderr.startswith("error: cannot read or write")
        assert done.stderr.count("\n") == 1
