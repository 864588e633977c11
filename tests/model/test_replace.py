"""Files that take the place of others."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from onnx_oto.errors import StorageError
from onnx_oto.model.files import lock as lock_module
from onnx_oto.model.files import replace as replace_module
from onnx_oto.model.files.lock import hold
from onnx_oto.model.files.replace import replacing, together

POSIX = pytest.mark.skipif(os.name == "nt", reason="modes and links of POSIX")


def write(path: Path, content: bytes) -> None:
    with replacing(path) as file:
        file.write(content)


def write_all(targets: list[Path], interrupted: int | None = None) -> None:
    """Replace files together; an interruption comes in the middle of one of them."""
    with together() as files:
        for number, path in enumerate(targets):
            with files.writing(files.claim(path)) as file:
                file.write(b"new")
                if number == interrupted:
                    raise KeyboardInterrupt


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@POSIX
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o755])
def test_what_is_replaced_keeps_its_mode(mode, tmp_path):
    target = tmp_path / "file"
    target.write_bytes(b"old")
    target.chmod(mode)
    write(target, b"new")
    assert (target.read_bytes(), stat.S_IMODE(target.stat().st_mode)) == (b"new", mode)


@POSIX
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_what_is_new_respects_the_umask(umask, mode, tmp_path):
    before = os.umask(umask)
    try:
        write(tmp_path / "file", b"new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


@POSIX
def test_links_are_followed_and_loops_refused(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(StorageError, match="a link that leads back to itself"):
        write(tmp_path / "loop", b"new")


@pytest.mark.parametrize("failing", [0, 1, 2])
@pytest.mark.parametrize("can_link", [True, False])
def test_all_or_none(failing, can_link, tmp_path, monkeypatch):
    """The renames go in order; when one fails, those before it are undone."""
    targets = [tmp_path / name for name in ("a", "b", "c")]
    for path in (targets[0], targets[2]):
        path.write_bytes(b"old")
    rename = os.replace

    def fail_at(source: Path, target: Path) -> None:
        if target == targets[failing] and source.suffix == ".tmp":
            raise OSError(5, "Input/output error")
        rename(source, target)

    def no_links(*paths: Path) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "replace", fail_at)
    if not can_link:
        monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(OSError, match="Input/output"):
        write_all(targets)
    assert names(tmp_path) == ["a", "c"]
    assert targets[0].read_bytes() == targets[2].read_bytes() == b"old"


def test_nothing_changes_before_everything_is_written(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        write_all([tmp_path / "a", tmp_path / "b"], interrupted=1)
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_what_killed_processes_left_goes_but_nothing_else(tmp_path):
    left = [".file.0123abcd.tmp", ".file.0123abcd.old", ".file.lock"]
    others = [".file.tmp", ".file.0123abcd.txt", ".file2.0123abcd.tmp", "file.0123abcd.tmp", ".other.lock"]
    for name in ["file", *left, *others]:
        (tmp_path / name).write_text(name)
    write(tmp_path / "file", b"new")
    assert names(tmp_path) == sorted(["file", *others])


def test_a_backup_comes_back_where_its_file_is_gone(tmp_path):
    (tmp_path / ".file.0123abcd.old").write_text("precious")
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "file"):
        raise KeyboardInterrupt
    assert names(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "precious"


HOLD = """
import sys
from pathlib import Path
from onnx_oto.model.files.replace import replacing
with replacing(Path(sys.argv[1])) as file:
    print("held", flush=True)
    sys.stdin.read()
"""


def test_temporary_files_of_running_processes_are_left_alone(tmp_path, monkeypatch):
    """The other process is waited for; once it is dead, what it left is removed."""
    monkeypatch.setattr(replace_module, "_WAIT_SECONDS", 0.2)
    target = tmp_path / "file"
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(target)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout is not None
    with other:
        assert other.stdout.readline().strip() == b"held"
        temporary = [path for path in tmp_path.iterdir() if path.suffix == ".tmp"]
        assert len(temporary) == 1
        with pytest.raises(StorageError, match="another process is writing there"):
            write(target, b"mine")
        assert temporary[0].exists()
        other.kill()
    write(target, b"mine")
    assert names(tmp_path) == ["file"]


def test_a_lock_excludes_others_and_leaves_nothing(tmp_path):
    place = tmp_path / "lock"
    with hold(place) as held:
        assert held
        with pytest.raises(StorageError, match="another process"), hold(place):
            pass
        assert place.exists()
    assert names(tmp_path) == []
    place.write_text("left by a process that was killed")
    with hold(place) as held:
        assert held
    assert names(tmp_path) == []


@POSIX
def test_a_lock_on_a_file_that_its_holder_just_removed_is_none(tmp_path, monkeypatch):
    place, real, removed = tmp_path / "lock", lock_module._lock, []

    def lock(descriptor: int) -> None:
        if not removed:
            removed.append(place.unlink())
        real(descriptor)

    monkeypatch.setattr(lock_module, "_lock", lock)
    with hold(place) as held:
        assert held
        assert place.exists()


@POSIX
def test_without_locks_work_goes_on_and_nothing_is_swept(tmp_path, monkeypatch):
    def unsupported(descriptor: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(lock_module, "_lock", unsupported)
    (tmp_path / ".file.0123abcd.tmp").write_text("whose?")
    write(tmp_path / "file", b"new")
    assert names(tmp_path) == [".file.0123abcd.tmp", "file"]
