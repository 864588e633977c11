"""Columns of samples as a source: every input served as the model reads it, every target as the loss does."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_oto.data.arrangement import Pattern, Shape
from onnx_oto.data.augment import Augment
from onnx_oto.data.colour import check_unit
from onnx_oto.data.fit import Column, Pixels, Rows, checked, fit, input_layout
from onnx_oto.data.labels import Labels, fit_image, fit_target, is_image
from onnx_oto.data.reading import Reading
from onnx_oto.data.scene import Part, Scene, see
from onnx_oto.data.source import SAMPLE_WEIGHT, TARGET, Batch, Dataset, Header, Input, Source, Wanted
from onnx_oto.data.splitting import DEFAULT_TEST_SHARE, Chosen, parted, told
from onnx_oto.data.table import Table, check_alike
from onnx_oto.errors import DataError, UsageError

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Examples:
    """One split: columns by input name and by target name. scene: what augmentation does, None for nothing.

    The weights of samples are one of the targets, SAMPLE_WEIGHT, where there are any.
    """

    inputs: Mapping[str, Column]
    targets: Mapping[str, Column] = field(default_factory=dict)
    scene: Scene | None = None

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def batch(self, indices: Rows, rng: np.random.Generator | None = None) -> Batch:
        """Return the samples at `indices`; what shows the same image is changed in the same way."""
        return self.portion(indices, rng, np.arange(len(indices)))

    def portion(self, indices: Rows, rng: np.random.Generator | None, keep: Rows) -> Batch:
        """See `Divisible.portion`."""
        drawn = None
        if self.scene is not None and rng is not None:
            drawn = self.scene.draw(len(indices), rng).of(keep)
        indices = indices[keep]
        if self.scene is None or drawn is None:
            inputs = {name: column.take(indices) for name, column in self.inputs.items()}
            return Batch(
                inputs, {name: column.take(indices) for name, column in self.targets.items()}, indices
            )
        scene = self.scene
        inputs = {n: column.take(indices, scene.inputs.get(n), drawn) for n, column in self.inputs.items()}
        targets = {n: column.take(indices, scene.targets.get(n), drawn) for n, column in self.targets.items()}
        return Batch(inputs, targets, indices)


@dataclass(frozen=True, eq=False)
class Tables:
    """The splits as columns: an Opening for arrays, and for whatever decodes samples one by one.

    test_table: None takes a share of the training samples, as `reading` says. classes: names of the labels. notes:
    sentences of whoever made the columns, in front of ours.
    """

    train_table: Table
    test_table: Table | None = None
    val_table: Table | None = None
    reading: Reading = Reading()
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for other in (self.test_table, self.val_table):
            if other is not None:
                check_alike(self.train_table, other)
        if self.test_table is not None and self.reading.test_share is not None:
            raise UsageError(
                f"test-share is {self.reading.test_share:g}, and the data have {len(self.test_table)} test samples of "
                "their own: leave it out"
            )
        if self.test_table is None:
            _ = self._parted  # refused now, where nothing would be left

    @cached_property
    def _parted(self) -> tuple[Rows, Rows]:
        """Which samples of the training table train, and which test."""
        return parted(len(self.train_table), self._share, self.reading.split_seed, "test-share")

    @property
    def _share(self) -> float:
        share = self.reading.test_share
        return DEFAULT_TEST_SHARE if share is None else share

    @property
    def train(self) -> Header:
        whole = self.train_table.header()
        return whole if self.test_table is not None else replace(whole, samples=len(self._parted[0]))

    @property
    def val(self) -> Header | None:
        return None if self.val_table is None else self.val_table.header()

    @property
    def test(self) -> Header:
        if self.test_table is not None:
            return self.test_table.header()
        return replace(self.train_table.header(), samples=len(self._parted[1]))

    def fit(
        self,
        inputs: Mapping[str, Input],
        targets: Mapping[str, Wanted],
        *,
        pixels: Pixels | None = None,
        augment: Augment | None = None,
        needless: Collection[str] = (),
    ) -> Dataset:
        """Return the data as a model and a loss read them (see `Opening.fit`).

        `pixels` applies to inputs with two or three axes, and to targets that are images (see `labels.is_image`) where
        `reading` says that these are like the inputs.
        """
        names = assigned(self.train_table, inputs, needless)
        scene = _scene(self.train_table, names, inputs, targets, augment) if augment else None
        alike = self.reading.target_pixels == "inputs"
        train, notes = _examples(self.train_table, names, inputs, targets, pixels, alike, scene)

        def examples(table: Table) -> Source:
            made, more = _examples(table, names, inputs, targets, pixels, alike, None)
            notes.extend(more)
            return made

        val = None if self.val_table is None else examples(self.val_table)
        # Where labels are not read, nobody says that the classes of the model are these.
        classes = self.classes if TARGET in targets else ()
        prepared = _prepared(self.train_table, names, inputs, pixels)
        if self.test_table is not None:
            test = examples(self.test_table)
            said = (*self.notes, *notes, *([scene.note] if scene else []))
            return Dataset(train, test, said, val, classes, prepared=prepared)
        stay, apart = self._parted
        option = f"--test-share {self._share:g}"
        notes.append(told(apart, stay, "samples", "test", option, self.reading.split_seed))
        said = (*self.notes, *notes, *([scene.note] if scene else []))
        return Dataset(Chosen(train, stay), Chosen(train, apart), said, val, classes, prepared=prepared)


def sample_shapes(header: Header, patterns: Mapping[str, Pattern], *, pad: int = 0) -> dict[str, Shape]:
    """Return the shape of one sample per model input as the data would be served; patterns leave sizes open (None).

    Inputs that the data do not have are left out. Raises DataError when there is no way to a pattern.
    """
    found = {}
    for name, pattern in patterns.items():
        stored = header.inputs.get(name, header.inputs.get(""))
        if stored is not None and stored.adapts:
            found[name] = _filled(name, stored.shape, pattern)
        elif stored is not None:
            found[name] = input_layout(f"input {name!r}", stored.shape, pattern, pad).shape
    return found


def _filled(name: str, own: Shape, pattern: Pattern) -> Shape:
    """Return the shape that an image takes on for a pattern: its own sizes where that leaves them open.

    >>> _filled("x", (32, 48, 3), (3, None, None)), _filled("x", (32, 48, 1), (None, None, 3))
    ((3, 32, 48), (32, 48, 3))
    """
    height, width, channels = own
    if len(pattern) == 2:
        sizes: Shape = (height, width)
    elif len(pattern) == 3 and pattern[2] is not None and pattern[0] is None:
        sizes = (height, width, channels)
    elif len(pattern) == 3:
        sizes = (channels, height, width)
    else:
        raise DataError(f"input {name!r} reads {len(pattern)} axes beside the samples, an image has 2 or 3")
    shape = tuple(size if read is None else read for size, read in zip(sizes, pattern, strict=True))
    if 0 in shape:
        raise DataError(
            f"input {name!r} reads images of any size, and the files differ in it: say which one they get, such as "
            "--resize 224"
        )
    return shape


def assigned(table: Table, inputs: Iterable[str], needless: Collection[str] = ()) -> dict[str, str]:
    """Return the stored name ("" = unnamed) per model input. Raises DataError when they do not match.

    needless: names that may be there and are not read.
    """
    wanted = list(inputs)
    if list(table.inputs) == [""]:
        if len(wanted) != 1:
            named = ", ".join(table.key(name) for name in wanted)
            raise DataError(f"the model has {len(wanted)} inputs: name the arrays {named}")
        return {wanted[0]: ""}
    for name in wanted:
        if name not in table.inputs:
            raise DataError(
                f"{table.key(name)!r} is missing: the model reads {', '.join(wanted)}; an input that is always one "
                f"number needs no data (--set-input {name}:0)"
            )
    for name in table.inputs:
        if name not in wanted and name not in needless:
            raise DataError(f"{table.key(name)!r}: the model has no such input, it reads {', '.join(wanted)}")
    return {name: name for name in wanted}


def _examples(
    table: Table,
    names: Mapping[str, str],
    inputs: Mapping[str, Input],
    targets: Mapping[str, Wanted],
    pixels: Pixels | None,
    alike: bool,
    scene: Scene | None,
) -> tuple[Examples, list[str]]:
    columns, notes = {}, []
    if pixels is not None and all(len(table.inputs[key].shape) < 3 for key in names.values()):
        key = table.key(next(iter(names.values())))
        raise DataError(f"{key}: its samples are vectors, mean and std are for images: normalise them before")
    for name, key in names.items():
        stored, wanted = table.inputs[key], inputs[name]
        prepared = pixels if len(stored.shape) > 2 else None
        column, note = fit(stored, wanted.shape, wanted.dtype, name=table.key(key), pixels=prepared)
        columns[name] = _coloured(column, table.key(key)) if scene and _has_ink(scene, name) else column
        notes.append(note)
    labels = {}
    for name, target in targets.items():
        if name not in table.targets:
            raise DataError(
                f"{table.target_key(name)!r} is missing: the loss needs a target; a model may learn "
                "from another one, or from itself, without (--loss distill)"
            )
        stored, key = table.targets[name], table.target_key(name)
        if is_image(stored, target):
            labels[name], note = fit_image(key, stored, target, pixels if alike else None)
            notes.append(
                f"{note}: images" + ("" if alike or not pixels else ", not normalised (--target-pixels)")
            )
            continue
        labels[name] = fit_target(key, stored, target)
        if stored.dtype == np.uint8 and np.dtype(target.dtype).kind == "f":
            notes.append(f"{key}: targets {list(stored.shape[1:])} uint8, numbers from 0 to 255 as they are")
    if table.weights is not None and table.split == "train":
        labels[SAMPLE_WEIGHT] = fit_target(table.weight_key, table.weights, Labels(low=0.0))
        if isinstance(table.weights, np.ndarray) and not table.weights.any():
            raise DataError(
                f"{table.weight_key}: every sample counts for nothing: give some a number above 0"
            )
        notes.append(f"{table.weight_key}: what samples count for in the loss")
    return Examples(columns, labels, scene), notes


def _prepared(
    table: Table, names: Mapping[str, str], inputs: Mapping[str, Input], pixels: Pixels | None
) -> dict[str, Any]:
    """Return what is done to numbers of images, see `Dataset.prepared`; nothing where it is not the same for all."""
    images = [name for name, key in names.items() if len(table.inputs[key].shape) > 2]
    scaled = {
        inputs[name].dtype.kind == "f" and table.inputs[names[name]].dtype == np.uint8 for name in images
    }
    if len(scaled) != 1:
        return {}
    found: dict[str, Any] = {"scale": 1 / 255} if scaled.pop() else {}
    if pixels is not None and pixels.mean:
        found["mean"] = list(pixels.mean)
    if pixels is not None and pixels.std:
        found["std"] = list(pixels.std)
    return found


def _has_ink(scene: Scene, name: str) -> bool:
    return name in scene.inputs and scene.inputs[name].ink is not None


def _coloured(column: Column, key: str) -> Column:
    """Return a column whose colours may change: its numbers lie in [0, 1] where they are floats. Raises DataError."""
    if column.stored.dtype == np.uint8:
        return column
    unit, before = checked(column.stored, partial(check_unit, key)), column.check

    def both(values: Array, rows: Rows) -> None:
        for each in (before, unit):
            if each is not None:
                each(values, rows)

    return replace(column, check=both)


def _scene(
    table: Table,
    names: Mapping[str, str],
    inputs: Mapping[str, Input],
    targets: Mapping[str, Wanted],
    augment: Augment,
) -> Scene:
    parts = {
        name: Part(
            table.key(key),
            tuple(table.inputs[key].shape[1:]),
            whole=inputs[name].dtype.kind != "f",
            top=255.0 if table.inputs[key].dtype == np.uint8 else 1.0,
        )
        for name, key in names.items()
    }
    labels = {
        name: Part(
            table.target_key(name),
            tuple(table.targets[name].shape[1:]),
            labels=target.classes is not None,
            ignored=None if target.classes is None else target.ignored,
        )
        for name, target in targets.items()
        if name in table.targets
    }
    return see(augment, parts, labels)
