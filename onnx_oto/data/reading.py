"""How data are opened, beyond the path to them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from pathlib import Path

from onnx_oto.errors import UsageError

GENERAL = ("split_seed", "val_share", "test_share", "cache", "target_pixels", "padding")
"""What is for every kind of data."""


@dataclass(frozen=True)
class Reading:
    """What a person says of the data. The default of every field means that nothing was said.

    split_seed: of random splits; it alone decides them. val_share: of the training samples, set apart where the data
    have no validation samples of their own. test_share: of all samples, where the data have no test samples of their
    own (None: DEFAULT_TEST_SHARE). cache: folder for what has to be unpacked once (None: a temporary one). padding: the
    number that fills shorter sequences, those of text, or as they are stored.

    All others are for some kinds only, see `Opener.uses`. resize: what images of files are brought to before their
    middle is cut out, pixels of the shorter side, or height and width. label: which column holds the labels. column:
    columns that are the input (all others, when none is given). weight_column: what training samples count for.
    tokenizer: file that says how text becomes numbers.
    length: of token sequences, at most. skip_bad_files: images that cannot
    be decoded are left out. patch: pixels on a side of what is cut out of images in pairs; patches_per_image: how many
    of each an epoch has; target_pixels: what targets are that are images, "unit" (from 0 to 1) or "inputs" (prepared
    like them).
    """

    split_seed: int = 0
    val_share: float = 0.0
    test_share: float | None = None
    cache: Path | None = None
    resize: tuple[int, ...] = ()
    label: str | None = None
    column: tuple[str, ...] = ()
    weight_column: str | None = None
    tokenizer: Path | None = None
    length: int | None = None
    padding: int | None = None
    skip_bad_files: bool = False
    patch: int | None = None
    patches_per_image: int = 1
    target_pixels: str = "unit"

    def require_used(self, uses: Collection[str], what: str) -> None:
        """Raise UsageError for what was said and has no meaning for a kind of data.

        >>> Reading(weight_column="y").require_used((), "'a.npz', an npz file")
        Traceback (most recent call last):
        onnx_oto.errors.UsageError: weight-column is 'y': it has no meaning for 'a.npz', an npz file, leave it out
        """
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name not in (*GENERAL, *uses) and value != each.default:
                key = each.name.replace("_", "-")
                raise UsageError(f"{key} is {_told(value)}: it has no meaning for {what}, leave it out")


def _told(value: object) -> str:
    """Return a value as a person gives it.

    >>> _told((8, 6)), _told(("a", "b")), _told("y"), _told(3)
    ('8x6', "'a', 'b'", "'y'", '3')
    """
    if isinstance(value, tuple):
        return ("x" if isinstance(value[0], int) else ", ").join(map(_told, value))
    return repr(str(value)) if isinstance(value, str | Path) else str(value)
