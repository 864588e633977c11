"""Going on with a run that was left: the same bytes, and a refusal wherever they would not be."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnx_oto.training import load_checkpoint
from tests.cli.warm import cold, start
from tests.cli.warm import run as oto

RUN = ["--epochs", "6", "--batch", "16", "--shards", "1", "--skip-latency"]
MODELS = ("trained.onnx", "compact.onnx")
STOP = """
import os, signal, sys
import onnx_oto.training.loop as loop
before, calls = loop.evaluate, []
def stopping(*arguments, **options):
    calls.append(1)
    if len(calls) == {call}:
        {what}
    return before(*arguments, **options)
loop.evaluate = stopping
from onnx_oto.cli import main
main()
"""
HEAVY = """
import os
import onnx_oto.pipeline.preparing as preparing
def heavy(*arguments, **options):
    os._exit(99)
preparing.{what} = heavy
from onnx_oto.cli import main
main()
"""
FULL = "raise OSError(28, 'No space left on device')"


@pytest.fixture(scope="module")
def inputs(model: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model and data, and a run that nobody left."""
    folder = tmp_path_factory.mktemp("resume")
    shutil.copy(model, folder / "tiny.onnx")
    shutil.copy(data, folder / "spots.npz")
    done = cold("train", "tiny.onnx", "--data", "spots.npz", "--run", "whole", *RUN, at=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def left(inputs: Path, tmp_path: Path) -> Path:
    """Return a copy of the folder with a run that was left after its third epoch."""
    folder = tmp_path / "copy"
    shutil.copytree(inputs, folder)
    leave(folder)
    return folder


def leave(folder: Path, what: str = "os.kill(os.getpid(), signal.SIGKILL)", *more: str) -> int:
    """Begin a run and let something happen to it in its fourth epoch; return the exit code."""
    code = STOP.format(call=4, what=what)
    words = ["train", "tiny.onnx", "--data", "spots.npz", "--run", "run", *RUN, *more]
    return oto(*words, at=folder, code=code).returncode


def same(folder: Path) -> bool:
    return all(
        (folder / "run" / name).read_bytes() == (folder / "whole" / name).read_bytes() for name in MODELS
    )


def refusal(folder: Path, code: int, *arguments: str, before_what: str = "rehearse") -> str:
    """Return the one line that `resume` refuses with; nothing in the folder of the run changes.

    before_what: what takes long, and must not have begun by then.
    """
    (folder / "run/.onnx-oto.lock").unlink(missing_ok=True)
    before = {path.name: path.read_bytes() for path in (folder / "run").iterdir()}
    done = oto("resume", "run", *arguments, at=folder, code=HEAVY.format(what=before_what))
    assert done.returncode == code, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert {path.name: path.read_bytes() for path in (folder / "run").iterdir()} == before
    return lines[0]


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_after_a_signal_the_same_comes_out(inputs, tmp_path, number):
    folder = tmp_path / "copy"
    shutil.copytree(inputs, folder)
    code = leave(folder, f"os.kill(os.getpid(), signal.{number})")
    assert code == (-9 if number == "SIGKILL" else 128 + getattr(signal, number))
    done = oto("resume", "run", at=folder)
    assert done.returncode == 0, done.stderr
    assert "going on in epoch" in done.stderr
    assert same(folder)
    lines = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    assert [each["epoch"] for each in lines if each["kind"] == "epoch"] == [1, 2, 3, 4, 5, 6]
    whole = [json.loads(line) for line in (folder / "whole/metrics.jsonl").read_text().splitlines()]
    timed = {"seconds": 0, "waited": 0}
    assert [{**each, **timed} for each in lines] == [{**each, **timed} for each in whole]
    assert (folder / "run/run.toml").read_bytes() == (folder / "whole/run.toml").read_bytes()


def test_a_full_disk(inputs, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(inputs, folder)
    assert leave(folder, FULL) == 8
    assert oto("resume", "run", at=folder).returncode == 0
    assert same(folder)


SMALL_DISK = """
mkdir disk && mount -t tmpfs -o size={size} small disk || exit 77
{train}
echo $? > left
mount -o remount,size=64m disk || exit 77
{resume}
echo $? > gone_on
cp -r disk/run run
"""


@pytest.mark.parametrize("share", [1 / 3, 2 / 3, 1])
def test_a_disk_that_is_really_full(inputs, tmp_path, share):
    """A file system in memory, of namespaces of its own, that grows before the run goes on."""
    folder = tmp_path / "copy"
    shutil.copytree(inputs, folder)
    page = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
    needed = [
        each for each in (folder / "whole").iterdir() if each.name != "report.html"
    ]  # a run ends well without it
    pages = sum(-(-each.stat().st_size // page) for each in needed)
    one = [sys.executable, "-m", "onnx_oto"]
    words = [*one, "train", "tiny.onnx", "--data", "spots.npz", "--run", "disk/run", *RUN]
    script = SMALL_DISK.format(
        size=int(pages * share) * page,
        train=f"{shlex.join(words)} 2> said",
        resume=f"{shlex.join([*one, 'resume', 'disk/run'])} 2> said_later",
    )
    try:
        done = subprocess.run(
            ["unshare", "-Urm", "sh", "-c", script], cwd=folder, capture_output=True, text=True, timeout=600
        )
    except FileNotFoundError:
        pytest.skip("there is no unshare(1) here")
    if not (folder / "left").exists():
        pytest.skip(f"nothing can be mounted here: {done.stderr}")
    assert (folder / "left").read_text() == "8\n"
    (line,) = [line for line in (folder / "said").read_text().splitlines() if line.startswith("error: ")]
    assert re.match(r"error: cannot write 'disk/run/[\w.-]+': No space left on device; ", line)
    assert "onnx-oto resume disk/run`" in line or "onnx-oto compact disk/run/trained.onnx" in line
    assert (folder / "gone_on").read_text() == "0\n", (folder / "said_later").read_text()
    assert same(folder)


def test_with_norms_put_back_and_a_state_that_was_found_out(inputs, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(inputs, folder)
    more = ("--batch-norm", "put-back")
    words = ["train", "tiny.onnx", "--data", "spots.npz", "--run", "whole", "--overwrite", *RUN, *more]
    done = oto(*words, at=folder)
    assert "the model comes from scratch: " in done.stdout + done.stderr
    assert leave(folder, "os.kill(os.getpid(), signal.SIGKILL)", *more) == -9
    done = oto("resume", "run", at=folder)
    assert done.returncode == 0, done.stderr
    assert "the model comes " not in done.stdout + done.stderr
    assert "the norms put back are folded in again" in done.stdout + done.stderr
    assert same(folder)


def test_left_after_the_last_step(inputs, tmp_path):
    """What is left is to cut, verify and measure."""
    folder = tmp_path / "copy"
    shutil.copytree(inputs, folder)
    kill = "import os, signal\nimport onnx_oto.pipeline.train as t\n"
    kill += "t.finish = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)\n"
    kill += "from onnx_oto.cli import main\nmain()"
    words = ["train", "tiny.onnx", "--data", "spots.npz", "--run", "run", *RUN]
    assert oto(*words, at=folder, code=kill).returncode == -9
    assert not (folder / "run/trained.onnx").exists()
    assert oto("resume", "run", at=folder).returncode == 0
    assert same(folder)


def test_kills_at_random_moments(tmp_path, monkeypatch):
    """A sample of what tools/kill_resume.py does two hundred times."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "tools")
    import kill_resume

    monkeypatch.setattr(kill_resume, "start_process", lambda folder, words: start(*words, at=folder))
    trial = kill_resume.Trial(tmp_path, seed=3)
    for number in range(4):
        assert trial.killed(number)[1] == ""


def test_a_complete_run_stays_as_it_is(inputs, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(inputs / "whole", folder / "run")
    before = {path.name: path.read_bytes() for path in (folder / "run").iterdir()}
    for name in ("result.json", ".onnx-oto.json"):  # killed when all was done
        (folder / f"run/.{name}.lock").touch()
    done = oto("resume", "run", at=folder)
    assert (done.returncode, done.stdout) == (0, "the run is complete: its result is in 'run/result.json'\n")
    found = json.loads(oto("resume", "run", "--json", at=folder).stdout)
    assert found["params"]["after"] < found["params"]["before"]
    assert {path.name: path.read_bytes() for path in (folder / "run").iterdir()} == before
    for name in ("tiny.onnx", "spots.npz"):
        shutil.copy2(inputs / name, folder)
    (folder / "run/result.json").write_text("{}")
    again = oto("resume", "run", at=folder)
    assert (again.returncode, "result.json is damaged: it is made again" in again.stderr) == (0, True)
    assert json.loads((folder / "run/result.json").read_text())["verify"]["passed"] is True
    assert (folder / "run/compact.onnx").read_bytes() == before["compact.onnx"]


def test_the_newest_checkpoint_is_damaged(left):
    """The one before is complete; where that is damaged too, nothing is touched."""
    place = left / "run/checkpoint.npz"
    place.write_bytes(place.read_bytes()[:-100])
    done = oto("resume", "run", at=left)
    assert done.returncode == 0
    assert "checkpoint.npz' is damaged" in done.stderr
    assert "the one before it is used" in done.stderr
    assert same(left)


def test_no_checkpoint_can_be_read(left):
    for name in ("checkpoint.npz", "checkpoint-before.npz"):
        (left / "run" / name).write_bytes(b"gone")
    assert "checkpoint.npz' is damaged" in refusal(left, 8)


def test_another_model(left):
    place = left / "tiny.onnx"
    before = place.read_bytes()
    place.write_bytes(before.replace(b"tiny", b"tony"))
    assert "the model is not the one that the run began with" in refusal(left, 2, before_what="open_model")
    place.rename(left / "moved.onnx")
    assert "tiny.onnx' any more: say where with --model" in refusal(left, 8)
    (left / "moved.onnx").write_bytes(before)
    assert oto("resume", "run", "--model", "moved.onnx", at=left).returncode == 0
    assert same(left)


def test_other_data(left):
    place = left / "spots.npz"
    arrays = dict(np.load(place))
    os.utime(place, (1, 1))  # contents that were read whole tell more than times
    np.savez(left / "other.npz", **{**arrays, "y_train": arrays["y_train"][::-1]})
    np.savez(left / "fewer.npz", **{name: array[:40] for name, array in arrays.items()})
    assert "the data have changed since the run began (the contents differ)" in refusal(
        left, 5, "--data", "other.npz"
    )
    assert "there were 96 and now 40 train samples" in refusal(left, 5, "--data", "fewer.npz")
    assert oto("resume", "run", at=left).returncode == 0
    assert same(left)


def test_other_data_of_a_function(inputs, tmp_path):
    """Nothing is known of them but samples, which are looked at before the cut is rehearsed."""
    folder = tmp_path / "copy"
    shutil.copytree(inputs, folder)
    source = "import numpy as np\ndef load():\n    found = dict(np.load('spots.npz'))\n{}    return found\n"
    (folder / "mine.py").write_text(source.format(""))
    words = ["train", "tiny.onnx", "--data", "mine:load", "--run", "run", *RUN]
    assert oto(*words, at=folder, code=STOP.format(call=4, what="os._exit(7)")).returncode == 7
    for change, text in (
        ("found['x_test'] = found['x_test'] * 2", "sampled contents of the test split differ"),
        ("found = {k: v[:40] for k, v in found.items()}", "there were 96 and now 40 train samples"),
        (
            "found |= {k[:2] + 'val': v for k, v in found.items() if 'test' in k}",
            "none and now 48 val samples",
        ),
    ):
        (folder / "mine.py").write_text(source.format(f"    {change}\n"))
        assert text in refusal(folder, 5)
    (folder / "mine.py").write_text(source.format(""))
    assert oto("resume", "run", at=folder).returncode == 0
    assert same(folder)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("batch = 16", "batch = 8", "batch is 8 in run.toml, and the run began with 16: put it back"),
        ("lr = 0.1", "lr = 0.2", "lr is 0.2 in run.toml, and the run began with 0.1: give it as --lr"),
        ("flip = false", "flip = true", "flip is True in run.toml"),
        (
            "flip = false",
            "flip = false\nema = 0.9",
            "ema is 0.9 in run.toml, and the run began without it: put it back",
        ),
    ],
)
def test_other_settings(left, old, new, text):
    place = left / "run/run.toml"
    assert old in place.read_text()
    place.write_text(place.read_text().replace(old, new))
    assert text in refusal(left, 2, before_what="open_model")


def test_files_that_settings_name(inputs, tmp_path):
    """A teacher that has moved; a folder that other runs unpack into, and runs among the data, are no other data."""
    folder = tmp_path / "copy"
    shutil.copytree(inputs, folder)
    for each in ("cache", "data"):
        (folder / each).mkdir()
    (folder / "cache/before.npy").write_text("of another run")
    (folder / "spots.npz").rename(folder / "data/spots.npz")
    shutil.copy(folder / "tiny.onnx", folder / "teacher.onnx")
    more = ["--teacher", "teacher.onnx", "--cache", "cache", "--lr", "0.01", *RUN]
    words = ["train", "tiny.onnx", "--data", "data/spots.npz", "--run", "run", *more]
    code = STOP.format(call=4, what="os.kill(os.getpid(), signal.SIGKILL)")
    assert oto(*words, at=folder, code=code).returncode == -9
    (folder / "cache/later.npy").write_text("of another run")
    (folder / "teacher.onnx").rename(folder / "moved.onnx")
    line = refusal(folder, 8)
    assert (
        "the file of --teacher is not at 'run/../teacher.onnx' any more: put it back, or write where" in line
    )
    place = folder / "run/run.toml"
    place.write_text(place.read_text().replace("../teacher.onnx", "../moved.onnx"))
    done = oto("resume", "run", at=folder)
    assert done.returncode == 0, done.stderr


def test_what_a_teacher_said_is_asked_again_where_no_checkpoint_says_of_what_it_was(inputs, tmp_path):
    """Killed before the first checkpoint; then the data are other ones."""
    folder = tmp_path / "copy"
    shutil.copytree(inputs, folder)
    words = ["train", "tiny.onnx", "--data", "spots.npz", "--loss", "distill", *RUN]
    kill = "import os, signal\nimport onnx_oto.training.keeping as k\n"
    kill += "k.Keeper.save = lambda *a: os.kill(os.getpid(), signal.SIGKILL)\n"
    kill += "from onnx_oto.cli import main\nmain()"
    assert oto(*words, "--run", "run", at=folder, code=kill).returncode == -9
    assert (folder / "run/teacher-train.npy").exists()
    arrays = dict(np.load(folder / "spots.npz"))
    np.savez(folder / "spots.npz", **{**arrays, "x_train": arrays["x_train"][::-1]})
    assert oto("resume", "run", at=folder).returncode == 0
    done = oto(*words, "--run", "whole", "--overwrite", at=folder)
    assert done.returncode == 0, done.stderr
    assert same(folder)


def test_a_run_among_its_data(model, tmp_path):
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for label in "abc":
            (tmp_path / "data" / split / label).mkdir(parents=True)
            for number in range(11):
                pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / split / label / f"{number}.png")
    code = STOP.format(call=4, what="os.kill(os.getpid(), signal.SIGKILL)")
    words = ["train", str(model), "--data", "data", "--run", "data/run", *RUN]
    assert oto(*words, at=tmp_path, code=code).returncode == -9
    for left in (
        ".checkpoint.npz.0123abcd.tmp",
        ".checkpoint-before.npz.0123abcd.tmp",
        ".checkpoint.npz.lock",
    ):
        (tmp_path / "data/run" / left).write_text("killed while it was written")
    done = oto("resume", "data/run", at=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_file_of_somebody_else(left):
    (left / "run/trained.onnx").write_text("mine")
    assert "trained.onnx' would be replaced, but no earlier run wrote it: move it" in refusal(left, 2)


def test_what_is_no_run(left, tmp_path):
    (tmp_path / "run").mkdir()
    assert "holds no run to go on with" in refusal(tmp_path, 2)
    (left / "run/run.toml").unlink()
    assert "was left before it had begun: start it again" in refusal(left, 2)


def test_another_process_goes_on_with_it(inputs, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(inputs, folder)
    words = ["train", "tiny.onnx", "--data", "spots.npz", "--run", "run", *RUN, "--epochs", "100000"]
    with subprocess.Popen(
        [sys.executable, "-m", "onnx_oto", *words], cwd=folder, stderr=subprocess.DEVNULL
    ) as process:
        end = time.monotonic() + 300
        while not (folder / "run/checkpoint.npz").exists() and time.monotonic() < end:
            time.sleep(0.05)
        done = oto("resume", "run", at=folder)
        process.kill()
    assert done.returncode == 2
    assert "another run is writing to" in done.stderr


def test_after_a_divergence_a_lower_rate_goes_on_from_before_it(inputs, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(inputs, folder)
    code = "import math, onnx_oto.training.loop as loop\nbefore = loop._Training.gradient\n"
    code += "def gradient(self, group):\n    loss = before(self, group)\n"
    code += "    sick = self.session.steps > 20 and self.recipe.lr.base > 0.05\n"
    code += "    return math.nan if sick else loss\n"
    code += "loop._Training.gradient = gradient\nfrom onnx_oto.cli import main\nmain()"
    words = ["train", "tiny.onnx", "--data", "spots.npz", "--run", "run", *RUN]
    done = oto(*words, at=folder, code=code)
    assert done.returncode == 6, done.stderr
    assert "the last checkpoint before it is in 'run/last-good.npz'" in done.stderr
    assert load_checkpoint(folder / "run/last-good.npz").progress.step == 18
    line = refusal(folder, 2)
    assert "diverged after step 18 at a learning rate of 0.1" in line
    assert "`onnx-oto resume run --lr 0.03`" in line
    done = oto("resume", "run", "--lr", "0.03", at=folder, code=code)
    assert done.returncode == 0, done.stderr
    assert not (folder / "run/last-good.npz").exists()
    assert "lr = 0.03\n" in (folder / "run/run.toml").read_text()
    lines = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    assert [each["epoch"] for each in lines if each["kind"] == "epoch"] == [1, 2, 3, 4, 5, 6]
    assert max(each["lr"] for each in lines[-3:]) < 0.03


def test_the_demo_goes_on_too(tmp_path):
    """Its model and data are the embedded ones."""
    words = ["--run", "run", "--epochs", "1", "--shards", "2"]
    code = "import os, signal\nimport onnx_oto.pipeline.train as t\n"
    code += "t.finish = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)\n"
    code += "from onnx_oto.cli import main\nmain()"
    assert oto("demo", *words, at=tmp_path, code=code).returncode == -9
    done = oto("resume", "run", "--json", at=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verify"]["passed"]
