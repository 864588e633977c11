"""Comparing two models piece by piece, for those that no process should hold as a whole.

The full model is taken apart between operators, in their order, into pieces of so many bytes of weights. Each runs on
what the pieces before it made of random inputs. The same part of the compact model runs on those positions of the same
tensors that it has, and must make those positions of what the full part makes: where every piece agrees, the wholes do.
What no lanes say the positions of (sizes that are computed) the compact model brings along itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice

import numpy as np
import onnx
from onnx import NodeProto, TensorProto

from onnx_oto.errors import CrashedError, LimitError, UnsupportedError
from onnx_oto.model import Graph, graph
from onnx_oto.model.graph.order import captured
from onnx_oto.model.graph.skeleton import FOR_PEOPLE, copy_except_graph
from onnx_oto.model.graph.tensors import FLOATS, element_count, from_array, is_external, to_array
from onnx_oto.runtime.comparing.compare import Feeding, concluded, pinned_sizes
from onnx_oto.runtime.comparing.comparison import Comparison, Differs, Inside, is_lively
from onnx_oto.runtime.comparing.difference import BFLOAT16
from onnx_oto.runtime.comparing.feeds import feeds_at
from onnx_oto.runtime.comparing.inputs import Array, Sizes, open_axes, sizes_of, slots
from onnx_oto.runtime.comparing.upcast import upcast, uses_bfloat16
from onnx_oto.runtime.comparing.verdict import Verdict
from onnx_oto.runtime.limits import limited
from onnx_oto.runtime.runner import in_onnxruntime

PIECE_BYTES = 256 << 20
"""Weights of a piece, as float32: a process holds some five times as much."""
SIZES = ((2, 5), (1, 1))
"""How many samples, and how long all other open axes are, of what is fed."""
SECONDS_TO_TELL = 10.0
_GIVEN, _OWN, _KEPT, _AGAIN = "/given", "/own", "/kept", "/again"


@dataclass(frozen=True, eq=False)
class Held:
    """A model whose weights are read when they are needed. values: of external initializers, where not as stored."""

    model: onnx.ModelProto
    values: Mapping[str, Array]

    def weight(self, tensor: TensorProto) -> TensorProto:
        """Return an initializer with its payload."""
        if tensor.name in self.values:
            return from_array(self.values[tensor.name], tensor.name)
        return from_array(to_array(tensor), tensor.name) if is_external(tensor) else tensor


@dataclass(eq=False)
class _Fed:
    """One feed under way: what tensors hold that later pieces read, in the full model, and by the compact one's own."""

    sizes: Sizes
    full: dict[str, Array]
    own: dict[str, Array]


def compare_piecewise(
    full: Held,
    compact: Held,
    inside: Inside,
    *,
    seed: int = 0,
    feeding: Feeding | None = None,
    most: float = PIECE_BYTES,
    say: Callable[[str], None] = lambda text: None,
) -> Verdict:
    """Return how far two models differ, piece by piece. inside: see `compare`. most: bytes of weights of a piece.

    say: gets a sentence now and then, of how far it is.

    Raises UnsupportedError when the full model runs on no inputs, or shows nothing that is finite and varies.
    """
    feeding = feeding or Feeding()
    view = graph(full.model)
    with limited(feeding.limits):
        verdict, lively = None, False
        for turn in count():
            fed = [
                _Fed(sizes, dict(feed), {}) for sizes, feed in _feeds(full.model, view, feeding, seed, turn)
            ]
            if not fed:
                break
            verdict = _Walk(full, compact, inside, view, seed, most).run(fed, say)
            lively = any(
                is_lively(each.full[name]) for each in fed for name in view.outputs if name in each.full
            )
            if verdict is not None:
                break
    if verdict is None:
        raise UnsupportedError(
            "the full model does not run on the inputs that were tried, so nothing can be verified: give some that do "
            "with --inputs FILE.npz"
        )
    if verdict.passed and not lively:
        raise UnsupportedError(
            "nothing is proved: on no inputs that were tried do the outputs hold finite values that vary; give inputs "
            "that do with --inputs FILE.npz"
        )
    return verdict


def _feeds(
    model: onnx.ModelProto, view: Graph, feeding: Feeding, seed: int, turn: int
) -> Iterator[tuple[Sizes, Mapping[str, Array]]]:
    """Yield a feed for each of several sizes: the best guess in the first turn, others in later ones."""
    inputs = slots(model)
    axes, pinned = open_axes(inputs), pinned_sizes(inputs, feeding.shapes)
    if feeding.examples:
        yield from [(sizes_of(inputs, feed), feed) for feed in feeding.examples if turn == 0]
        return
    seen: list[Sizes] = []
    for samples, length in SIZES:
        sizes = {axis: samples if counts else length for axis, counts in axes.items()} | pinned
        if sizes not in seen:
            seen.append(sizes)
            yield from (
                (sizes, feed)
                for feed in islice(feeds_at(model, view, sizes, feeding, seed=seed), turn, turn + 1)
            )


