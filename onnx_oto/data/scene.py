"""Which arrays show the same image, and at what scale: decided from shapes alone, and said.

The image is that of the first input with clear height and width, [H, W]. Another input, or a target, shows it too where
two neighbouring axes are [H, W], or a whole multiple of it (super-resolution), or a whole part of it, rounded up (what
strides leave): [N, H, W] labels, [N, C, H, W] images, [N, 2H, 2W, C]. Sides of 4 and less are taken for channels or
small matrices then. What shows the image is mirrored and shifted with it, the shift in whole pixels of each, and the
same part of it is enlarged: labels are those of the nearest pixel. Everything else is left alone: no shape tells
whether a vector of 4 holds a box, which a flip moves, or four ages. Squares are blanked in inputs alone, and colours
change in inputs that have as many channels as the image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from onnx_oto.data.arrangement import MOST_CHANNELS, Shape, spatial_axes
from onnx_oto.data.augment import Augment, Framed, Moves, draw_all
from onnx_oto.data.colour import NAMES, Ink
from onnx_oto.errors import DataError


@dataclass(frozen=True)
class Part:
    """An array that may show the image. key: its name in messages. ignored: the label that does not count.

    whole: whether it is served as integers, between which there is nothing. top: what white is stored as.
    """

    key: str
    shape: Shape
    labels: bool = False
    ignored: int | None = None
    whole: bool = False
    top: float = 1.0


@dataclass(frozen=True)
class Scene:
    """What is changed and how. steps: the farthest shift, in steps. image: height and width.

    Views by name; without one: left alone.
    """

    augment: Augment
    steps: int
    image: tuple[int, int]
    inputs: Mapping[str, Framed]
    targets: Mapping[str, Framed]
    note: str

    def draw(self, count: int, rng: np.random.Generator) -> Moves:
        """Return what happens to `count` samples."""
        return draw_all(count, rng, self.augment, steps=self.steps, image=self.image)


@dataclass(frozen=True)
class _Seen:
    """Where a part shows the image. scale: of its height to the image's, None when it is an image of another size."""

    axes: tuple[int, int]
    scale: Fraction | None


def see(augment: Augment, inputs: Mapping[str, Part], targets: Mapping[str, Part]) -> Scene:
    """Return what augmentation does to inputs and targets. Raises DataError where no image is clear."""
    main = _main(inputs)
    axes = spatial_axes(main.shape)
    assert axes is not None
    image = (main.shape[axes[0]], main.shape[axes[1]])
    seen_inputs = {name: seen for name, part in inputs.items() if (seen := _seen_input(part, image, axes))}
    seen_targets = {name: seen for name, part in targets.items() if (seen := _seen(part.shape, image, axes))}
    step = math.lcm(
        *(seen.scale.denominator for seen in (*seen_inputs.values(), *seen_targets.values()) if seen.scale)
    )
    if augment.crop >= min(image):
        raise DataError(
            f"crop {augment.crop}: {main.key} is {image[0]} pixels high and {image[1]} wide, nothing may be left: "
            "shift by less"
        )
    if augment.crop:
        _check_shifts(
            augment.crop, step, main, {inputs[name].key: seen for name, seen in seen_inputs.items()}
        )
    if augment.cutout >= min(image):
        raise DataError(f"cutout {augment.cutout}: {main.key} is {image[0]} by {image[1]} pixels: blank less")
    inks = _inks(augment, main, inputs, seen_inputs, targets, seen_targets) if augment.inks else {}
    fill = None if seen_targets else 0
    views = {
        name: replace(
            _view(seen, step, fill),
            smooth=not inputs[name].whole,
            blanks=augment.cutout > 0,
            ink=inks.get(name),
        )
        for name, seen in seen_inputs.items()
    }
    dense = {
        name: replace(_view(seen, step, targets[name].ignored), smooth=not targets[name].labels)
        for name, seen in seen_targets.items()
    }
    steps = augment.crop // step
    done = replace(augment, crop=steps * step)
    note = _note(done, main, _described(inputs, views, step), _described(targets, dense, step))
    return Scene(augment, steps, image, views, dense, note + _of_targets(done, targets, dense))


def _main(inputs: Mapping[str, Part]) -> Part:
    """Return the input whose height and width are the image's: with channels, if there is one."""
    clear = [part for part in inputs.values() if spatial_axes(part.shape) is not None]
    if not clear:
        listed = ", ".join(f"{part.key} {list(part.shape)}" for part in inputs.values())
        raise DataError(f"no augmentation: samples have no clear height and width: {listed}")
    return next((part for part in clear if len(part.shape) == 3), clear[0])


def _seen_input(part: Part, image: tuple[int, int], axes: tuple[int, int]) -> _Seen | None:
    """Return where an input shows the image; one with channels is an image even at another size."""
    found = _seen(part.shape, image, axes)
    own = spatial_axes(part.shape) if len(part.shape) == 3 else None
    return found or (_Seen(own, None) if own else None)


def _seen(shape: Shape, image: tuple[int, int], axes: tuple[int, int]) -> _Seen | None:
    """Return where an array shows the image, by its sizes.

    >>> _seen((3, 64, 64), (32, 32), (1, 2))
    _Seen(axes=(1, 2), scale=Fraction(2, 1))
    >>> _seen((8, 8), (32, 32), (1, 2)).scale, _seen((4, 4), (32, 32), (1, 2)), _seen((17, 2), (32, 32), (1, 2))
    (Fraction(1, 4), None, None)
    """
    if len(shape) not in (2, 3):
        return None
    pairs = [(at, at + 1) for at in range(len(shape) - 1)]
    scales = [(pair, scale_of((shape[pair[0]], shape[pair[1]]), image)) for pair in pairs]
    fits = [_Seen(pair, scale) for pair, scale in scales if scale is not None]
    best = [seen for seen in fits if seen.scale == 1] or fits
    usual = spatial_axes(shape) or axes
    return next((seen for seen in best if seen.axes == usual), best[-1] if best else None)


