"""What is wrong with an environment is found, in words and with a command; whatever is broken, it goes on looking."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from onnx_oto.machine import Quota, quota
from onnx_oto.pipeline.doctor import host, packages, runtimes
from onnx_oto.pipeline.doctor.commands import install, pip
from onnx_oto.pipeline.doctor.finding import Examined, Finding
from onnx_oto.pipeline.doctor.packages import Tried, tried

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def modules(tmp_path, monkeypatch) -> Path:
    """Return a folder whose modules come first."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_imports_are_tried_where_they_do_no_harm(modules):
    (modules / "oto_fine.py").write_text("__version__ = '7'\nprint('noise')\n")
    (modules / "oto_broken.py").write_text("raise RuntimeError('two\\nlines')\n")
    (modules / "oto_needs.py").write_text("import oto_not_there\n")
    (modules / "oto_deadly.py").write_text("import os\nos._exit(3)\n")
    found = tried(["oto_deadly", "oto_fine", "oto_broken", "oto_needs", "oto_missing"])
    assert found["oto_fine"] == Tried("loads", "7")
    assert found["oto_missing"].state == "missing"
    assert found["oto_needs"].state == "broken"
    assert found["oto_broken"] == Tried("broken", "RuntimeError: two\nlines")
    assert found["oto_deadly"] == Tried("broken", "importing it ends the process (code 3)")


FINE = {each.module: Tried("loads", "1") for each in (*packages.BASE, *packages.EXTRAS)}


def test_packages_that_all_need():
    (line,) = packages.base(FINE)
    assert line.state == "ok"
    assert "onnx-graphsurgeon" in line.text
    missing, broken = packages.base(
        {
            **FINE,
            "rich": Tried("missing", ""),
            "tomli_w": Tried("missing", ""),
            "onnx": Tried("broken", "x\ny"),
        }
    )
    assert (missing.state, missing.text) == ("broken", "rich, tomli-w are not installed")
    assert "install" in missing.remedy
    assert (broken.state, broken.text) == ("broken", "onnx does not load (x y)")
    assert "--force-reinstall 'onnx" in broken.remedy


def test_packages_that_are_too_old(monkeypatch):
    monkeypatch.setattr(packages, "_least", lambda: {"numpy": "99.1"})
    (line,) = packages.base(FINE)
    assert line.state == "broken"
    assert "99.1 or newer is needed" in line.text
    assert "'numpy>=99.1'" in line.remedy


def test_extras_are_notes_with_the_extra_that_brings_them():
    gone = {
        **FINE,
        "pyarrow": Tried("missing", ""),
        "numba": Tried("missing", ""),
        "PIL": Tried("broken", "no"),
    }
    found = {each.text.split()[0]: each for each in packages.extras(gone)}
    assert found["scipy"].state == "ok"
    assert (found["pyarrow"].state, "[tables]" in found["pyarrow"].remedy) == ("note", True)
    assert found["numba"].state == "warning"
    assert found["numba"].remedy.endswith("install numba")
    assert found["pillow"].state == "warning"


