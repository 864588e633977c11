"""What a teacher says of samples that never change, written down once: a file beside the run that is read by row.

It is filled in the order of the rows before the first step, so it holds the same bits whichever batches are drawn, and
is there whole or not at all.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from onnx_oto.data import Batch, Dataset, Source, in_order
from onnx_oto.data.npyhead import DAMAGE
from onnx_oto.data.portions import portion_of
from onnx_oto.errors import StorageError
from onnx_oto.losses import teacher_target
from onnx_oto.model.files.replace import replacing
from onnx_oto.model.files.saving import remove, storing
from onnx_oto.pipeline.folder import ANSWERS, RunFolder
from onnx_oto.pipeline.ready import Say
from onnx_oto.pipeline.teacher import BATCH, Teacher

Array = npt.NDArray[Any]

MOST_BYTES = 4 << 30
"""What the answers of one split may take; a teacher that says more is asked for every batch."""
SHARE_OF_DISK = 0.25
"""Of what is free, at most."""
_TRIED = 16
"""Samples that show whether a source gives the same ones again."""


@dataclass(frozen=True, eq=False)
class Answered:
    """A source (see `Source`) whose batches hold what the teacher says. answers: float32 [samples, all numbers]."""

    source: Source
    answers: Array
    shapes: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return len(self.source)

    def batch(self, indices: npt.NDArray[np.int64], rng: np.random.Generator | None) -> Batch:
        """Return the samples at `indices`, with the targets of the teacher."""
        return self._with_answers(self.source.batch(indices, rng), indices)

    def portion(
        self, indices: npt.NDArray[np.int64], rng: np.random.Generator | None, keep: npt.NDArray[np.int64]
    ) -> Batch:
        """See `Divisible.portion`."""
        return self._with_answers(portion_of(self.source, indices, rng, keep), indices[keep])

    def _with_answers(self, found: Batch, indices: npt.NDArray[np.int64]) -> Batch:
        rows = np.asarray(self.answers[indices])
        targets, begin = dict(found.targets), 0
        for at, shape in enumerate(self.shapes):
            end = begin + int(np.prod(shape, dtype=np.int64))
            targets[teacher_target(at)] = np.ascontiguousarray(rows[:, begin:end]).reshape(-1, *shape)
            begin = end
        return found._replace(targets=targets)


def answered(dataset: Dataset, teacher: Teacher, folder: RunFolder, *, augmented: bool, say: Say) -> Dataset:
    """Return the data with what the teacher says of every split that is not augmented.

    What does not fit on the disk, and a training split that is augmented, stays as it is: the teacher is asked then.
    """
    splits = {"test": dataset.test, "val": dataset.val, "train": dataset.train}
    if augmented or not _is_still(dataset.train):
        del splits["train"]
    done: dict[str, Any] = {}
    for split, source in splits.items():
        if source is None:
            continue
        place = _written(source, teacher, split, folder, say)
        if place is not None:
            done[split] = Answered(source, np.load(place, mmap_mode="r"), teacher.shapes)
    return replace(dataset, **done)


def forget(folder: RunFolder) -> None:
    """Remove the answers of a run that has come to its end."""
    for name in ANSWERS.values():
        with storing(folder.path / name):
            remove(folder.path / name)


def _is_still(source: Source) -> bool:
    """Say whether a source gives the same samples whatever is drawn, as far as a few of them show."""
    rows = np.arange(min(_TRIED, len(source)))
    plain = source.batch(rows, None)
    drawn = source.batch(rows, np.random.default_rng(0))
    return all(np.array_equal(plain.inputs[name], drawn.inputs[name]) for name in plain.inputs)


def _written(source: Source, teacher: Teacher, split: str, folder: RunFolder, say: Say) -> Path | None:
    """Return the file with the answers for a split, filled unless it is there; None where there is no room."""
    width = sum(int(np.prod(shape, dtype=np.int64)) for shape in teacher.shapes)
    size = 4 * width * len(source)
    if _is_whole(folder.path / ANSWERS[split], (len(source), width)):
        return folder.place(ANSWERS[split])
    if size > min(MOST_BYTES, SHARE_OF_DISK * shutil.disk_usage(folder.path).free):
        return None
    place = folder.place(ANSWERS[split])
    try:
        with storing(place), replacing(place) as file:
            _fill(file, source, teacher, width)
    except StorageError as error:
        say(f"the teacher is asked for every batch: {error}")
        return None
    return place


def _fill(file: IO[bytes], source: Source, teacher: Teacher, width: int) -> None:
    """Write an npy file, batch by batch."""
    header = {"descr": "<f4", "fortran_order": False, "shape": (len(source), width)}
    np.lib.format.write_array_header_1_0(file, header)
    for batch in in_order(source, BATCH):
        said = [array.reshape(len(array), -1) for array in teacher.say(batch)]
        file.write(np.concatenate(said, axis=1).astype("<f4").tobytes())


def _is_whole(place: Path, shape: tuple[int, int]) -> bool:
    try:
        found = np.load(place, mmap_mode="r")
    except (OSError, *DAMAGE):
        return False
    return tuple(found.shape) == shape and bool(found.dtype == np.dtype("<f4"))
