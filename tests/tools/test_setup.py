"""The set-up that ./tools/demo and ./tools/test share: finds a Python, mends .venv, says one clear line."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BASH = shutil.which("bash")
SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "venv.sh"

pytestmark = pytest.mark.skipif(BASH is None or sys.platform == "win32", reason="needs bash")


@pytest.fixture
def bash(tmp_path: Path):
    """Run a snippet after sourcing the script, in an empty folder, with only `tmp_path/bin` on the PATH."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "root").mkdir()

    def run(snippet: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(BASH), "-c", f"set -euo pipefail; . {SCRIPT}; {snippet}"],
            cwd=tmp_path / "root",
            env={"PATH": str(tmp_path / "bin")},
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


def fake_python(folder: Path, name: str, version: str, *, venv: bool = True) -> None:
    """A command that answers the two questions of the script as a Python of this version would."""
    code = f"import sys; sys.version_info = ({version.replace('.', ', ')}, 0, 'final', 0); exec(sys.argv[1])"
    if not venv:
        code = "import sys; sys.modules['ensurepip'] = None; " + code
    path = folder / name
    path.write_text(f'#!{BASH}\nshift\nexec {sys.executable} -c "{code}" "$@"\n')
    path.chmod(0o755)


def test_no_python_is_one_line(bash):
    result = bash("make_venv")
    assert result.returncode == 7
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert "Python 3.10, 3.11, 3.12 or 3.13" in line


@pytest.mark.parametrize("version", ["3.9", "3.14", "2.7"])
def test_other_versions_do_not_suit(version, bash, tmp_path):
    fake_python(tmp_path / "bin", "python3", version)
    assert bash("find_python").returncode == 7


@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13"])
def test_the_default_python_suits(version, bash, tmp_path):
    fake_python(tmp_path / "bin", "python3", version)
    assert bash("find_python").stdout == "python3\n"


def test_those_with_a_training_build_come_first(bash, tmp_path):
    fake_python(tmp_path / "bin", "python3.13", "3.13")
    assert bash("find_python").stdout == "python3.13\n"
    fake_python(tmp_path / "bin", "python3.10", "3.10")
    assert bash("find_python").stdout == "python3.10\n"


@pytest.mark.parametrize(("version", "extra"), [("3.12", "cpu"), ("3.13", "runtime")])
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the training build is for x86-64")
def test_the_training_build_is_taken_where_there_is_one(version, extra, bash, tmp_path):
    fake_python(tmp_path / "bin", "fake", version)
    assert bash(f"venv_python={tmp_path}/bin/fake; runtime_extra").stdout == f"{extra}\n"


def test_newer_names_come_first_and_broken_ones_are_skipped(bash, tmp_path):
    fake_python(tmp_path / "bin", "python3", "3.10")
    fake_python(tmp_path / "bin", "python3.11", "3.11")
    broken = tmp_path / "bin" / "python3.12"
    broken.write_text(f"#!{BASH}\nexit 127\n")
    broken.chmod(0o755)
    assert bash("find_python").stdout == "python3.11\n"


def test_a_python_without_venv_names_the_package(bash, tmp_path):
    fake_python(tmp_path / "bin", "python3.11", "3.11", venv=False)
    result = bash("find_python")
    assert result.returncode == 7
    (line,) = result.stderr.splitlines()
    assert "python3.11-venv" in line


def test_a_half_made_environment_is_made_again(bash, tmp_path):
    """The interpreter of the old environment is gone; a new one is made and has pip."""
    (tmp_path / "bin" / "python3.11").symlink_to(sys.executable)
    half = tmp_path / "root" / ".venv" / "bin"
    half.mkdir(parents=True)
    (half / "python").symlink_to(tmp_path / "gone")
    base = f"PYTHON={sys._base_executable}"  # type: ignore[attr-defined]
    result = bash(f"{base}; make_venv; $venv_python -m pip --version")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("pip ")
    again = bash(f"{base}; make_venv")
    assert (again.returncode, again.stderr) == (0, "")
