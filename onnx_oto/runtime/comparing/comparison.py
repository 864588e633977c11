"""One comparison under way: both models in sessions that are made once, what was fed, and what was found."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from onnx_oto.errors import CrashedError, LimitError, RuntimeMissingError, UnsupportedError
from onnx_oto.runtime.comparing.difference import DIFFERENT, SLICE_SLACK, Difference, difference, varies
from onnx_oto.runtime.comparing.examine import Examiner, Finding
from onnx_oto.runtime.comparing.inputs import Array, Feeder, Sizes
from onnx_oto.runtime.comparing.probes import cut_tensors, in_front, only_outputs, probes, with_outputs
from onnx_oto.runtime.comparing.sizes import Ran
from onnx_oto.runtime.comparing.verdict import Departure, Verdict, size_text
from onnx_oto.runtime.runner import Arrays, first_line, in_onnxruntime, in_reference, runner

Inside = Callable[[str], "Mapping[int, npt.NDArray[np.int64]] | None"]
MOST_DEATHS = 3
"""How often the process that runs the models may go down, at sizes that do not suit them."""
MOST_SECONDS = 5.0
"""After which a run that goes down is not tried at other sizes."""
INNER = (16, 64, 256)
"""How many tensors in front of outputs that show nothing are looked at, in steps, nearest first."""


@dataclass(frozen=True, eq=False)
class Shown:
    """One feed and what the full model made of it."""

    sizes: Sizes
    feed: Arrays
    outputs: list[Array]

    @property
    def elements(self) -> int:
        """How many numbers were fed."""
        return sum(array.size for array in self.feed.values())


class Differs(Exception):
    """The models differ and nothing explains it; the verdict says where."""

    def __init__(self, trouble: str, found: Difference) -> None:
        super().__init__(trouble)
        self.trouble, self.found = trouble, found


class Comparison:
    """Runs both models and judges. Raises Differs at the first difference that counts.

    sources: of feeds, tried in turn until the full model runs. first, largest, latest: the first feed, the one of
    most numbers, and the last, with what the full model made of them.
    """

    def __init__(
        self,
        full: onnx.ModelProto,
        compact: onnx.ModelProto,
        rng: np.random.Generator,
        *,
        allowed: float | None = None,
        inside: Inside | None = None,
    ) -> None:
        """allowed: the largest difference of floats instead of the tolerance of their type (upcast models).

        inside: which positions of the full model's tensors the compact ones have, by axis, where that is known.
        """
        self.full, self.compact, self.rng, self.allowed = full, compact, rng, allowed
        self._inside = inside or (lambda name: None)
        self._parts: set[str] = set()
        self.outputs = [value.name for value in full.graph.output]
        self.cut = cut_tensors(full, compact)
        self.sources: Callable[[], Sequence[Feeder]] = list
        self.first: Shown | None = None
        self.largest: Shown | None = None
        self.latest: Shown | None = None
        self.error: Exception | None = None
        self.inner: tuple[str, ...] = ()
        self.samples = 0
        self._worst = Difference(True, 0.0, 0.0)
        self._apart: dict[str, float] = {}
        self._ran: dict[tuple[tuple[str, int], ...], Ran] = {}
        self._left_out: set[tuple[tuple[str, int], ...]] = set()
        self._judged: list[Sizes] = []
        self._unstable: list[Sizes] = []
        self._findings: list[Finding] = []
        self._change: Departure | None = None
        self._deaths = 0
        self._use(probes(full, compact))

    def _use(self, names: Sequence[str]) -> None:
        """Open the sessions; `names`: further tensors that are compared."""
        self.names = [*self.outputs, *(name for name in names if name not in self.outputs)]
        full, compact = with_outputs(self.full, self.names), with_outputs(self.compact, self.names)
        self._examiner = Examiner(
            self.full, self.compact, [name for name in self.names if name not in self._parts]
        )
        try:
            self._left = in_onnxruntime(full)
        except (UnsupportedError, RuntimeMissingError) as error:
            self._left, self._right = (in_reference(model, str(error)) for model in (full, compact))
            return
        try:
            self._right = in_onnxruntime(compact)
        except UnsupportedError as error:
            raise Differs(
                f"{self._left.runtime} runs the full model but not the compact one: {error}", DIFFERENT
            ) from None

    # --- running ----------------------------------------------------------------------------------------------
    def trial(self, sizes: Sizes) -> Ran:
        """Run and judge at these sizes, unless that was done before; see `sizes.Trial`."""
        key = tuple(sorted(sizes.items()))
        if key not in self._ran:
            self._ran[key] = self.again(sizes)
        return self._ran[key]

    def skip(self, sizes: Sizes, reason: str = "") -> None:
        """Count sizes at which the full model is not run."""
        if reason and self.error is None:
            self.error = UnsupportedError(reason)
        self._left_out.add(tuple(sorted(sizes.items())))

    def again(self, sizes: Sizes) -> Ran:
        """Run and judge at these sizes on a new feed."""
        seconds = 0.0
        for source in self.sources():
            feed = source.feed(sizes, self.rng)
            begin = time.perf_counter()
            try:
                outputs, seconds = self._left.run(feed)
            except Exception as error:  # the runtime raises many types for sizes that do not fit
                seconds = time.perf_counter() - begin
                self._bear(error, seconds)
                continue
            self._judge(Shown(sizes, feed, outputs))
            return Ran(True, seconds)
        return Ran(False, seconds)

    def _bear(self, error: Exception, seconds: float) -> None:
        """Take it that the full model does not run at some sizes; not when it went down often, or slowly, by that."""
        self.error = self.error or error.with_traceback(None)  # whose frames hold this comparison
        if isinstance(error, CrashedError | LimitError):
            self._deaths += 1
            if self._deaths >= MOST_DEATHS or seconds > MOST_SECONDS:
                raise error

    def feed(self, feed: Arrays, sizes: Sizes) -> None:
        """Run and judge on a given feed. Raises UnsupportedError when the full model does not run on it."""
        try:
            outputs = self._left(feed)
        except (CrashedError, LimitError):
            raise
        except Exception as error:
            raise UnsupportedError(
                f"the full model does not run on the given inputs: {first_line(error)}"
            ) from None
        self._judge(Shown(sizes, feed, outputs))

    # --- judging ----------------------------------------------------------------------------------------------
    def _judge(self, shown: Shown) -> None:
        self.first, self.latest = self.first or shown, shown
        if self.largest is None or shown.elements > self.largest.elements:
            self.largest = shown
        try:
            gotten = self._right(shown.feed)
        except LimitError:
            raise
        except Exception as error:
            raise Differs(
                f"the compact model does not run at {size_text(shown.sizes)}: {first_line(error)}", DIFFERENT
            ) from None
        if not self._agree(shown, gotten):
            return
        if dict(shown.sizes) not in self._judged:
            self._judged.append(dict(shown.sizes))
        self.samples += next((len(value) for value in shown.feed.values() if value.ndim), 1)

    def _agree(self, shown: Shown, gotten: Sequence[Array]) -> bool:
        """Compare; False when the full model does not repeat itself here. Raises Differs."""
        worst, wrong = self._worst, None
        for index, (a, b) in enumerate(zip(shown.outputs, gotten, strict=True)):
            name = self.names[index]
            if name in self._parts:
                a = self._part(name, a)
            elif index >= len(self.outputs) and a.shape != b.shape:
                continue  # a tensor of which channels were removed
            found = difference(a, b, self.allowed)
            if name in self._parts and not found.ok:
                raise Differs(_sentence(name, found, shown.sizes, False), found)
            self._apart[name] = max(self._apart.get(name, 0.0), found.absolute)
            if not found.ok and (wrong is None or found.measure > wrong[1].measure):
                wrong = self.names[index], found
            if index < len(self.outputs):
                worst = max(worst, found, key=lambda each: each.relative)
        if wrong is None:
            self._worst = worst
            return True
        finding = self._examiner.examine(shown.feed, self.rng)
        is_jump = finding is not None and finding.found.ok and finding.jumping and not finding.noise
        if not is_jump and not self._examiner.repeats(self._left, self._right, shown.feed):
            self._unstable.append(dict(shown.sizes))
            return False
        if finding is None or not finding.found.ok:
            name, found = wrong
            if finding is not None and np.isfinite(finding.found.relative):
                name, found = finding.name, finding.found
            raise Differs(_sentence(name, found, shown.sizes, name in self.outputs), found)
        self._findings.append(finding)
        self._worst = max(self._worst, finding.found, key=lambda each: each.relative)
        return True

    # --- evidence ---------------------------------------------------------------------------------------------
    def blind(self, one: Sequence[Array], other: Sequence[Array] | None) -> list[str]:
        """Return the outputs that depend on what was cut and did not vary between two feeds.

        other None: there was one feed; then they must hold finite values that are not all the same.
        """
        found = []
        for index, name in enumerate(self.outputs):
            if self.cut is not None and name not in self.cut:
                continue
            a = one[index]
            apart = self._apart.get(name, np.inf)
            seen = varies(a, other[index], apart) if other is not None else is_lively(a)
            if not seen:
                found.append(name)
        return found

    def is_evidence(self, blind: Sequence[str]) -> bool:
        """Say whether an output that depends on what was cut varied."""
        return any(name not in blind for name in self.outputs if self.cut is None or name in self.cut)

    def has_finite(self) -> bool:
        """Say whether an output of the first feed holds a finite number."""
        arrays = () if self.first is None else self.first.outputs[: len(self.outputs)]
        return any(a.dtype.kind not in "fc" or bool(np.isfinite(a).any()) for a in arrays)

    def repeat(self) -> None:
        """Run and judge at all sizes again, on new feeds."""
        for sizes in list(self._judged):
            self.again(sizes)

    def run(self, source: Feeder, sizes: Sizes) -> Shown | None:
        """Run only the full model; None when it does not run."""
        feed = source.feed(sizes, self.rng)
        try:
            return Shown(sizes, feed, self._left(feed))
        except Exception:
            return None

    def look_inside(self, outputs: Sequence[str], one: Shown, other: Shown, model: onnx.ModelProto) -> bool:
        """Compare the nearest tensors in front of outputs that vary, all feeds again; say whether there are any.

        That is: between `one` and `other`, run by the full model and by `model` (the same, or the one before zeroing).
        """
        names = [n for n in in_front(self.full, self.compact, outputs) if self.cut is None or n in self.cut]
        begin = 0
        for count in INNER:
            chosen = self._varying(names[begin : begin + count], one, other, model)
            if chosen:
                self.inner = (*self.inner, *chosen)
                self._use([*self.names, *chosen])
                self.repeat()
                self._judge(Shown(one.sizes, one.feed, self._left(one.feed)))
                return True
            begin += count
        return False

    def _varying(self, names: Sequence[str], one: Shown, other: Shown, model: onnx.ModelProto) -> list[str]:
        if not names:
            return []
        left, small = (runner(only_outputs(each, names)) for each in (self.full, self.compact))
        again = left if model is self.full else runner(only_outputs(model, names))
        found = []
        for name, a, b, c in zip(names, left(one.feed), again(other.feed), small(one.feed), strict=True):
            x, y = (a, b) if a.shape == c.shape else (self._part(name, a), self._part(name, b))
            if x.shape == c.shape and varies(x, y, difference(x, c).absolute):
                found.append(name)
                self._parts.update([name] if a.shape != c.shape else [])
        return found

    def _part(self, name: str, whole: Array) -> Array:
        """Return what the compact model has of a tensor of the full one; all of it where that is not known."""
        for axis, positions in (self._inside(name) or {}).items():
            if axis < whole.ndim and positions.max(initial=-1) < whole.shape[axis]:
                whole = whole.take(positions, axis=axis)
        return whole

    def change_from(self, original: onnx.ModelProto) -> Departure | None:
        """Return how far the outputs are from those of the original model, on the first feed."""
        if self.first is None:
            return None
        if self._change is not None:
            return self._change
        before = runner(original)(self.first.feed)
        found = [difference(a, b) for a, b in zip(before, self.first.outputs, strict=False)]
        self._change = Departure(
            max((f.absolute for f in found), default=0.0), max((f.relative for f in found), default=0.0)
        )
        return self._change

    def verdict(self, failed: Differs | None = None) -> Verdict:
        """Return what was found so far."""
        worst = self._worst if failed is None else failed.found
        return Verdict(
            passed=failed is None,
            max_abs=worst.absolute,
            max_rel=worst.relative,
            samples=self.samples,
            runtime=self._left.runtime,
            refusal=self._left.refusal,
            sizes=tuple(self._judged),
            skipped=sum(not ran.ok for ran in self._ran.values()) + len(self._left_out - set(self._ran)),
            unstable=tuple(self._unstable),
            jumping=tuple(sorted({op for finding in self._findings for op in finding.jumping})),
            inner=self.inner,
            upcast=self.allowed is not None,
            noise=max((finding.noise for finding in self._findings), default=0.0),
            trouble="" if failed is None else failed.trouble,
        )


def _sentence(name: str, found: Difference, sizes: Sizes, is_output: bool) -> str:
    what = "output" if is_output else "tensor"
    share = f"{found.relative:.2g} of its largest value"
    if found.sliced > found.relative:
        share = f"{SLICE_SLACK * found.sliced:.2g} of the largest value of its slice"
    return f"{what} '{name}' by {found.absolute:.2g} ({share}) at {size_text(sizes)}"


def is_lively(a: Array) -> bool:
    """Say whether an array holds finite values that are not all the same."""
    if a.dtype.kind in "OSU":
        return False
    values = a[np.isfinite(a)] if a.dtype.kind in "fc" else a.reshape(-1)
    return bool(values.size) and (a.size == 1 or bool((values != values.flat[0]).any()))
