"""Why two models differ on a feed: the runtime does not repeat itself, an operator jumps, rounding, or a defect.

Asked only when the plain comparison failed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import onnx

from onnx_oto.errors import CrashedError, LimitError, UnsupportedError
from onnx_oto.model import Graph, Node, graph, normalise
from onnx_oto.runtime.comparing.difference import Difference, difference
from onnx_oto.runtime.comparing.inputs import Array
from onnx_oto.runtime.comparing.precise import IN_DOUBLE, SUMS, precise
from onnx_oto.runtime.comparing.probes import only_outputs, probes, with_outputs
from onnx_oto.runtime.comparing.tails import common_jumps, sever
from onnx_oto.runtime.runner import Arrays, Runner, in_onnxruntime, runner

Value = TypeVar("Value")

REPEATS = 4
ULP = 2.0**-23


@dataclass(frozen=True)
class Finding:
    """What examination says of one feed.

    found: the largest difference that was allowed or, if not ok, that of `name`, which nothing explains.
    jumping: operators in front of which was compared. noise: the full model's own error, where it was measured.
    """

    found: Difference
    name: str = ""
    jumping: tuple[str, ...] = ()
    noise: float = 0.0


class Examiner:
    """Two models taken apart. Sessions are made when they are first needed, and reused at other sizes."""

    def __init__(self, full: onnx.ModelProto, compact: onnx.ModelProto, names: Sequence[str]) -> None:
        self._full, self._compact, self._names = full, compact, list(names)
        self._parts: _Parts | None = None
        self._judged = False
        self._fresh: Runner | None = None

    def repeats(self, left: Runner, right: Runner, feed: Arrays) -> bool:
        """Say whether the full model gives the same again, in this session and in a new one."""
        if self._fresh is None:
            self._fresh = runner(self._full)
        count = len(self._full.graph.output)
        first = left(feed)[:count]
        for run in (left, self._fresh, *([left] * (REPEATS - 2))):
            _attempt(lambda: right(feed))  # other work in between: memory that is read unwritten changes
            if not all(_alike(a, b) for a, b in zip(first, run(feed)[:count], strict=True)):
                return False
        return True

    def examine(self, feed: Arrays, rng: np.random.Generator) -> Finding | None:
        """Return what explains the difference on this feed, None when the models cannot be taken apart."""
        if not self._judged:
            self._judged = True
            self._parts = _attempt(lambda: _Parts(self._full, self._compact, self._names))
        parts = self._parts
        return None if parts is None else _attempt(lambda: parts.judge(feed, rng))


def _alike(a: Array, b: Array) -> bool:
    return a.dtype.kind != "f" or difference(a, b).ok


def _attempt(job: Callable[[], Value]) -> Value | None:
    try:
        return job()
    except (CrashedError, LimitError):
        raise
    except Exception:  # taking apart is for models that can be: else the plain comparison counts
        return None


class _Parts:
    """Both models without the operators that jump.

    pairs: what is compared, by its names in full and compact model. given: what the operators gave, fed to the parts.
    """

    def __init__(self, full: onnx.ModelProto, compact: onnx.ModelProto, names: Sequence[str]) -> None:
        full, compact = normalise(full), normalise(compact)
        self._view, self._small_view = graph(full), graph(compact)
        self._jumping = common_jumps(self._view, self._small_view, full, compact)
        twins = [_twin(node, self._small_view) for node in self._jumping]
        made = {name for node in self._jumping for name in node.outputs if name}
        reads = dict(_reads(self._jumping, self._view, twins))
        self._rest = sever(full, self._view, self._jumping)
        self._small = sever(compact, self._small_view, twins)
        wanted = {value.name: value.name for value in self._rest.graph.output}
        wanted.update({mine: theirs for mine, theirs in reads.items() if mine not in made})
        demanded = set(wanted)
        wanted.update({name: name for name in names if name not in made})
        front = with_outputs(self._rest, list(wanted))
        wanted.update({name: name for name in probes(front, self._small) if name not in made})
        self.pairs = {mine: theirs for mine, theirs in wanted.items() if theirs in self._small_view.producer}
        self._probes = wanted.keys() - demanded  # where channels were removed, shapes differ
        self.given = [name for name in self._view.producer if name in made]
        outputs = [*self.pairs, *self.given]
        self._left = runner(only_outputs(full, outputs))
        self._right = runner(only_outputs(self._small, list(self.pairs.values())))
        self._again: Runner | None = None
        self._precise: tuple[Runner, Runner] | None = None

    def judge(self, feed: Arrays, rng: np.random.Generator) -> Finding:
        """Return the finding on one feed of the whole model."""
        found = self._left(feed)
        expected, given = found[: len(self.pairs)], found[len(self.pairs) :]
        fed = {**feed, **dict(zip(self.given, given, strict=True))}
        gotten = self._right(fed)
        results = [
            Difference(True, 0.0, 0.0) if name in self._probes and a.shape != b.shape else difference(a, b)
            for name, a, b in zip(self.pairs, expected, gotten, strict=True)
        ]
        jumping = tuple(sorted({node.op for node in self._jumping}))
        noises = [0.0] * len(results)
        if not all(result.ok for result in results):
            noises = self._noise(fed, expected, rng)
        worst = Difference(True, 0.0, 0.0)
        for name, a, result, noise in zip(self.pairs, expected, results, noises, strict=True):
            is_rounding = (
                a.dtype.kind == "f" and result.measure <= 2 * noise
            )  # of both models, to either side
            if not result.ok and not is_rounding:
                return Finding(result, name, jumping, noise)
            worst = max(worst, result._replace(ok=True), key=lambda each: each.relative)
        return Finding(worst, "", jumping, max(noises, default=0.0))

    def _noise(self, fed: Arrays, expected: Sequence[Array], rng: np.random.Generator) -> list[float]:
        """Return by how much the full model's own results are off, relative to each; 0 where the models disagree.

        Measured twice: against sums in float64, and with inputs moved by one unit in their last place.
        """
        if self._again is None or self._precise is None:
            part, small = (
                only_outputs(self._rest, list(self.pairs)),
                only_outputs(self._small, list(self.pairs.values())),
            )
            self._again = runner(part)
            self._precise = _in_double((part, self._view), (small, self._small_view))
        moved = {
            name: np.asarray(value * (1 + ULP * rng.choice([-1, 1], value.shape)), value.dtype)
            if value.dtype.kind == "f"
            else value
            for name, value in fed.items()
        }
        still, shaken = self._again(fed), self._again(moved)
        exact, small_exact = (run(fed) for run in self._precise)
        noises = []
        for at, wanted in enumerate(expected):
            noise = max(difference(wanted, exact[at]).measure, difference(still[at], shaken[at]).measure)
            noises.append(noise if difference(exact[at], small_exact[at]).ok else 0.0)
        return noises


def _in_double(*models: tuple[onnx.ModelProto, Graph]) -> tuple[Runner, Runner]:
    """Return runners of two models with as many operators in float64 as the runtime takes."""
    for ops in (IN_DOUBLE, SUMS):
        try:
            one, other = (in_onnxruntime(precise(model, view, ops), optimise=False) for model, view in models)
        except UnsupportedError:
            continue
        return one, other
    raise UnsupportedError("no float64 kernels")


def _twin(node: Node, view: Graph) -> Node:
    return view.producer[next(name for name in node.outputs if name)]


def _reads(jumping: Sequence[Node], view: Graph, twins: Sequence[Node]) -> Iterator[tuple[str, str]]:
    """Yield the computed tensors that nodes read, by their names in both models."""
    for node, twin in zip(jumping, twins, strict=True):
        for mine, theirs in zip(node.inputs, twin.inputs, strict=True):
            if mine in view.producer:
                yield mine, theirs
