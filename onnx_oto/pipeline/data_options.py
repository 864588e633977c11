"""What is asked for by whoever opens data, beside the path: how samples are split, and what some kinds need to know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from onnx_oto.pipeline.image_options import ImageOptions
from onnx_oto.pipeline.running_options import PathLike
from onnx_oto.settings import setting, topics
from onnx_oto.settings.checks import at_least, not_negative, share_below_one

if TYPE_CHECKING:
    from onnx_oto.data import Reading


def _sizes(text: str) -> tuple[int, ...]:
    """Return height and width, or one number.

    >>> _sizes("224x160"), _sizes("64")
    ((224, 160), (64,))
    """
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() for part in parts):
        raise ValueError(
            "write the pixels of the shorter side, such as 256, or HEIGHTxWIDTH, such as 224x160"
        )
    return tuple(int(part) for part in parts)


def _is_size(value: Sequence[int]) -> str | None:
    if not value or (len(value) in (1, 2) and min(value) > 0):
        return None
    return "give one number of pixels, or height and width"


def _pad_value(text: str) -> int | str:
    """Return a number, or "auto".

    >>> _pad_value("-1"), _pad_value("auto")
    (-1, 'auto')
    """
    if text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise ValueError("give a whole number, or auto") from None


def _is_part(value: float) -> str | None:
    return None if 0 < value < 1 else "give a share above 0 and below 1"


def _default_test_share() -> str:
    from onnx_oto.data.splitting import DEFAULT_TEST_SHARE

    return f"{DEFAULT_TEST_SHARE:g}"


@dataclass(frozen=True, kw_only=True)
class DataOptions(ImageOptions, topic=topics.DATA):
    """How data are opened."""

    val_share: float = setting(
        0.0,
        "Share of the training samples that is set apart to make choices by; data may have validation samples of "
        "their own.",
        check=share_below_one,
    )
    test_share: float | None = setting(
        None,
        "Share of the samples that is set apart to report of, for data that have no test samples of their own.",
        check=_is_part,
        shown=_default_test_share,
    )
    split_seed: int = setting(0, "Seed of what is set apart.", check=not_negative)
    resize: tuple[int, ...] = setting(
        (),
        "Size that images of files are brought to before their middle is cut out: pixels of the shorter side, or "
        "height and width.",
        read=_sizes,
        check=_is_size,
        metavar="N|HxW",
        shown="8/7 of what the model reads",
    )
    label: str | None = setting(
        None,
        "Column of a table that holds the labels; of CIFAR-100 'fine' or 'coarse'.",
        metavar="COLUMN",
        shown="label, y or target; fine",
    )
    column: Sequence[str] = setting(
        (),
        "Column of a table that the model reads (repeatable).",
        metavar="COLUMN",
        shown="all but the label",
    )
    weight_column: str | None = setting(
        None, "Column of a table that says what training samples count for in the loss.", metavar="COLUMN"
    )
    tokenizer: PathLike | None = setting(
        None, "File of Hugging Face tokenizers (JSON) that makes numbers of lines of text."
    )
    length: int | None = setting(
        None,
        "Tokens of a text at most, the rest is cut off.",
        check=at_least(1),
        shown="what the model reads, or the longest",
    )
    pad_value: int | Literal["auto"] | None = setting(
        None,
        "Number that sequences are filled up with (auto: of text, what the tokenizer says). Text is filled up with it; "
        "batches of any data are made of similar lengths and cut to them, and labels of what is filled up count for "
        "nothing.",
        read=_pad_value,
        metavar="N|auto",
        shown="text: what the tokenizer says, or 0; batches are not cut",
        topic=topics.BATCHES,
    )
    cache: PathLike | None = setting(
        None,
        "Folder for data that have to be unpacked once, to be used again by later runs.",
        shown="unpacked in the folder of the run",
    )

    @property
    def reading(self) -> Reading:
        """How data are opened."""
        return self.reading_in(None)

    def reading_in(self, cache: Path | None) -> Reading:
        """Return how data are opened. cache: folder for what has to be unpacked, where the settings name none."""
        from onnx_oto.data import Reading

        return Reading(
            split_seed=self.split_seed,
            val_share=self.val_share,
            test_share=self.test_share,
            cache=cache if self.cache is None else Path(self.cache),
            resize=self.resize,
            label=self.label,
            column=tuple(self.column),
            weight_column=self.weight_column,
            tokenizer=None if self.tokenizer is None else Path(self.tokenizer),
            length=self.length,
            padding=self.pad_value if isinstance(self.pad_value, int) else None,
            skip_bad_files=self.skip_bad_files,
            patch=self.patch,
            patches_per_image=self.patches_per_image,
            target_pixels=self.target_pixels,
        )
