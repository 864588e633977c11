"""Sequences of different lengths: which inputs and targets are cut, and the training graphs for every size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from onnx_oto import data
from onnx_oto.data.buckets import Along, Bucketed, lengths_of, rounded, sizes_for
from onnx_oto.errors import ModelError, UnsupportedError, UsageError
from onnx_oto.gradients import Preparation
from onnx_oto.losses import MADE, Target, teacher_target

Patterns = Mapping[str, tuple[int | None, ...]]


def padding_of(asked: int | str, header: data.Header) -> int:
    """Return what sequences are filled up with. asked: the number, or "auto": what the data say. Raises UsageError."""
    if not isinstance(asked, str):
        return asked
    if header.padding is None:
        raise UsageError(
            f"pad-value is {asked}, and the data do not say what their sequences are filled up with: give the number"
        )
    return header.padding


def bucketed(
    preparation: Preparation, dataset: data.Dataset, pad: int, patterns: Patterns, *, scaled: bool = False
) -> tuple[tuple[Preparation, ...], data.Dataset]:
    """Return the preparations for the sizes that batches are cut to, the largest first, and the data so cut.

    patterns: shape of one sample, None for open sizes, of the inputs that leave any open. A model that leaves none has
    one size, and only the labels behind the ends are ignored. scaled: whether numbers are normalised. Raises UsageError
    where nothing tells lengths, and where targets would count that are filled up.
    """
    along, full, is_open = _along(preparation, dataset.train, pad, patterns, scaled=scaled)
    splits = [each for each in (dataset.train, dataset.test, dataset.val) if each is not None]
    lengths = [lengths_of(split, along) for split in splits]
    largest = rounded(max(int(each.max()) for each in lengths), full) if is_open else full
    sizes = {size for size in sizes_for(lengths[0], full) if size < largest} if is_open else set()
    tried = {size: _of_size(preparation, along, full, size) for size in sorted({*sizes, largest})}
    made = {size: each for size, each in tried.items() if each is not None}
    if largest not in made:
        made[full] = preparation
    along = _with_targets(along, preparation, made, full)
    ends = tuple(made)
    way = f"batches of similar lengths, cut to {', '.join(map(str, ends))}"
    note = (
        f"{', '.join(along.mains)}: filled up with {pad}, {lengths[0].min()} to {lengths[0].max()} long; "
        f"{way if is_open else f'the model reads {full} and no other length'}"
    )
    cut = replace(
        dataset,
        train=Bucketed(dataset.train, along, ends, lengths[0]),
        test=Bucketed(dataset.test, along, ends),
        val=None if dataset.val is None else Bucketed(dataset.val, along, ends),
        notes=(*dataset.notes, note),
        lengths=lengths[0] if len(ends) > 1 else None,
    )
    return tuple(reversed(made.values())), cut


def _along(
    preparation: Preparation, train: data.Source, pad: int, patterns: Patterns, *, scaled: bool
) -> tuple[Along, int, bool]:
    """Return which inputs are cut, the size of that axis as stored, and whether the model leaves it open."""
    places, is_open = _places(preparation, patterns)
    shapes = {feed.name: feed.shape for feed in preparation.feeds}
    first = next(iter(places))
    full = shapes[first][places[first]]
    if scaled and any(len(shapes[name]) > 1 for name in places):
        raise UsageError(
            "pad-value: mean and std change what sequences are filled up with: leave one of them out"
        )
    inputs = {name: axis for name, axis in places.items() if shapes[name][axis] == full}
    along = _telling(Along(tuple(inputs), pad, inputs), train, full)
    for name, pattern in patterns.items() if is_open else ():
        others = [at for at, size in enumerate(pattern) if size is None and shapes[name][at] == full]
        if others:
            inputs.setdefault(name, others[0])
    return replace(along, inputs=inputs), full, is_open


def _places(preparation: Preparation, patterns: Patterns) -> tuple[dict[str, int], bool]:
    """Return the inputs that may tell lengths, with the axis of their samples that counts places; whether it is open.

    Those of integers, where there are any; without open axes those of integers alone.
    """
    feeds = [feed for feed in preparation.feeds if feed.batched and feed.shape]
    candidates = [feed for feed in feeds if None in patterns.get(feed.name, ())]
    is_open = bool(candidates)
    whole = [feed for feed in candidates or feeds if feed.dtype.kind in "iu"]
    chosen = whole or candidates
    if not chosen:
        raise UsageError("pad-value: no input reads sequences of integers or of an open length: leave it out")
    return {feed.name: patterns[feed.name].index(None) if is_open else 0 for feed in chosen}, is_open


def _telling(along: Along, train: data.Source, full: int) -> Along:
    """Return what tells lengths by those inputs alone that are filled up with the number: a mask may not be."""
    each = [replace(along, mains=(name,)) for name in along.mains]
    telling = tuple(one.mains[0] for one in each if lengths_of(train, one).min() < full)
    return replace(along, mains=telling or along.mains)


def _of_size(preparation: Preparation, along: Along, full: int, size: int) -> Preparation | None:
    """Return the preparation for sequences of a size; None where the model does not take it."""
    if size == full:
        return preparation
    shapes = {
        name: tuple(size if at == along.inputs.get(name) else each for at, each in enumerate(shape))
        for name, shape in preparation.spec.sample_shapes.items()
    }
    targets = {
        name: tuple(size if each == full else each for each in shape)
        for name, shape in preparation.spec.target_shapes.items()
    }
    try:
        made = preparation.respecified(sample_shapes=shapes, target_shapes=targets)
        return made if not made.refusals and made.targets else None
    except (UnsupportedError, ModelError):
        return None


def _with_targets(
    along: Along, preparation: Preparation, made: Mapping[int, Preparation], full: int
) -> Along:
    """Return what is cut with the targets that have an entry for every place: their size follows that of the inputs."""
    other = next((each for size, each in made.items() if size != full), None)
    axes: dict[str, int] = {}
    ignored: dict[str, int] = {}
    for name, target in preparation.targets.items():
        if name in MADE:
            continue
        axis = _axis(target, full, None if other is None else other.targets[name])
        if axis is None:
            continue
        axes[name] = axis - 1
        if target.classes is None or target.ignored is None:
            who = "what the teacher says" if name.startswith(teacher_target(0)[:-1]) else f"target {name!r}"
            raise UsageError(
                f"pad-value: {who} holds numbers for every place, and those that are filled up would count: "
                "leave it out"
            )
        ignored[name] = target.ignored
    return replace(along, targets=axes, ignored=ignored)


def _axis(target: Target, full: int, other: Target | None) -> int | None:
    """Return the axis of a target that counts places: the one that differs at another size, or has the full one."""
    for at, size in enumerate(target.shape):
        if at and (size == full if other is None else size != other.shape[at]):
            return at
    return None
