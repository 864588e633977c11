"""Comparing the outputs of two models: at several sizes, and on inputs that make the outputs vary."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx

from onnx_oto.errors import LimitError, UnsupportedError, UsageError
from onnx_oto.runtime.comparing.comparison import Comparison, Differs, Inside, Shown
from onnx_oto.runtime.comparing.difference import BFLOAT16
from onnx_oto.runtime.comparing.inputs import (
    MANNERS,
    NORMAL,
    Feeder,
    Given,
    Manner,
    Sizes,
    Slot,
    open_axes,
    sizes_of,
    slots,
)
from onnx_oto.runtime.comparing.known import look_at
from onnx_oto.runtime.comparing.ranges import Drawn, counting, ranges
from onnx_oto.runtime.comparing.sizes import Explorer, Ran, constants, find_base, hints
from onnx_oto.runtime.comparing.upcast import alike, upcast
from onnx_oto.runtime.comparing.verdict import Verdict, size_text
from onnx_oto.runtime.limits import SENSIBLE, Limits, allowance, limited
from onnx_oto.runtime.runner import Arrays, first_line

SHARE_OF_INPUTS = 0.25
"""Of the memory that running may take: what one input may."""
MOST_INPUTS = 10_000
"""Opening a session takes time that grows with the square of their number."""
GIVE_INPUTS = "give inputs that do with --inputs FILE.npz, or their sizes with --input-shape NAME:..."


@dataclass(frozen=True, kw_only=True)
class Feeding:
    """What a user says of the inputs, and of what running on them may take.

    examples: feeds; shapes: of inputs by name, to begin with.
    """

    examples: Sequence[Arrays] = ()
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    limits: Limits = SENSIBLE


def compare(
    full: onnx.ModelProto,
    compact: onnx.ModelProto,
    *,
    seed: int = 0,
    batches: int = 2,
    inputs: Iterable[Arrays] | None = None,
    feeding: Feeding | None = None,
    original: onnx.ModelProto | None = None,
    inside: Inside | None = None,
) -> Verdict:
    """Return how far the outputs of two models differ on random inputs, or only on the given `inputs`.

    Open axes are run at several sizes (see `sizes`), integers are drawn from what the graph allows (see `ranges`),
    floats so that outputs vary; where all sizes are fixed there are `batches` feeds. Sizes at which the full model
    does not run are skipped. The tensors that an output is computed from by operators of one input are compared too
    where their shapes agree: behind a saturated Sigmoid or Softmax outputs alone prove little; where outputs do not
    vary, tensors further in. A difference is looked into before it counts (see `examine`). feeding: sizes and
    values to begin with. original: the full model before its groups were zeroed, to say what zeroing did. inside: which
    positions of the full model's tensors the compact ones have, so that tensors that lost channels are compared too.

    Raises UnsupportedError when the full model cannot be run on any input, does not repeat itself, or when nothing
    that depends on what was cut varies: then nothing is proved.
    """
    feeding = feeding or Feeding()
    with limited(feeding.limits):
        if len(full.graph.input) > MOST_INPUTS:
            raise UnsupportedError(
                f"the model has {len(full.graph.input)} inputs, verification feeds {MOST_INPUTS} at most"
            )
        full, compact, wide = alike(full, compact)
        if wide and original is not None:
            original = upcast(original)
        rng, allowed = np.random.default_rng(seed), BFLOAT16 if wide else None
        try:
            trial = Comparison(full, compact, rng, allowed=allowed, inside=inside)
        except Differs as stop:  # the compact model cannot be opened
            return Verdict(False, stop.found.absolute, stop.found.relative, 0, trouble=stop.trouble)
        try:
            if inputs is not None:
                _run_given(trial, list(inputs))
            else:
                _Probing(trial, slots(full), feeding).run(batches, original)
        except Differs as stop:
            return trial.verdict(stop)
        finally:  # what holds the trial would keep its sessions open until garbage is collected
            trial.sources = list
        return concluded(trial, original)


def concluded(trial: Comparison, original: onnx.ModelProto | None = None) -> Verdict:
    """Return the verdict on models that agreed. Raises UnsupportedError when that proves nothing."""
    verdict = trial.verdict()
    if not verdict.sizes:
        raise UnsupportedError(
            f"{verdict.runtime} gives other results each time the full model gets the same inputs, so nothing can be "
            "verified: use another version of onnxruntime"
        )
    return verdict if original is None else replace(verdict, original=trial.change_from(original))


def _run_given(trial: Comparison, feeds: Sequence[Arrays]) -> None:
    """Compare on feeds as they are; they must give something finite."""
    try:
        inputs: tuple[Slot, ...] = slots(trial.full)
    except UnsupportedError:
        inputs = ()
    lively = False
    for feed in feeds:
        trial.feed(feed, sizes_of(inputs, feed))
        lively = lively or trial.has_finite()
    if not lively:
        raise UnsupportedError(
            "on the given inputs no output of the full model holds a finite number, so nothing is proved"
        )


class _Probing:
    """Random feeds, or those cropped from examples, at several sizes."""

    def __init__(self, trial: Comparison, inputs: tuple[Slot, ...], feeding: Feeding) -> None:
        self.trial = trial
        self.inputs = inputs
        self.axes = open_axes(inputs)
        self.examples = list(feeding.examples)
        self.pinned = pinned_sizes(inputs, feeding.shapes)
        known = None
        names = counting(trial.full, inputs)
        if not self.examples and (names or not all(self.axes.values())):
            known = look_at(trial.full, inputs)
        self.ranges = ranges(known, names)
        self.known = known
        self.manner = NORMAL
        self.most = allowance(weights=0, fed=0).memory
        _require_small(inputs, self.most)
        self._count = 0
        trial.sources = self.sources

    def sources(self) -> list[Feeder]:
        """Return where the next feed may come from: integers of unknown meaning are 0 and 1 every other time."""
        self._count += 1
        if self.examples:
            return [Given(self.inputs, self.examples[self._count % len(self.examples)])]
        drawn = Drawn(self.inputs, self.ranges, self.manner, wide=self._count % 2 == 0)
        if all(slot.dtype.kind not in "iu" for slot in self.inputs) and not self.ranges.limits:
            return [drawn]
        return [drawn, replace(drawn, wide=False), replace(drawn, blind=True)]

    def run(self, batches: int, original: onnx.ModelProto | None) -> None:
        """Compare at every size, then make sure that this showed something."""
        base = self._base()
        if not self.axes and not self.examples:
            for _ in range(batches - 1):
                self.trial.again({})
        self._explore(base)
        one, other = self._two_feeds(base)
        blind = self.trial.blind(one.outputs, None if other is None else other.outputs)
        if blind and not self.examples:
            better = self._better_manner(one, blind)
            if better is not None:
                self.manner, (one, other), blind = better
                self.trial.again(one.sizes)
                self.trial.repeat()
        if blind and not self.trial.look_inside(blind, one, other or one, self.trial.full):
            self._require(blind)
        if original is not None:
            self._look_at_change(original, one)

    def _base(self) -> dict[str, int]:
        """Run at the sizes to begin with and return them."""
        if self.examples:
            sizes = sizes_of(self.inputs, self.examples[0])
            for feed in self.examples:
                self.trial.feed(feed, sizes_of(self.inputs, feed))
            return sizes
        implied = {} if self.known is None else self.known.implied()
        found = self._search({**implied, **self.pinned}) if implied.keys() - self.pinned.keys() else None
        found = found or self._search(self.pinned)
        if found is None and self.known is not None:  # maybe it is not true that a tensor would be empty
            self.known = None
            found = self._search(self.pinned)
        if found is None:
            raise UnsupportedError(
                "the full model does not run on random inputs, so nothing can be verified: "
                f"{first_line(self.trial.error) or 'no inputs'}; {GIVE_INPUTS}"
            )
        return {axis: found[axis] for axis in self.axes}

    def _search(self, fixed: Sizes) -> dict[str, int] | None:
        """Return the first sizes at which the model runs, some of them fixed."""
        free = {axis: counts for axis, counts in self.axes.items() if axis not in fixed}
        found = find_base(
            self.inputs, free, hints(self.trial.full), lambda sizes: self._try({**sizes, **fixed})
        )
        return None if found is None else {**found, **fixed}

    def _try(self, sizes: Sizes) -> Ran:
        """Run and judge at these sizes, unless that leaves a tensor empty or makes one larger than all may be."""
        if self.known is not None and self.known.is_empty(sizes):
            self.trial.skip(sizes)
            return Ran(False, 0.0)
        if self.known is not None and (taken := self.known.largest(sizes)) > self.most:
            self.trial.skip(
                sizes, f"a tensor takes {taken / 1e9:.1f} GB at {size_text(sizes)} (see --limit-memory)"
            )
            return Ran(False, 0.0)
        return self.trial.trial(sizes)

    def _explore(self, base: dict[str, int]) -> None:
        if not self.axes:
            return
        seconds = self.trial.trial(base).seconds
        Explorer(self.axes, base, seconds, constants(self.trial.full), self._try).explore()

    def _two_feeds(self, base: Sizes) -> tuple[Shown, Shown | None]:
        """Return two feeds whose outputs can be compared with each other, None for examples of which there is one."""
        one = self.trial.largest
        assert one is not None
        if self.examples:
            return one, None
        latest = self.trial.latest
        if latest is not None and latest is not one and self._only_samples_differ(one.sizes, latest.sizes):
            return one, latest
        return one, self.trial.run(self._drawn(self.manner), one.sizes)

    def _only_samples_differ(self, one: Sizes, other: Sizes) -> bool:
        return all(counts or one[axis] == other[axis] for axis, counts in self.axes.items())

    def _drawn(self, manner: Manner) -> Feeder:
        return Drawn(self.inputs, self.ranges, manner)

    def _better_manner(
        self, one: Shown, blind: Sequence[str]
    ) -> tuple[Manner, tuple[Shown, Shown], list[str]] | None:
        """Return other values that make more outputs vary, two feeds of them, and the outputs still blind."""
        best = None
        for manner in MANNERS[1:]:
            source = self._drawn(manner)
            first, second = (self.trial.run(source, one.sizes) for _ in range(2))
            if first is None or second is None:
                continue
            still = self.trial.blind(first.outputs, second.outputs)
            if len(still) < len(best[2] if best else blind):
                best = manner, (first, second), still
            if not still:
                break
        return best

    def _require(self, blind: Sequence[str]) -> None:
        if not self.trial.is_evidence(blind):
            listed = ", ".join(f"'{name}'" for name in blind[:3])
            raise UnsupportedError(
                f"nothing is proved: on no inputs that were tried does output {listed} hold finite values that "
                f"vary, nor does what it is computed from; {GIVE_INPUTS}"
            )

    def _look_at_change(self, original: onnx.ModelProto, one: Shown) -> None:
        """Where zeroing moved no output, compare tensors that it did move."""
        change = self.trial.change_from(original)
        if change is not None and change.max_abs == 0.0:
            self.trial.look_inside(self.trial.outputs, one, one, original)


def _require_small(inputs: Sequence[Slot], most: float) -> None:
    """Raise LimitError when an input would take more than a share of the memory that running may take."""
    for slot in inputs:
        taken = math.prod(size for size in slot.dims if isinstance(size, int)) * slot.dtype.itemsize
        if taken > SHARE_OF_INPUTS * most:
            raise LimitError(
                f"input '{slot.name}' of shape {list(slot.dims)} takes {taken / 1e9:.1f} GB, too much to be verified "
                "on: allow more with --limit-memory"
            )


def pinned_sizes(inputs: Sequence[Slot], shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Return the sizes of open axes that given shapes say. Raises UsageError where they contradict the model."""
    by_name = {slot.name: slot for slot in inputs}
    found: dict[str, int] = {}
    for name, shape in shapes.items():
        slot = by_name.get(name)
        if slot is None:
            raise UsageError(f"the model has no input '{name}': it has {sorted(by_name)}")
        if len(shape) != len(slot.dims):
            raise UsageError(f"input '{name}' has {len(slot.dims)} axes {list(slot.dims)}, not {len(shape)}")
        for dim, size in zip(slot.dims, shape, strict=True):
            wanted = dim if isinstance(dim, int) else found.setdefault(dim, size)
            if wanted != size or size < 1:
                raise UsageError(f"input '{name}' is {list(slot.dims)}: {list(shape)} does not fit")
    return {axis: size for axis, size in found.items() if axis in open_axes(inputs)}