def test_everything_that_pyproject_names_is_looked_for():
    """A new dependency, or a new extra, is one entry in `packages`."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        project = tomllib.load(file)["project"]
    names = {re.match(r"[\w.-]+", each)[0] for each in project["dependencies"]}
    assert names <= {each.name for each in packages.BASE} | {"click", "tomli"}
    for extra, wanted in project["optional-dependencies"].items():
        if extra not in ("cuda", "data", "dev", "docs", "gpu", "runtime", "test"):
            known = {each.name for each in packages.EXTRAS if each.extra == extra}
            found = {re.match(r"[\w.-]+", each)[0] for each in wanted}
            assert {name for name in found if not name.startswith("onnxruntime")} <= known


@pytest.mark.parametrize(
    ("owners", "state", "said", "remedy"),
    [
        ({}, Tried("missing", ""), "no ONNX Runtime is installed", "[cpu]"),
        ({"onnxruntime": "1.19.2"}, Tried("loads", "1.19.2"), "onnxruntime 1.19.2", ""),
        (
            {"onnxruntime": "1.32.0", "onnxruntime-training-cpu": "1.19.2"},
            Tried("loads", "1.32.0"),
            "2 distributions own the import folder 'onnxruntime' and overwrite each other",
            "uninstall -y onnxruntime onnxruntime-training-cpu && ",
        ),
        (
            {"onnxruntime-training-cpu": "1.19.2"},
            Tried("broken", "no such file"),
            "is installed but does not load (no such file)",
            "--force-reinstall --no-deps onnxruntime-training-cpu",
        ),
        (
            {"onnxruntime-training-cpu": "1.19.2"},
            Tried("loads", "1.32.0"),
            "what loads says that it is 1.32.0: another one overwrote it",
            "'onnxruntime-training-cpu==1.19.2'",
        ),
    ],
)
def test_runtimes(monkeypatch, owners, state, said, remedy):
    monkeypatch.setattr(runtimes, "installed", lambda: owners)
    first, *_ = runtimes.runtimes(state)
    assert said in first.text
    assert (first.state == "ok") == (not remedy)
    assert remedy.strip("'") in first.remedy


def test_what_makes_gradients_here():
    found = {each.name: each.text for each in runtimes.gradients(sound=True) if each.state == "ok"}
    assert "gradients by " in found["training"]
    assert "CPUExecutionProvider" in found["devices"]
    (line,) = runtimes.gradients(sound=False)
    assert line.state == "broken"


def test_limits_of_containers_are_read(tmp_path):
    assert quota(str(tmp_path)) == Quota()
    (tmp_path / "cgroup.controllers").write_text("cpu memory\n")
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "memory.max").write_text("2147483648\n")
    assert quota(str(tmp_path)) == Quota(1.5, 1 << 31)
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert quota(str(tmp_path)) == Quota()
    older = tmp_path / "v1"
    for name in ("cpu", "memory"):
        (older / name).mkdir(parents=True)
    (older / "cpu/cpu.cfs_quota_us").write_text("50000\n")
    (older / "cpu/cpu.cfs_period_us").write_text("100000\n")
    (older / "memory/memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert quota(str(older)) == Quota(0.5, None)


def test_cores_that_a_container_does_not_give_are_told():
    (line,) = host._cores(8, 16, Quota(2.5, None))
    assert line.state == "warning"
    assert line.remedy.endswith("--shards 2")
    (line,) = host._cores(8, 16, Quota(8.0, None))
    assert line.state == "ok"


@pytest.mark.parametrize(("version", "state"), [((3, 12), "ok"), ((3, 13), "note")])
def test_pythons_without_a_training_build_are_told(monkeypatch, version, state):
    monkeypatch.setattr(host.sys, "version_info", (*version, 0))
    _, line = host.python()
    assert line.state == state
    assert (re.search(r"venv (oto|--python)", line.remedy) is not None) == (state != "ok")


def test_commands_are_those_of_this_interpreter():
    said = runtimes._exact("pip uninstall -y onnxruntime && pip install 'onnx-oto[cpu]'")
    assert said == f"{pip()} uninstall -y onnxruntime && {install('cpu')}"
    assert runtimes._exact("pip install 'onnx-oto[runtime]'") == install("runtime")
    assert runtimes._exact("") == ""


def test_temporary_files_that_cannot_be_written(monkeypatch):
    def refuse() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(host.tempfile, "TemporaryFile", refuse)
    first, *_ = host.disk()
    assert first.state == "broken"
    assert "No space left on device" in first.text


def test_only_what_is_broken_keeps_from_training():
    fine = Finding("a", "warning", "x"), Finding("b", "note", "y", "pip install y")
    assert Examined(fine).trains
    assert not Examined((*fine, Finding("c", "broken", "z"))).trains
    assert Examined(fine).as_json()["findings"][1] == {
        "name": "b",
        "state": "note",
        "text": "y",
        "remedy": "pip install y",
    }


def doctor(
    *arguments: str,
    env: dict[str, str] | None = None,
    python: str = sys.executable,
    flags: tuple[str, ...] = (),
):
    """Run the command."""
    command = [python, *flags, "-m", "onnx_oto", "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env, timeout=300)


def test_this_environment_trains():
    done = doctor("--json")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert (told["schema"], told["trains"]) == (1, True)
    names = {each["name"] for each in told["findings"]}
    assert {
        "python",
        "packages",
        "runtime",
        "training",
        "processor",
        "cores",
        "memory",
        "disk",
        "extra",
    } <= names


def test_it_works_where_next_to_nothing_is_installed(tmp_path):
    """An interpreter that finds click and this package, and neither numpy, onnx, a runtime nor rich."""
    packages_of = Path(sysconfig.get_paths()["purelib"])
    (tmp_path / "click").symlink_to(packages_of / "click")
    (tmp_path / "onnx_oto").symlink_to(ROOT / "onnx_oto")
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = doctor(env=env, flags=("-S",))
    assert done.returncode == 7, done.stderr
    assert "Traceback" not in done.stderr
    assert "BROKEN  packages: numpy, onnx, " in done.stdout
    assert "BROKEN  runtime: no ONNX Runtime is installed" in done.stdout
    assert done.stdout.count("mend it: ") >= 4
    assert "training does NOT work here" in done.stdout
    told = json.loads(doctor("--json", env=env, flags=("-S",)).stdout)
    assert told["trains"] is False