class _Walk:
    """Goes through the full model. most: bytes of weights of a piece."""

    def __init__(
        self, full: Held, compact: Held, inside: Inside, view: Graph, seed: int, most: float
    ) -> None:
        self._full, self._compact, self._inside, self._most = full, compact, inside, most
        self._dtypes = view.dtypes
        self._outputs = set(view.outputs)
        self._allowed = BFLOAT16 if uses_bfloat16(full.model) else None
        self._rng = np.random.default_rng(seed)
        self._inputs = {value.name for value in full.model.graph.input}
        self._producer = {name: node for node in compact.model.graph.node for name in node.output if name}
        self._weights = {t.name: 4 * element_count(t) for t in full.model.graph.initializer}
        self._last: dict[str, int] = {}
        for number, node in enumerate(full.model.graph.node):
            self._last.update(dict.fromkeys(_read_by(node), number))
        self._last.update(dict.fromkeys(self._outputs, len(full.model.graph.node)))

    def run(self, fed: list[_Fed], say: Callable[[str], None]) -> Verdict | None:
        """Compare all pieces; `fed` loses feeds that the full model does not run on. Return what was found, if any."""
        total: Verdict | None = None
        pieces, told, every = 0, time.monotonic(), len(self._full.model.graph.node)
        for nodes, made in self._pieces():
            pieces += 1
            found = self._compare(nodes, made, fed)
            if found is None:
                return None
            total = found if total is None else _both(total, found)
            if not found.passed:
                break
            end = nodes[-1][0]
            if time.monotonic() - told > SECONDS_TO_TELL:
                told = time.monotonic()
                say(f"verifying, piece by piece: {end + 1} of {every} operators agree")
            for each in fed:
                for values in (each.full, each.own):
                    for name in [name for name in values if self._is_dead(name, end)]:
                        del values[name]
        assert total is not None
        sizes = tuple(dict(each.sizes) for each in fed)
        samples = sum(next((len(v) for v in each.full.values() if v.ndim), 1) for each in fed)
        return replace(total, pieces=pieces, samples=samples, sizes=sizes, upcast=self._allowed is not None)

    def _is_dead(self, name: str, after: int) -> bool:
        """Say whether nothing reads a tensor any more; inputs of the model stay, compact pieces may need them."""
        return name in self._last and self._last[name] <= after and name not in self._inputs

    def _pieces(self) -> Iterator[tuple[list[tuple[int, NodeProto]], list[str]]]:
        """Yield nodes with their numbers, and the tensors that later pieces read, or that are outputs."""
        every = self._full.model.graph.node
        piece: list[tuple[int, NodeProto]] = []
        counted: set[str] = set()
        taken = 0
        for number, node in enumerate(every):
            piece.append((number, node))
            taken += self._bytes(node, counted)
            counted |= _read_by(node)
            is_last = number + 1 == len(every)
            if not is_last and taken + self._bytes(every[number + 1], counted) <= self._most:
                continue
            made = [
                name
                for _, each in piece
                for name in each.output
                if name and self._last.get(name, -1) > number
            ]
            if is_last or all(name in self._producer for name in made):
                yield piece, made
                piece, counted, taken = [], set(), 0

    def _bytes(self, node: NodeProto, counted: set[str]) -> int:
        """Return what the weights of a node take as float32, those apart that were counted."""
        return sum(self._weights.get(name, 0) for name in _read_by(node) - counted)

    # --- one piece --------------------------------------------------------------------------------------------
    def _compare(
        self, nodes: Sequence[tuple[int, NodeProto]], made: list[str], fed: list[_Fed]
    ) -> Verdict | None:
        """Compare one piece on all feeds, and put what it makes into them; None where it runs on none of them."""
        protos = [node for _, node in nodes]
        read = {name for node in protos for name in _read_by(node)}
        given = [name for name in fed[0].full if name in read]
        small = self._cone(made, set(fed[0].full) | set(fed[0].own))
        needed = {name for node in small for name in _read_by(node)}
        known = {name: self._inside(name) for name in {*made, *needed}}
        told = [name for name in made if name in self._outputs or self._is_told(name, known[name])]
        shared = [name for name in fed[0].full if name in needed and name not in fed[0].own]
        own = [name for name in fed[0].own if name in needed]
        trial: Comparison | None = None
        every = list(dict.fromkeys([*given, *shared]))
        left = self._wrapped(self._full, protos, every, own, told, known, fed[0])
        right = self._wrapped(self._compact, small, every, own, told, known, fed[0], shared)
        run = in_onnxruntime(_outputs(left, made))
        carried = [name for name in made if name not in told]
        bring = in_onnxruntime(_outputs(right, carried)) if carried else None
        try:
            trial = Comparison(left, right, self._rng, allowed=self._allowed) if told else None
            for each in list(fed):
                feed = {name + _GIVEN: each.full[name] for name in every}
                feed |= {name + _OWN: each.own[name] for name in own}
                try:
                    results = dict(zip(made, run(feed), strict=True))
                except (CrashedError, LimitError):
                    raise
                except Exception:  # sizes that the model does not run at
                    fed.remove(each)
                    continue
                if trial is not None:
                    trial.feed(feed, each.sizes)
                if bring is not None:
                    each.own.update(zip(carried, bring(feed), strict=True))
                each.full.update(results)
        except Differs as stop:
            if trial is not None:
                return trial.verdict(stop)
            return Verdict(False, stop.found.absolute, stop.found.relative, 0, trouble=stop.trouble)
        if not fed:
            return None
        return Verdict(True, 0.0, 0.0, 0) if trial is None else concluded(trial)

    def _is_told(self, name: str, positions: object) -> bool:
        """Say whether positions of a tensor are compared: of floats; integers may be sizes, which are other ones."""
        return positions is not None and self._dtypes.get(name) in FLOATS

    def _cone(self, outputs: Iterable[str], there: set[str]) -> list[NodeProto]:
        """Return the nodes of the compact model that compute tensors from those that are there, in its order."""
        names, wanted = list(outputs), set[int]()
        while names:
            name = names.pop()
            node = self._producer.get(name)
            if name in there or node is None or id(node) in wanted:
                continue
            wanted.add(id(node))
            names.extend(_read_by(node))
        return [node for node in self._compact.model.graph.node if id(node) in wanted]

    def _wrapped(
        self,
        held: Held,
        nodes: Sequence[NodeProto],
        given: Sequence[str],
        own: Sequence[str],
        told: Sequence[str],
        known: Mapping[str, Mapping[int, Array] | None],
        like: _Fed,
        there: Collection[str] | None = None,
    ) -> onnx.ModelProto:
        """Return a piece that reads tensors of the full model, and makes what the compact one has of its results.

        there: of the compact model, those of the tensors that it takes of the full one; others it has of its own.
        """
        result = copy_except_graph(held.model, *FOR_PEOPLE)
        result.graph.name = "piece"
        for name in given:
            self._declare(result, name + _GIVEN, name, like.full[name])
            if there is None or name in there:
                _take(result, name + _GIVEN, (known.get(name) if there is not None else None) or {}, name)
        for name in own:
            self._declare(result, name + _OWN, name, like.own[name])
            if there is not None:
                _take(result, name + _OWN, {}, name)
        taken = {*(given if there is None else there), *own}
        for node in nodes:
            copy = result.graph.node.add()
            copy.CopyFrom(node)
            for place, name in enumerate(node.output):
                if name in taken:  # another output of a node of an earlier piece
                    copy.output[place] = name + _AGAIN
        read = {name for node in nodes for name in _read_by(node)}
        result.graph.initializer.extend(
            held.weight(tensor) for tensor in held.model.graph.initializer if tensor.name in read
        )
        for name in told:
            _take(result, name, {} if there is not None else known[name] or {}, name + _KEPT)
            result.graph.output.add(name=name + _KEPT)
        return self._widened(result)

    def _declare(self, model: onnx.ModelProto, name: str, tensor: str, like: Array) -> None:
        kind = self._dtypes.get(tensor) or onnx.helper.np_dtype_to_tensor_dtype(like.dtype)
        shape = [f"{name}[{axis}]" for axis in range(like.ndim)]
        model.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, shape))

    def _widened(self, model: onnx.ModelProto) -> onnx.ModelProto:
        return model if self._allowed is None else upcast(model)


