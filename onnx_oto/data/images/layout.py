"""Which folders of a data set belong to which split, by their names."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

from onnx_oto.data.images.files import folders_in
from onnx_oto.errors import DataError

SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
"""Names of folders that hold a split, in small letters."""
_SPLIT_OF = {name: split for split, names in SPLITS.items() for name in names}
_LARGE, _SMALL = ("hr", "target", "targets", "gt"), ("lr", "input", "inputs", "lq")
_SCALE = re.compile(r"x(\d+)", re.IGNORECASE)


class Pair(NamedTuple):
    """The folders of a split of pairs. small: by what is known of them, () for none: (kind, scale or 0)."""

    large: str
    small: Mapping[tuple[str, int], str]


def split_folders(root: str) -> dict[str, str]:
    """Return folders by split, where there is one to train; {} where there is none. Raises DataError, StorageError."""
    found: dict[str, str] = {}
    for name in folders_in(root):
        split = _SPLIT_OF.get(name.lower())
        if split is None:
            continue
        if split in found:
            first = os.path.basename(found[split])
            raise DataError(f"'{root}' has both '{first}' and '{name}': keep one of them")
        found[split] = os.path.join(root, name)
    return found


def pair_folders(root: str) -> dict[str, Pair]:
    """Return the folders of pairs by split, {} where there are none.

    train/HR with train/LR, HR with LR, and the names of DIV2K: DIV2K_train_HR with DIV2K_train_LR_bicubic/X2.
    """
    inside = folders_in(root)
    parts = {split: pair for split, folder in split_folders(root).items() if (pair := _pair(folder))}
    if parts:
        return parts
    titled: dict[str, list[str]] = {}
    for name in inside:
        if split := _title(name)[0]:
            titled.setdefault(split, []).append(name)
    parts = {split: pair for split, names in titled.items() if (pair := _titled(root, names))}
    alone = None if parts else _pair(root)
    return {"train": alone} if alone else parts


def _title(name: str) -> tuple[str, str]:
    """Return split and side that the name of a folder tells, both "" where it does not.

    >>> _title("DIV2K_train_HR"), _title("DIV2K_valid_LR_bicubic"), _title("HR")
    (('train', 'hr'), ('val', 'lr'), ('', ''))
    """
    words = name.lower().split("_")
    for first, second in pairwise(words):
        if first in _SPLIT_OF and second in ("hr", "lr"):
            return _SPLIT_OF[first], second
    return "", ""


def _pair(folder: str) -> Pair | None:
    """Return the pair in a folder: HR and LR, or Flickr2K_HR and Flickr2K_LR_bicubic.

    None where nothing is called so, or something else lies beside it: classes of images may be called HR and LR too.
    """
    inside = folders_in(folder)
    large = [name for name in inside if name.lower() in _LARGE or name.lower().endswith("_hr")]
    small = [name for name in inside if name.lower() in _SMALL or "lr" in name.lower().split("_")]
    if not large or {*large, *small} != {*inside}:
        return None
    if len(large) > 1:
        raise DataError(f"'{folder}' has both '{large[0]}' and '{large[1]}': keep one of them")
    return Pair(os.path.join(folder, large[0]), _scales(folder, small))


def _titled(root: str, names: list[str]) -> Pair | None:
    """Return the pair among folders of one split that are called as DIV2K's are."""
    large = [name for name in names if _title(name)[1] == "hr"]
    if len(large) != 1:
        return None
    return Pair(os.path.join(root, large[0]), _scales(root, [name for name in names if name != large[0]]))


def _scales(folder: str, names: list[str]) -> dict[tuple[str, int], str]:
    """Return folders of small images by kind and scale: LR, LR_bicubic/X2, LR_x4."""
    found = {}
    for name in names:
        path = os.path.join(folder, name)
        kind = name.lower()
        scaled = {inner: m for inner in folders_in(path) if (m := _SCALE.fullmatch(inner))}
        for inner, match in scaled.items():
            found[kind, int(match[1])] = os.path.join(path, inner)
        if not scaled:
            own = _SCALE.search(name)
            found[kind, int(own[1]) if own else 0] = path
    return found
