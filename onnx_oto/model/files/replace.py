"""Files that take the place of others: all of them or none, and nothing is lost when the process is killed."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from onnx_oto.errors import StorageError
from onnx_oto.model.files.lock import hold
from onnx_oto.signals import POSTPONED, UNDONE, done

_WAIT_SECONDS = 60.0


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces `path` when the block ends well, and vanishes otherwise."""
    with together() as files, files.writing(files.claim(path)) as file:
        yield file


@contextlib.contextmanager
def together() -> Iterator[Replacements]:
    """Collect files that take their places when the block ends well; otherwise nothing has changed."""
    files = Replacements()
    close = files.close
    UNDONE.append(close)
    try:
        yield files
        files.commit()
    finally:
        done(close)


class Replacements:
    """What one `together` block writes. Methods raise OSError as the system gives it.

    Temporary files lie beside their targets. A target is locked from `claim` to the end of the block, so what lies
    there under the name of a temporary file of the same target is what a killed process left: `claim` removes it.
    """

    def __init__(self) -> None:
        self._held = contextlib.ExitStack()
        self._claimed: set[Path] = set()
        self._ready: list[tuple[Path, Path]] = []  # (temporary, target)
        self._created: list[Path] = []
        self._discarded: list[Path] = []
        self._scratch: list[Path] = []

    def claim(self, path: str | os.PathLike[str], clean: Callable[[Path], None] | None = None) -> Path:
        """Return the regular file that `path` names, links followed, after `clean` (`sweep`, if not given).

        Raises StorageError for anything but a regular file, and when another process goes on writing it.
        """
        target = Path(os.path.realpath(path))
        if os.path.islink(target):
            raise StorageError(f"cannot write {str(path)!r}: it is a link that leads back to itself")
        if target.exists() and not target.is_file():
            raise StorageError(f"cannot write {str(path)!r}: it is not a regular file")
        if target not in self._claimed:
            if self._held.enter_context(hold(lock_of(target), wait=_WAIT_SECONDS)):
                (clean or sweep)(target)
            self._claimed.add(target)
        return target

    @contextlib.contextmanager
    def writing(self, target: Path) -> Iterator[BinaryIO]:
        """Open a file that takes the place of a claimed target, with its mode, when all of them do."""
        temporary = beside(target, "tmp")
        self._scratch.append(temporary)
        with self._open(temporary, target) as file:
            yield file
        self._ready.append((temporary, target))

    def keeping(self, path: Path, target: Path) -> None:
        """Let a claimed target be a copy of what `path` holds now, when all take their places."""
        with self.writing(target) as file, open(path, "rb") as source:
            shutil.copyfileobj(source, file)

    @contextlib.contextmanager
    def creating(self, path: Path, *, like: Path) -> Iterator[BinaryIO]:
        """Open a file that nobody reads yet under its own name; it is removed unless all files take their places.

        It gets the mode of `like`. Raises FileExistsError.
        """
        with self._open(path, like, self._created) as file:
            yield file

    def discard(self, path: Path) -> None:
        """Remove `path` once all files are in their places."""
        self._discarded.append(path)

    def note(self, path: Path, text: str) -> None:
        """Write a file for those who come after a kill; it is removed at the end of the block in any case."""
        self._scratch.append(path)
        path.write_text(text, encoding="utf-8")

    def commit(self) -> None:
        """Give every file its place. When one cannot have it, the others are put back. No signal comes between.

        A single file is not put back: the rename that gave it its place was the last that could fail.
        """
        backups: dict[Path, Path] = {}
        begun: list[tuple[Path, Path]] = []
        with POSTPONED:
            try:
                for temporary, target in self._ready:
                    if len(self._ready) > 1 and target.exists():
                        backups[target] = beside(target, "old")
                        self._scratch.append(backups[target])
                        _duplicate(target, backups[target])
                    begun.append((temporary, target))
                    os.replace(temporary, target)
            except BaseException:
                self._put_back(begun, backups)
                raise
            self._created.clear()
        try:
            for folder in {target.parent for _, target in self._ready}:
                sync_folder(folder)
        finally:
            for path in self._discarded:
                with contextlib.suppress(OSError):
                    path.unlink()

    def _put_back(self, begun: list[tuple[Path, Path]], backups: Mapping[Path, Path]) -> None:
        for temporary, target in reversed(begun):
            if temporary.exists():
                continue  # it never went
            if target in backups:
                self._scratch.remove(backups[target])  # should it not come back, it is not removed either
                os.replace(backups[target], target)
            else:
                target.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove what is temporary, and let others write the targets."""
        for path in [*self._created, *self._scratch]:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        self._held.close()

    @contextlib.contextmanager
    def _open(self, path: Path, like: Path, made: list[Path] | None = None) -> Iterator[BinaryIO]:
        with POSTPONED:
            opened = open(path, "xb")  # noqa: SIM115  a signal comes when it is noted
            if made is not None:
                made.append(path)
        with opened as file:
            if os.name != "nt" and like.exists():
                with contextlib.suppress(OSError):  # file systems without modes
                    os.chmod(path, stat.S_IMODE(like.stat().st_mode) & 0o777)
            yield file
            file.flush()
            os.fsync(file.fileno())


def lock_of(target: Path) -> Path:
    """Return the file that is locked while a target is written."""
    return target.with_name(f".{target.name}.lock")


def beside(target: Path, suffix: str) -> Path:
    """Return a new name for something temporary of a target."""
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}.{suffix}")


def left_beside(target: Path, suffixes: str) -> list[Path]:
    """Return the temporary files of a target whose suffixes match a pattern."""
    pattern = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{8}}\.({suffixes})")
    if not target.parent.is_dir():
        return []
    return sorted(path for path in target.parent.iterdir() if pattern.fullmatch(path.name))


def target_of(name: str) -> str | None:
    """Return the name of the file that a temporary one or a lock of this name is for, None for any other file.

    >>> target_of(".run.toml.0123abcd.tmp"), target_of(".run.toml.lock"), target_of("run.toml")
    ('run.toml', 'run.toml', None)
    """
    found = re.fullmatch(r"\.(.+)\.([0-9a-f]{8}\.(tmp|old)|lock)", name, re.DOTALL)
    return found[1] if found else None


def sweep(target: Path) -> None:
    """Remove what killed processes left of a target. Only for who holds it, or its folder, locked."""
    for path in left_beside(target, "tmp|old"):
        if path.suffix == ".old" and not target.exists():
            os.replace(path, target)
        else:
            path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make a rename itself durable, where the system can open folders."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _duplicate(path: Path, copy: Path) -> None:
    """Give a file a second name, or make a copy where the file system knows no such thing."""
    try:
        os.link(path, copy)
    except (OSError, AttributeError, NotImplementedError):
        shutil.copy2(path, copy)
