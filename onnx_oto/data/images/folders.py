"""Images in folders, one folder per class, or all in one without labels.

    ROOT/train/CLASS/*.jpg, ROOT/val/CLASS/*.jpg     as ImageNet is kept; also valid, validation, test
    ROOT/CLASS/*.jpg                                 a share is set apart to test
    ROOT/train/*.jpg, ROOT/*.jpg                     without labels

Nothing is decoded before a batch is asked for. What a model leaves open comes from --resize, or from the files where
all are of one size.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_oto.data.augment import Augment
from onnx_oto.data.dataset import Tables
from onnx_oto.data.fit import Pixels, Rows, Stored
from onnx_oto.data.images.decoding import Look, decode, look
from onnx_oto.data.images.files import Files, Found, find, folders_in, has_images, joined, listed, without_bad
from onnx_oto.data.images.framing import Frame, Picture, frame, picture
from onnx_oto.data.images.layout import split_folders
from onnx_oto.data.reading import Reading
from onnx_oto.data.source import TARGET, Dataset, Header, Input, Wanted
from onnx_oto.data.table import Table
from onnx_oto.errors import DataError

TEXT = "folder of images, one folder in it for each class, or without labels"
USES = ("resize", "skip_bad_files")
_LOOKS = 32
"""Files whose headers are read to learn which size images have."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """A column of images: uint8 [N, height, width, channels], decoded when they are asked for."""

    files: Files
    frame: Frame
    channels: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.files), self.frame.height, self.frame.width, self.channels)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, rows: Rows) -> npt.NDArray[np.uint8]:
        found = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for place, row in enumerate(rows.tolist()):
            found[place] = decode(self.files.path(row), self.channels, self.frame)
        return found


@dataclass(frozen=True, eq=False)
class Split:
    """Images of a split. labels: int32 [N], None where they have none."""

    path: str
    files: Files
    labels: npt.NDArray[np.int32] | None = None


@dataclass(frozen=True, eq=False)
class ImageFolder:
    """Images that were found and not opened: an Opening. notes: sentences about what lies in the folder."""

    path: str
    splits: Mapping[str, Split]
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    reading: Reading

    @cached_property
    def usual(self) -> tuple[int, int, int]:
        """Height, width and channels where a model leaves them open; 0 for sizes that differ."""
        found = looks(self.splits["train"].files)
        channels = max(each.channels for each in found)
        if self.reading.resize:
            return (self.reading.resize[0], self.reading.resize[-1], channels)
        sizes = {each[:2] for each in found}
        return (*(sizes.pop() if len(sizes) == 1 else (0, 0)), channels)

    @cached_property
    def _blank(self) -> Tables:
        height, width, channels = self.usual
        return self._tables(frame((height or 1, width or 1)), channels)

    @property
    def train(self) -> Header:
        return self._told(self._blank.train)

    @property
    def val(self) -> Header | None:
        found = self._blank.val
        return None if found is None else self._told(found)

    @property
    def test(self) -> Header:
        return self._told(self._blank.test)

    def fit(
        self,
        inputs: Mapping[str, Input],
        targets: Mapping[str, Wanted],
        *,
        pixels: Pixels | None = None,
        augment: Augment | None = None,
        needless: Collection[str] = (),
    ) -> Dataset:
        """Return the images as a model reads them (see `Opening.fit`)."""
        read = only_picture(inputs, self.path, self.reading)
        if TARGET in targets:
            self._require_classes(targets[TARGET])
        size = (read.height, read.width)
        is_usual = not self.reading.resize and self.usual[:2] == size
        cut = Frame(*size, size) if is_usual else frame(size, self.reading.resize)
        tables = self._tables(cut, read.channels)
        made = tables.fit(inputs, targets, pixels=pixels, augment=augment, needless=needless)
        resized = {"resize": list(cut.cover) if cut.stretch or cut.cover[0] != cut.cover[1] else cut.cover[0]}
        named = []
        if made.classes:
            named = [f"{len(made.classes)} classes, folders in their order: {_listed(made.classes)}"]
        notes = (*self.notes, *named, f"images are {cut}", *made.notes)
        return replace(made, notes=notes, prepared={**made.prepared, **resized})

    def _told(self, header: Header) -> Header:
        return replace(header, inputs={"": replace(header.inputs[""], shape=self.usual, adapts=True)})

    def _tables(self, cut: Frame, channels: int) -> Tables:
        made = {name: _table(name, split, cut, channels) for name, split in self.splits.items()}
        return Tables(
            made["train"], made.get("test"), made.get("val"), reading=self.reading, classes=self.classes
        )

    def _require_classes(self, target: Wanted) -> None:
        """Raise DataError where labels are missing, are not read, or are more than the model tells apart."""
        if not self.classes:
            raise DataError(
                f"'{self.path}' has images without labels, and the loss needs a target: put them into one folder for "
                "each class, or choose a loss that needs none"
            )
        if target.classes is None:
            raise DataError(
                f"'{self.path}' has a folder for each class, and the loss reads numbers: choose a loss of labels, such "
                "as cross-entropy"
            )
        if target.classes < len(self.classes):
            raise DataError(
                f"'{self.path}' has {len(self.classes)} folders of classes, the model has {target.classes} classes: "
                "move the others away"
            )


def takes(path: Path) -> bool:
    """Say whether this is a folder with images in it or below it."""
    return path.is_dir() and has_images(str(path))


def open_folder(path: str | os.PathLike[str], reading: Reading = Reading()) -> ImageFolder:
    """Return what images lie in a folder; none is opened, but where bad ones are to be left out.

    Raises StorageError, and DataError where splits do not go together.
    """
    root = os.fspath(path)
    notes: list[str] = []
    folders = _splits(root, notes)
    found = {split: find(folder) for split, folder in folders.items()}
    classes = found["train"].classes if any(map(len, found["train"].below.values())) else ()
    splits = {split: _split(each, classes, notes) for split, each in found.items()}
    splits = _assigned(splits, notes)
    if reading.skip_bad_files:
        splits = {name: _cleaned(split, notes) for name, split in splits.items()}
    return ImageFolder(root, splits, classes, tuple(notes), reading)


def _splits(root: str, notes: list[str]) -> dict[str, str]:
    """Return the folders of splits, or all as what is trained on: a class may be called train, as the vehicle is."""
    folders = split_folders(root)
    if not folders:
        return {"train": root}
    others = [
        name
        for name in folders_in(root)
        if os.path.join(root, name) not in folders.values() and has_images(os.path.join(root, name))
    ]
    if "train" in folders and others and not has_classes(folders["train"]):
        return {"train": root}
    if "train" not in folders:
        name = os.path.basename(next(iter(folders.values())))
        raise DataError(
            f"'{root}' has a folder '{name}' and none called 'train': put the images to learn from there"
        )
    if others:
        notes.append(f"left out what lies beside the folders of splits: {_listed(others)}")
    return folders


def has_classes(folder: str) -> bool:
    """Say whether there are folders with images in this one."""
    return any(has_images(os.path.join(folder, name)) for name in folders_in(folder))


def looks(files: Files) -> list[Look]:
    """Return what the headers of some files say, from the first to the last."""
    some = np.unique(np.linspace(0, len(files) - 1, _LOOKS).astype(np.int64))
    return [look(files.path(row)) for row in some.tolist()]


def only_picture(inputs: Mapping[str, Input], path: str, reading: Reading) -> Picture:
    """Return what picture the only input of a model reads. Raises DataError."""
    if len(inputs) != 1:
        raise DataError(
            f"the model has {len(inputs)} inputs, {', '.join(inputs)}, and '{path}' has images for one: say which "
            "number the others are (--set-input), or give all in an npz file"
        )
    ((name, read),) = inputs.items()
    return picture(name, read.shape, reading.resize)


def _split(found: Found, classes: tuple[str, ...], notes: list[str]) -> Split:
    """Return the images of a folder, with labels where there are classes. Raises DataError for an unknown class."""
    if found.left.count:
        more = f" and {found.left.count - 1:,} more" if found.left.count > 1 else ""
        notes.append(f"left out what is no image: '{found.left.first}'{more}")
    there = [name for name, files in found.below.items() if len(files)]
    if not classes or not there:  # without labels
        return Split(found.path, found.loose)
    unknown = sorted(set(there) - set(classes))
    if unknown:
        raise DataError(
            f"'{os.path.join(found.path, unknown[0])}' is a class without a folder in the training data, which have "
            f"{len(classes)}: {_listed(classes)}"
        )
    if loose := len(found.loose):
        more = f" and {loose - 1:,} more" if loose > 1 else ""
        notes.append(f"left out what lies beside the folders of classes: '{found.loose.path(0)}'{more}")
    absent = [name for name in classes if name not in there]
    if absent:
        notes.append(
            f"'{found.path}' has no images of {len(absent)} of {len(classes)} classes: {_listed(absent)}"
        )
    parts = [found.below.get(name, listed(())) for name in classes]
    labels = np.repeat(np.arange(len(classes), dtype=np.int32), [len(part) for part in parts])
    return Split(found.path, joined(parts), labels)


def _assigned(splits: Mapping[str, Split], notes: list[str]) -> dict[str, Split]:
    """Return which folder is train, val and test. Raises DataError where one is empty or has no labels."""
    kept = dict(splits)
    train = kept["train"]
    test = kept.get("test")
    if test is not None and test.labels is None and train.labels is not None and "val" in kept:
        notes.append(f"'{test.path}' has no folders of classes, it is not used")
        del kept["test"]
    if "test" not in kept and "val" in kept:
        kept["test"] = kept.pop("val")
        notes.append(f"the test data are those of '{kept['test'].path}'")
    for split in kept.values():
        if not len(split.files):
            raise DataError(f"'{split.path}' holds no images: put some there, or remove it")
        if (split.labels is None) != (train.labels is None):
            with_labels, without = (split, train) if train.labels is None else (train, split)
            raise DataError(
                f"'{with_labels.path}' has a folder for each class and '{without.path}' has none: arrange both alike"
            )
    return kept


def _cleaned(split: Split, notes: list[str]) -> Split:
    """Return a split without the files that cannot be decoded. Raises DataError when none is left."""
    good, faults = without_bad(split.files)
    if not faults:
        return split
    notes.append(left_out(faults, len(faults), len(split.files), "images"))
    if not len(good):
        raise DataError(f"'{split.path}': no image can be decoded: {faults[0]}")
    return Split(split.path, split.files.chosen(good), None if split.labels is None else split.labels[good])


def left_out(faults: list[str], count: int, of: int, what: str, most: int = 3) -> str:
    """Return the sentence that says which files are left out."""
    told = "; ".join(fault.partition(": ")[0] for fault in faults[:most])
    more = f"; and {len(faults) - most} more" if len(faults) > most else ""
    return f"{count:,} of {of:,} {what} are left out (--skip-bad-files): {told}{more}"


def _table(name: str, split: Split, cut: Frame, channels: int) -> Table:
    targets: dict[str, Stored] = {} if split.labels is None else {TARGET: split.labels}
    return Table(name, {"": Pictures(split.files, cut, channels)}, targets)


def _listed(names: Collection[str], most: int = 5) -> str:
    some = [f"'{name}'" for name in list(names)[:most]]
    return ", ".join(some) + (" ..." if len(names) > most else "")