def scale_of(sizes: tuple[int, int], image: tuple[int, int]) -> Fraction | None:
    """Return how many times the height and width of an image these are: n, 1/n (rounded up), or None.

    >>> scale_of((64, 96), (32, 48)), scale_of((17, 17), (65, 65)), scale_of((64, 64), (32, 48))
    (Fraction(2, 1), Fraction(1, 4), None)
    """
    if sizes == image:
        return Fraction(1)
    if min(sizes) <= MOST_CHANNELS:
        return None
    times = sizes[0] // image[0]
    if times and sizes == (times * image[0], times * image[1]):
        return Fraction(times)
    for part in (image[0] // sizes[0], -(-image[0] // sizes[0])):
        if part > 1 and sizes == (-(-image[0] // part), -(-image[1] // part)):
            return Fraction(1, part)
    return None


def _check_shifts(crop: int, step: int, main: Part, inputs: Mapping[str, _Seen]) -> None:
    """Raise DataError when not all that is shown can be shifted by whole pixels."""
    other = next((key for key, seen in inputs.items() if seen.scale is None), None)
    if other is not None:
        raise DataError(
            f"crop {crop}: {other} is no whole multiple or part of {main.key} in height and width: leave crop out"
        )
    if crop < step:
        raise DataError(
            f"crop {crop}: {main.key} has to be shifted by {step} pixels for what is shifted with it to move by whole "
            f"ones: give at least {step}"
        )


def _inks(
    augment: Augment,
    main: Part,
    inputs: Mapping[str, Part],
    seen_inputs: Mapping[str, _Seen],
    targets: Mapping[str, Part],
    seen_targets: Mapping[str, _Seen],
) -> dict[str, Ink]:
    """Return how inputs show colours that change: those with as many channels as the image.

    Raises DataError where the image has no colours, or a target shows them too.
    """
    asked = next(name for name, value in augment.colours.items() if value)
    axes = spatial_axes(main.shape)
    assert axes is not None
    _, count = _channels(main.shape, axes)
    if count not in (1, 3) or (augment.saturation and count != 3):
        wanted = "3 channels" if augment.saturation else "1 or 3 channels"
        asked = NAMES[2] if augment.saturation else asked
        raise DataError(
            f"{asked}: {main.key} {list(main.shape)} has {count}, it is for images of {wanted}: leave it out"
        )
    if main.whole:
        raise DataError(f"{asked}: the model reads {main.key} as integers, colours are numbers: leave it out")
    for name, seen in seen_targets.items():
        part = targets[name]
        if not part.labels and _channels(part.shape, seen.axes)[1] == count:
            raise DataError(
                f"{asked}: {part.key} shows the image too, and its colours would no longer be those of {main.key}: "
                "leave it out"
            )
    found = {}
    for name, seen in seen_inputs.items():
        axis, own = _channels(inputs[name].shape, seen.axes)
        if own == count and not inputs[name].whole:
            found[name] = Ink(axis, inputs[name].top)
    return found


def _channels(shape: Shape, axes: tuple[int, int]) -> tuple[int | None, int]:
    """Return the axis of channels of a sample and how many there are; without one it is grey: None, 1.

    >>> _channels((3, 8, 8), (1, 2)), _channels((8, 8), (0, 1))
    ((0, 3), (None, 1))
    """
    rest = [axis for axis in range(len(shape)) if axis not in axes]
    return (rest[0], shape[rest[0]]) if rest else (None, 1)


def _view(seen: _Seen, step: int, fill: int | None) -> Framed:
    return Framed(seen.axes, int((seen.scale or 0) * step), fill)


def _described(parts: Mapping[str, Part], views: Mapping[str, Framed], step: int) -> list[str]:
    """Return the parts that are changed, each with its size where that is not the image's."""
    texts = []
    for name, view in views.items():
        scale = Fraction(view.unit, step)
        text = parts[name].key
        texts.append(
            text if scale in (0, 1) else f"{text} ({scale} times the size, shifted {scale} times as far)"
        )
    return texts


def _note(augment: Augment, main: Part, inputs: list[str], targets: list[str]) -> str:
    """Return what is done to what; `augment` with the farthest shift that there is."""
    what = str(augment)
    if augment.crop and len(inputs) + len(targets) > 1:
        what += f" of {main.key}"
    edges = "" if not augment.crop else "; edges are repeated" if targets else "; zeros move in"
    return f"augmentation, {what}: changes {', '.join(inputs + targets)}{edges}"


def _of_targets(augment: Augment, targets: Mapping[str, Part], dense: Mapping[str, Framed]) -> str:
    """Return what has to be said of targets: labels that move in, and what stays as it is."""
    text = ""
    for name, part in targets.items():
        if name not in dense and part.labels and not part.shape:
            text += f"; {part.key} is left as it is"
        elif name not in dense:
            text += f"; {part.key} {list(part.shape)} is left as it is: positions in it would no longer fit the images"
        elif augment.crop and part.ignored is not None:
            text += f"; {part.ignored} moves into {part.key}"
    if dense and (augment.cutout or augment.inks):
        text += (
            f"; colours and blanked squares do not change {', '.join(targets[name].key for name in dense)}"
        )
    return text
