"""Pairs of folders, for models that make images of images: small (LR) and large (HR), or both of one size.

    ROOT/train/HR, ROOT/train/LR, ROOT/val/HR, ...                  or LR_bicubic, LR/X2; also target and input
    ROOT/HR, ROOT/LR                                                a share is set apart to test
    ROOT/DIV2K_train_HR, ROOT/DIV2K_train_LR_bicubic/X2, ...        as DIV2K is kept
    only HR                                                         LR is made by bicubic scaling

A pair has the same name, but for x2 or the like at its end (0001.png, 0001x2.png). How many times larger the model
makes an image is found from its sizes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from onnx_oto.data.augment import Augment
from onnx_oto.data.dataset import Examples, Tables
from onnx_oto.data.deferred import Unread
from onnx_oto.data.fit import Column, Pixels, Rows, fit
from onnx_oto.data.images.decoding import look
from onnx_oto.data.images.files import Files, find, without_bad
from onnx_oto.data.images.folders import left_out, only_picture
from onnx_oto.data.images.framing import Picture, picture
from onnx_oto.data.images.layout import Pair, pair_folders
from onnx_oto.data.images.patches import PairFiles, Patches, Recent
from onnx_oto.data.reading import Reading
from onnx_oto.data.source import TARGET, Dataset, Header, Input, Sample, Wanted
from onnx_oto.data.splitting import DEFAULT_TEST_SHARE, parted, told
from onnx_oto.data.table import Table
from onnx_oto.errors import DataError, StorageError, UsageError

TEXT = "folder with pairs of images in HR and LR, or HR alone"
USES = ("patch", "patches_per_image", "skip_bad_files")
DEFAULT_PATCH = 48
"""Pixels on a side of a patch where the model leaves it open, on the side of the input."""
_MOST_HELD = 2 << 30
_SUFFIX = re.compile(r"x\d+[a-z]?$", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Candidates:
    """Large images of a split, and what there is of small ones in the same order, by kind and scale."""

    large: Files
    small: Mapping[tuple[str, int], Files]

    def of_scale(self, path: str, scale: int | None) -> tuple[str, Files | None]:
        """Return the small images for a scale (None: any), and where they lie; None: they are to be made.

        Raises DataError where there are others only, or several.
        """
        if not self.small:
            return "", None
        fits = {kind: files for (kind, of), files in self.small.items() if scale in (None, of)}
        if not fits:
            there = ", ".join(str(of) for of in sorted({of for _, of in self.small}))
            raise DataError(
                f"the model enlarges images {scale} times, '{path}' has small ones for {there} times: give such a "
                "model, or move them away: small ones are made by bicubic scaling then"
            )
        chosen = [kind for kind in fits if "bicubic" in kind] if len(fits) > 1 else list(fits)
        if len(chosen) != 1:
            raise DataError(
                f"'{path}' has small images of several kinds, {', '.join(fits)}: keep one of them"
            )
        files = fits[chosen[0]]
        return files.folders[0], files


@dataclass(frozen=True, eq=False)
class PairFolder:
    """Pairs of images that were found and not opened: an Opening."""

    path: str
    splits: Mapping[str, Candidates]
    notes: tuple[str, ...]
    reading: Reading

    @cached_property
    def _sample(self) -> tuple[Sample, Sample]:
        """What is known of an input and a target where a model leaves it open."""
        side, channels = (
            self.reading.patch or DEFAULT_PATCH,
            look(self.splits["train"].large.path(0)).channels,
        )
        scale = next((of for _, of in self.splits["train"].small), 1)
        kind = np.dtype(np.uint8)
        large = Sample((side * scale, side * scale, channels), kind)
        return Sample((side, side, channels), kind, adapts=True), large

    def _header(self, samples: int) -> Header:
        small, large = self._sample
        return Header(samples, {"": small}, {TARGET: large})

    @property
    def train(self) -> Header:
        return self._header(len(self.splits["train"].large))

    @property
    def val(self) -> Header | None:
        return self._header(len(self.splits["val"].large)) if "val" in self.splits else None

    @property
    def test(self) -> Header:
        return self._header(len(self.splits["test"].large))

    def fit(
        self,
        inputs: Mapping[str, Input],
        targets: Mapping[str, Wanted],
        *,
        pixels: Pixels | None = None,
        augment: Augment | None = None,
        needless: Collection[str] = (),
    ) -> Dataset:
        """Return patches of the pairs as a model and a loss read them (see `Opening.fit`)."""
        read = self._read(inputs)
        wanted = targets.get(TARGET)
        made = None if wanted is None else _made(read, wanted)
        scale = None if made is None else made.height // read.height
        chosen = {name: each.of_scale(self.path, scale) for name, each in self.splits.items()}
        known = scale or self._known_scale()
        if scale == 1 and any(small is None for _, small in chosen.values()):
            raise DataError(
                f"'{self.path}' has no small images, and the model makes {read.height}x{read.width} of "
                f"{read.height}x{read.width}: put what it reads into a folder LR beside HR"
            )
        examples, done, prepared = self._examples(inputs, targets, read, made, pixels, augment)
        recent = Recent(min(_MOST_HELD, psutil.virtual_memory().available // 4))
        sources = {
            name: Patches(
                PairFiles(self.splits[name].large, small),
                read,
                made,
                known,
                examples[name == "train"],
                recent,
            )
            for name, (_, small) in chosen.items()
        }
        said = [self._told(chosen, known), self._told_patches(read, made), *done]
        notes = (*self.notes, *said)
        return Dataset(sources["train"], sources["test"], notes, sources.get("val"), prepared=prepared)

    def _read(self, inputs: Mapping[str, Input]) -> Picture:
        """Return what the model reads. Raises DataError where that contradicts the settings."""
        read = only_picture(inputs, self.path, self.reading)
        asked = self.reading.patch
        if asked is not None and (read.height, read.width) != (asked, asked):
            raise DataError(
                f"patch {asked}: the model reads {read.height}x{read.width} pixels and no others, leave --patch out"
            )
        return read

    def _known_scale(self) -> int:
        """Return the scale where no target tells it. Raises DataError where the folders do not either."""
        scales = {of for each in self.splits.values() for _, of in each.small}
        if len(scales) != 1:
            raise DataError(
                f"'{self.path}' does not tell what the model reads: keep one folder of small images, LR"
            )
        return scales.pop()

    def _examples(
        self,
        inputs: Mapping[str, Input],
        targets: Mapping[str, Wanted],
        read: Picture,
        made: Picture | None,
        pixels: Pixels | None,
        augment: Augment | None,
    ) -> tuple[tuple[Examples, Examples], list[str], Mapping[str, Any]]:
        """Return how patches become arrays, without and with augmentation, what is done to them, and that as facts."""
        count, kind = len(self.splits["train"].large), np.dtype(np.uint8)
        blank = {"": Unread((count, *read), kind)}
        others = {} if made is None else {TARGET: Unread((count, *made), kind)}
        tables = Tables(Table("train", blank, others), Table("test", blank, others))
        fitted = tables.fit(inputs, targets, pixels=pixels, augment=augment)
        train, test = fitted.train, fitted.test
        assert isinstance(train, Examples)
        assert isinstance(test, Examples)
        notes = [note for note in fitted.notes if note.startswith("x_train")]
        if made is not None:
            column, note = self._target(others[TARGET], targets[TARGET], pixels)
            train, test = (replace(each, targets={TARGET: column}) for each in (train, test))
            notes.append(note)
        notes += [train.scene.note] if train.scene else []
        return (test, train), notes, fitted.prepared

    def _target(self, blank: Unread, wanted: Wanted, pixels: Pixels | None) -> tuple[Column, str]:
        """Return how target images become numbers, and the sentence that says so."""
        alike = self.reading.target_pixels == "inputs"
        if alike and pixels and (wanted.low, wanted.high) != (-np.inf, np.inf):
            raise UsageError(
                f"target-pixels is 'inputs', and the loss reads numbers from {wanted.low:g} to {wanted.high:g}: use "
                "'unit'"
            )
        return fit(
            blank, tuple(wanted.shape[1:]), wanted.dtype, name="y_train", pixels=pixels if alike else None
        )

    def _told(self, chosen: Mapping[str, tuple[str, Files | None]], scale: int) -> str:
        """Return which images are enlarged to which."""
        parts = []
        for name, (folder, small) in chosen.items():
            large = self.splits[name].large
            source = f"from '{folder}'" if small is not None else "by bicubic scaling"
            parts.append(f"{name}: {len(large):,} from '{large.folders[0]}', small ones {source}")
        return f"pairs of images, {scale} times enlarged; " + "; ".join(parts)

    def _told_patches(self, read: Picture, made: Picture | None) -> str:
        each = self.reading.patches_per_image
        size = f"{read.height}x{read.width}" + (f" to {made.height}x{made.width}" if made else "")
        count = "one patch" if each == 1 else f"{each} patches"
        return f"{count} of every image in an epoch, {size}, at a random place; otherwise from the middle"


def takes(path: Path) -> bool:
    """Say whether there are folders in this one that are called as pairs are."""
    if not path.is_dir():
        return False
    try:
        return bool(pair_folders(str(path)))
    except StorageError:
        return False


def open_pairs(path: str | os.PathLike[str], reading: Reading = Reading()) -> PairFolder:
    """Return what pairs lie in a folder; of each kind the header of the first pair is read.

    Raises StorageError, and DataError for an image without its partner, and splits that do not go together.
    """
    root = os.fspath(path)
    folders = pair_folders(root)
    notes: list[str] = []
    if "train" not in folders:
        name = os.path.basename(next(iter(folders.values())).large)
        raise DataError(
            f"'{root}' has images in '{name}' and none to train: put those into train/HR and train/LR"
        )
    found = {name: _candidates(pair, notes) for name, pair in folders.items()}
    if reading.skip_bad_files:
        found = {name: _cleaned(each, notes) for name, each in found.items()}
    if "test" not in found and "val" in found:
        found["test"] = found.pop("val")
        notes.append(f"the test data are those of '{folders['val'].large}'")
    if "test" in found and reading.test_share is not None:
        raise UsageError(
            f"test-share is {reading.test_share:g}, and '{root}' has test images of its own: leave it out"
        )
    if "test" not in found:
        share = DEFAULT_TEST_SHARE if reading.test_share is None else reading.test_share
        stay, apart = parted(len(found["train"].large), share, reading.split_seed, "test-share")
        found |= {"test": _chosen(found["train"], apart), "train": _chosen(found["train"], stay)}
        notes.append(told(apart, stay, "images", "test", f"--test-share {share:g}", reading.split_seed))
    return PairFolder(root, found, tuple(notes), reading)


def _made(read: Picture, wanted: Wanted) -> Picture:
    """Return what the model makes of what it reads. Raises DataError where that is no larger image."""
    if wanted.classes is not None:
        raise DataError(
            "the loss reads labels, the targets are images: choose a loss of numbers, such as l1 or mse"
        )
    made = picture("the output", wanted.shape[1:])
    times = made.height // read.height
    if not times or (made.height, made.width) != (read.height * times, read.width * times):
        raise DataError(
            f"the model makes {made.height}x{made.width} pixels of {read.height}x{read.width}: that is no whole "
            "multiple, give the data as an npz file"
        )
    return made


def _candidates(pair: Pair, notes: list[str]) -> Candidates:
    """Return the images of a split, put in pairs. Raises DataError for one without a partner."""
    large = _images(pair.large)
    small: dict[tuple[str, int], Files] = {}
    for (kind, scale), folder in pair.small.items():
        others = _partners(large, _images(folder), folder, notes)
        small[kind, scale or _measured(large.path(0), others.path(0))] = others
    return Candidates(large, small)


def _images(folder: str) -> Files:
    found = find(folder)
    if not len(found.loose):
        raise DataError(f"'{folder}' holds no images: put some there, or remove it")
    return found.loose


def _partners(large: Files, small: Files, folder: str, notes: list[str]) -> Files:
    """Return the small images in the order of the large ones."""
    rows: dict[str, int] = {}
    for row in range(len(small)):
        stem = os.path.splitext(small.name(row))[0]
        rows.setdefault(_SUFFIX.sub("", stem), row)
        rows[stem] = row
    found = []
    for path in large.paths():
        row_of = rows.get(os.path.splitext(os.path.basename(path))[0])
        if row_of is None:
            raise DataError(f"'{path}' has no partner in '{folder}': add it, or remove the image")
        found.append(row_of)
    if len(small) > len(found):
        notes.append(f"'{folder}': {len(small) - len(found):,} images without a larger one are left out")
    return small.chosen(np.array(found, np.int64))


def _measured(large: str, small: str) -> int:
    """Return how many times larger an image is than its partner. Raises DataError."""
    one, other = look(large), look(small)
    scale = round(one.height / other.height)
    if not scale or (one.height // scale, one.width // scale) != (other.height, other.width):
        raise DataError(
            f"'{large}' is {one.height}x{one.width} and '{small}' {other.height}x{other.width}: that is no whole "
            "multiple, remove or replace the pair"
        )
    return scale


def _chosen(each: Candidates, rows: Rows) -> Candidates:
    return Candidates(each.large.chosen(rows), {key: files.chosen(rows) for key, files in each.small.items()})


def _cleaned(each: Candidates, notes: list[str]) -> Candidates:
    """Return the pairs that can be decoded, all images of them."""
    good = np.arange(len(each.large))
    faults: list[str] = []
    for files in (each.large, *each.small.values()):
        fine, wrong = without_bad(files)
        good = np.intersect1d(good, fine)
        faults += wrong
    if faults:
        notes.append(left_out(faults, len(each.large) - len(good), len(each.large), "pairs"))
    if not len(good):
        raise DataError(f"'{each.large.folders[0]}': no pair can be decoded: {faults[0]}")
    return _chosen(each, good)
