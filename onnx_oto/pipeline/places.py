"""What a command reads and what it would write, compared before it does either."""

from __future__ import annotations

import os
import tempfile
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from onnx_oto.errors import StorageError, UsageError
from onnx_oto.model.files.loading import stored_files
from onnx_oto.model.files.saving import is_data_of, storing
from onnx_oto.pipeline.options import FeedOptions


@dataclass(frozen=True)
class Output:
    """A file that would be written. model: it may get a data file, whose name is made from its own."""

    path: str | os.PathLike[str]
    model: bool = False

    @cached_property
    def place(self) -> Path:
        """Where it would be, links followed."""
        return _place(self.path)

    @cached_property
    def data(self) -> list[Path]:
        """The data files that are there and would go with an older model."""
        return _data_of(self.place) if self.model else []

    def covers(self, place: Path) -> bool:
        """Say whether writing this would replace or remove what is at `place`, where links are followed already."""
        if _is_same(self.place, place):
            return True
        return self.model and (
            is_data_of(self.place, place) or any(_is_same(each, place) for each in self.data)
        )


def files_read(
    path: str | os.PathLike[str], options: FeedOptions, source: str | os.PathLike[str] | None = None
) -> dict[Path, str]:
    """Return the files that are read, and what each is: the model, its external data, inputs, training data."""
    model, *external = stored_files(path)
    found = {each: f"external data of the input model, '{each}'" for each in external}
    if options.inputs is not None:
        found[Path(options.inputs)] = "the inputs to verify on"
    if source is not None:
        found[Path(source)] = "the training data"
    return {model: "the input model", **found}


def with_table(
    reads: Mapping[Path, str], writes: Sequence[Output], table: str | os.PathLike[str] | None
) -> tuple[dict[Path, str], list[Output]]:
    """Return what is read and what is written, with the latency table: read where it is there, or else written."""
    if table is None:
        return dict(reads), list(writes)
    if os.path.lexists(table):
        return {**reads, Path(table): "the latency table"}, list(writes)
    return dict(reads), [*writes, Output(table)]


def require_apart(
    reads: Mapping[Path, str], writes: Sequence[Output], remedy: str = "give another name"
) -> None:
    """Raise UsageError when an output would replace what is read, or another output.

    Links are followed. Files with several names, or on systems that take upper and lower case for one, count as one.
    """
    read = [(_place(path), what) for path, what in reads.items()]
    for index, output in enumerate(writes):
        for place, what in read:
            if output.covers(place):
                raise UsageError(f"'{output.path}' would overwrite {what}: {remedy}")
        for other in writes[:index]:
            if output.covers(other.place) or other.covers(output.place):
                raise UsageError(f"'{output.path}' would overwrite another output, '{other.path}': {remedy}")


def require_folders(writes: Sequence[Output]) -> None:
    """Raise StorageError where an output has no folder that takes files, before anything is computed for it."""
    for output in writes:
        if os.path.isdir(output.path):
            raise StorageError(f"cannot write '{output.path}': it is not a regular file")
        with storing(output.path), tempfile.TemporaryFile(dir=output.place.parent):
            pass


def _place(path: str | os.PathLike[str]) -> Path:
    return Path(os.path.realpath(path))


def _is_same(one: Path, other: Path) -> bool:
    """Say whether two resolved paths are one file; where neither exists, whether they could be on some system."""
    if one == other:
        return True
    try:
        return os.path.samefile(one, other)
    except OSError:
        return not (os.path.exists(one) or os.path.exists(other)) and _folded(one) == _folded(other)


def _folded(path: Path) -> str:
    return unicodedata.normalize("NFC", str(path)).casefold()


def _data_of(target: Path) -> list[Path]:
    try:
        return [path for path in target.parent.iterdir() if is_data_of(target, path)]
    except OSError:
        return []