def _take(model: onnx.ModelProto, source: str, positions: Mapping[int, Array], name: str) -> None:
    """Append nodes that give some positions of a tensor another name."""
    for step, (axis, index) in enumerate(positions.items()):
        last = step == len(positions) - 1
        made = name if last else f"{name}/taken{step}"
        model.graph.initializer.append(from_array(index.astype(np.int64), f"{made}/positions"))
        model.graph.node.append(
            onnx.helper.make_node("Gather", [source, f"{made}/positions"], [made], axis=axis)
        )
        source = made
    if not positions:
        model.graph.node.append(onnx.helper.make_node("Identity", [source], [name]))


def _outputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """Return a copy of a model with these outputs."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.output[:]
    result.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return result


def _read_by(node: NodeProto) -> set[str]:
    return {name for name in (*node.input, *captured(node)) if name}


def _both(one: Verdict, other: Verdict) -> Verdict:
    """Return what two pieces show together."""
    return replace(
        one if one.runtime else other,
        passed=other.passed,
        max_abs=max(one.max_abs, other.max_abs),
        max_rel=max(one.max_rel, other.max_rel),
        unstable=(*one.unstable, *other.unstable),
        jumping=tuple(sorted({*one.jumping, *other.jumping})),
        noise=max(one.noise, other.noise),
        trouble=other.trouble,
    )
