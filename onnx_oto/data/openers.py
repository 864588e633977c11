"""The kinds of data, each with how it is known and opened. A new one is a file of its own and an entry here."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from onnx_oto.data import arrow, callables, cifar, idx, npy, npz, svhn, text
from onnx_oto.data.images import folders, pairs
from onnx_oto.data.reading import Reading
from onnx_oto.data.repeating import repeating
from onnx_oto.data.source import Opening
from onnx_oto.data.splitting import with_validation
from onnx_oto.errors import DataError, StorageError


@dataclass(frozen=True)
class Opener:
    """text: what the data are, for help and messages. takes: whether a path is of this kind. open: headers only.

    uses: what `open` reads of a `Reading` beside what is for every kind; the rest is refused where it is given.
    """

    text: str
    takes: Callable[[Path], bool]
    open: Callable[[Path, Reading], Opening]
    uses: tuple[str, ...] = ()


OPENERS: dict[str, Opener] = {
    "npz": Opener(npz.TEXT, npz.takes, npz.open_npz),
    "npy": Opener(npy.FILE_TEXT, npy.takes_file, npy.open_file),
    "npys": Opener(npy.FOLDER_TEXT, npy.takes_folder, npy.open_folder),
    "idx": Opener(idx.TEXT, idx.takes, idx.open_idx),
    "cifar": Opener(cifar.TEXT, cifar.takes, cifar.open_cifar, ("label",)),
    "svhn": Opener(svhn.TEXT, svhn.takes, svhn.open_svhn),
    "table": Opener(
        arrow.TEXT, arrow.takes, arrow.open_tables, ("label", "column", "weight_column", "resize")
    ),
    "text": Opener(text.TEXT, text.takes, text.open_text, ("tokenizer", "length")),
    "function": Opener(callables.TEXT, callables.takes, callables.open_callable),
    "pairs": Opener(pairs.TEXT, pairs.takes, pairs.open_pairs, pairs.USES),
    "images": Opener(folders.TEXT, folders.takes, folders.open_folder, folders.USES),
}
"""By name. They are asked in this order."""


def open_data(source: str | os.PathLike[str] | Opening, reading: Reading | None = None) -> Opening:
    """Return what is known of the data at a path; no values are read. What is open already is returned as it is.

    reading: how to read them; validation samples are set apart as it says, of what is open already too. Raises
    StorageError when it cannot be read, DataError when it is damaged or of no known kind, UsageError for what has no
    meaning for its kind.
    """
    reading = reading or Reading()
    opening = _opened(source, reading) if isinstance(source, str | os.PathLike) else source
    return repeating(with_validation(opening, reading), reading.patches_per_image)


def _opened(source: str | os.PathLike[str], reading: Reading) -> Opening:
    path = Path(source)
    if not os.path.lexists(path) and not callables.takes(path):
        raise StorageError(f"cannot read '{path}': No such file or directory")
    for opener in OPENERS.values():
        if opener.takes(path):
            reading.require_used(opener.uses, f"'{path}' ({opener.text})")
            return opener.open(path, reading)
    known = "; ".join(opener.text for opener in OPENERS.values())
    raise DataError(f"'{path}' is no data that can be read: give {known}")
