"""The budgets of a verb: what its settings ask for, counted for a model, and how a choice keeps them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from onnx_oto.errors import OtoError
from onnx_oto.lanes.solution import BoolArray
from onnx_oto.model.graph.tensors import byte_count
from onnx_oto.model.normal.sharing import share_copies
from onnx_oto.pipeline.opening import Opened
from onnx_oto.pipeline.options import BudgetOptions
from onnx_oto.surgery import Compacted, cut
from onnx_oto.zigs import Analysis, Choice, analyse
from onnx_oto.zigs.budgets import Amount, Budget, OutOfReach, budget, shown
from onnx_oto.zigs.choose import Scope, coarsest
from onnx_oto.zigs.cost import count_macs, stated_sizes, symbol_sizes
from onnx_oto.zigs.groups import zero_lanes
from onnx_oto.zigs.terms import Terms, mac_terms, parameter_terms
from onnx_oto.zigs.widths import Rounding, automatic, fixed

if TYPE_CHECKING:
    from onnx_oto.pipeline.latency.making import Clock
    from onnx_oto.pipeline.latency.table import Table

MOSTLY = 0.95
"""The share of groups above which a cut is surely a mistake."""
CLOSE = 0.02
"""How near to the milliseconds that were asked for a measured model is near enough."""
_TRIALS = 4
_ROUNDS = 8
"""How often a choice is made anew because the model that came out costs other than was counted."""


def budgets_of(opened: Opened, options: BudgetOptions, clock: Clock | None = None) -> tuple[Budget, ...]:
    """Return the budgets that are asked for. clock: with the table, where latency is one of them."""
    found = []
    for name, asked in options.budgets.items():
        if name == "latency":
            assert clock is not None
            assert clock.table is not None
            from onnx_oto.pipeline.latency.making import latency_budget  # loads what measures

            found.append(latency_budget(opened, asked, clock.table))
        else:
            found.append(_COUNTED[name](opened, asked))
    return tuple(found)


def _params(opened: Opened, asked: Amount) -> Budget:
    return budget("params", asked, opened.analysis.params, parameter_terms(opened.analysis))


def _macs(opened: Opened, asked: Amount) -> Budget:
    macs = count_macs(opened.analysis)
    return budget(
        "macs", asked, macs.count, mac_terms(opened.analysis, symbol_sizes(opened.analysis, macs.at))
    )


def _bytes(opened: Opened, asked: Amount) -> Budget:
    terms, rest = _byte_terms(opened)
    return budget("bytes", asked, opened.file_bytes, terms, rest)


def _byte_terms(opened: Opened) -> tuple[Terms, float]:
    """Return the bytes of all weights by the lanes that stay, copies of one counted once, and those of the rest."""
    size_of: dict[str, float] = {}
    known: set[str] = set()
    weights = 0
    for name, tensor in opened.analysis.graph.initializers.items():
        elements = 1
        for size in tensor.dims:
            elements *= size
        weights += byte_count(tensor)
        origin = opened.origins.of(name)
        is_copy = origin.index is None and not origin.folded and origin.name in known
        if elements and not is_copy:
            size_of[name] = byte_count(tensor) / elements
            known.add(origin.name)
    return parameter_terms(opened.analysis, size_of), float(opened.model.ByteSize() - weights)


_COUNTED: dict[str, Callable[[Opened, Amount], Budget]] = {"params": _params, "macs": _macs, "bytes": _bytes}


def model_costs(opened: Opened) -> tuple[Budget, Budget, Budget]:
    """Return parameters, MACs and bytes of a model by the lanes that go, as budgets that are kept by all."""
    return _params(opened, 1.0), _macs(opened, 1.0), _bytes(opened, 1.0)


@dataclass(frozen=True, eq=False)
class Goal:
    """What a run is to keep to, settled before the first step: budgets, and which widths are wanted.

    table: of the runtime, where latency is a budget. planned: what was told of it before the start, where groups go.
    """

    budgets: tuple[Budget, ...] = ()
    rounding: Rounding = field(default_factory=lambda: fixed(1))
    table: Table | None = None
    planned: Plan | None = None


def rounding_of(
    analysis: Analysis,
    options: BudgetOptions,
    budgets: Sequence[Budget],
    scope: Scope,
    min_keep: float = 0.0,
    *,
    known: Table | None = None,
) -> Rounding:
    """Return the widths that are wanted: those that `--round-to` gives, or what it finds to suit kernels and goal.

    known: the table of the runtime, if there is one.
    """
    if options.round_to != "auto":
        return fixed(options.round_to)
    candidates = automatic() if known is None else automatic(known.staircase.block, known.staircase.alignment)
    return coarsest(analysis, options.share, candidates, budgets=budgets, scope=scope, min_keep=min_keep)


@dataclass(frozen=True, eq=False)
class Kept:
    """A choice whose compact model keeps the budgets. costs: of that model, by name."""

    choice: Choice
    result: Compacted
    costs: dict[str, float]
    budgets: tuple[Budget, ...]


def within(
    opened: Opened,
    budgets: Sequence[Budget],
    choosing: Callable[[Sequence[Budget]], Choice],
    clock: Clock | None = None,
) -> Kept:
    """Return the choice under budgets, cut, where the compact model is found to keep them.

    What surgery adds (a bias for constants that went) is not counted when lanes are chosen: the difference is, the next
    time. clock: measures compact models too, where their latency is a budget and the table was made for this verb.
    Raises OutOfReach with the least that a compact model was found to cost.
    """
    kept = _within(opened, budgets, choosing)
    asked = next((each for each in budgets if each.name == "latency"), None)
    if asked is None or clock is None or not clock.is_made:
        return kept
    tried: list[tuple[float, Kept]] = []
    while True:
        real = clock.latencies(opened.model, kept.result.model).left * asked.full
        tried.append((real / asked.most, kept))
        if abs(real / asked.most - 1) <= CLOSE or len(tried) == _TRIALS:
            break
        off = real / kept.costs["latency"]
        budgets = [each.scaled(off) if each.name == "latency" else each for each in kept.budgets]
        kept = _within(opened, budgets, choosing)
    under = [each for each in tried if each[0] <= 1 + CLOSE]
    return max(under, key=lambda each: each[0])[1] if under else min(tried, key=lambda each: each[0])[1]


def _within(
    opened: Opened, budgets: Sequence[Budget], choosing: Callable[[Sequence[Budget]], Choice]
) -> Kept:
    best: Kept | None = None
    seen: set[bytes] = set()
    for _ in range(_ROUNDS):
        try:
            choice = choosing(budgets)
        except OutOfReach as error:
            choice = Choice(error.drop, int(error.drop.sum()), sum(d.size for d in opened.analysis.prunable))
            _, costs = _cut(opened, error.drop, budgets)
            if not _keep(budgets, costs):
                choice = choosing(budgets := _corrected(budgets, error.drop, costs))
        if (key := choice.drop.tobytes()) in seen:
            break
        seen.add(key)
        result, costs = _cut(opened, choice.drop, budgets)
        kept = Kept(choice, result, costs, tuple(budgets))
        if _keep(budgets, costs) and (best is None or _used(kept) > _used(best)):
            best = kept
        if all(costs[each.name] == each.cost(choice.drop) for each in budgets):
            break
        corrected = _corrected(budgets, choice.drop, costs)
        if best is None:  # what was over stays so
            corrected = [max(*pair, key=lambda b: b.fixed) for pair in zip(budgets, corrected, strict=True)]
        budgets = corrected
    if best is None:
        raise OtoError(
            "no choice of channels kept the budgets in the compact model; this is a defect of onnx-oto"
        )
    return best


def _used(kept: Kept) -> float:
    """Return how much of its budgets a choice uses, added up."""
    return sum(kept.costs[each.name] / each.most for each in kept.budgets)


def _cut(opened: Opened, drop: BoolArray, budgets: Sequence[Budget]) -> tuple[Compacted, dict[str, float]]:
    """Return the compact model, and what it costs by the names of budgets."""
    result = cut(opened.analysis, drop)
    costs = measured(opened, result.model, budgets)
    predicted = {each.name: each.cost(drop) for each in budgets if each.name not in costs}
    return result, costs | predicted


def _keep(budgets: Sequence[Budget], costs: Mapping[str, float]) -> bool:
    return all(each.allows(costs[each.name]) for each in budgets)


def _corrected(budgets: Sequence[Budget], drop: BoolArray, costs: Mapping[str, float]) -> list[Budget]:
    """Return budgets that count for `drop` what the compact model costs."""
    return [each.tightened(costs[each.name], each.cost(drop)) for each in budgets]


def measured(opened: Opened, small: onnx.ModelProto, budgets: Sequence[Budget]) -> dict[str, float]:
    """Return what a compact model costs, by the names of budgets; read from the model itself."""
    found: dict[str, float] = {}
    names = {each.name for each in budgets}
    if names & {"params", "macs"}:
        analysis: Analysis = analyse(small)
        found["params"] = float(analysis.params)
        found["macs"] = float(count_macs(analysis, stated_sizes(opened.analysis)).count)
    if "bytes" in names:
        stored = onnx.ModelProto()
        stored.CopyFrom(small)
        share_copies(stored, opened.origins)
        found["bytes"] = float(stored.ByteSize())
    return {name: value for name, value in found.items() if name in names}


def plan(opened: Opened, choice: Choice, budgets: Sequence[Budget], rounding: Rounding) -> Plan:
    """Return what is known of a choice before anything is cut or trained."""
    zeros = zero_lanes(opened.analysis)
    return Plan(
        choice,
        tuple(budgets),
        (_params(opened, 1.0), _macs(opened, 1.0)),
        int((zeros & choice.drop).sum()),
        int((zeros & ~choice.drop).sum()),
        rounding,
    )


def widths_of(analysis: Analysis, drop: BoolArray) -> dict[str, tuple[int, int]]:
    """Return the sizes of dimensions that lose something, before and after."""
    lost = ((each, int(np.count_nonzero(drop[each.lanes]))) for each in analysis.dimensions)
    return {each.name: (each.size, each.size - gone) for each, gone in lost if gone}


@dataclass(frozen=True, eq=False)
class Plan:
    """A choice, and what will be left of the model.

    costs: what is told of in any case, parameters and MACs. zeros: groups that go and are zero already; zeros_kept:
    groups that are zero and stay. drawn: whether the choice is a random one, of as much as will go: scores will choose.
    """

    choice: Choice
    budgets: tuple[Budget, ...]
    costs: tuple[Budget, ...]
    zeros: int
    zeros_kept: int
    rounding: Rounding
    drawn: bool = False

    def sentences(self) -> Iterator[str]:
        """Yield what a person should know before the start."""
        choice = self.choice
        zeros = f", {self.zeros} of them zero already" if self.zeros else ""
        stay = " and ".join(each.told(each.cost(choice.drop)) for each in self.costs)
        widths = f"; widths keep multiples of {self.rounding.block}" if self.rounding.block > 1 else ""
        groups = f"{choice.dropped:,} of {choice.prunable:,} groups go ({choice.share:.1%}{zeros})"
        if not self.drawn:
            yield f"plan: {groups}; {stay} stay{widths}"
        elif choice.wanted is not None:
            yield f"plan: {groups}; drawn at random they leave {stay}{widths}"
        else:
            yield f"plan: as many groups go as the budget needs; drawn at random {groups} and leave {stay}{widths}"
        for each in self.budgets:
            yield f"budget: {each.told(each.cost(choice.drop))} of at most {shown(each.name, each.most)}"
        if choice.wanted is not None and choice.dropped != choice.wanted:
            rounding = [] if self.rounding.block == 1 else [f"widths in multiples of {self.rounding.block}"]
            *most, last = [
                "constraints",
                *rounding,
                *(f"--{each.name} {each.asked}" for each in self.budgets),
            ]
            yield (
                f"asked for were {choice.wanted:,} groups; {choice.dropped:,} is the nearest that "
                f"{', '.join(most)}{' and ' if most else ''}{last} allow"
            )
        if self.zeros_kept:
            yield f"{self.zeros_kept} groups that are zero already stay: others of their dimension go with the plan"

    def warnings(self) -> Iterator[str]:
        """Yield what is surely not what anybody wants."""
        choice = self.choice
        if not choice.dropped:
            if any(each.most >= each.full for each in self.budgets):
                yield "nothing is removed: the model keeps every budget as it is"
            elif choice.wanted:
                rounding = "" if self.rounding.block == 1 else ": try --round-to 1, or remove more"
                yield f"nothing is removed: no number of groups near {choice.wanted} can go{rounding}"
            else:
                yield "nothing is removed: no group was asked for"
        elif choice.share >= MOSTLY:
            yield (
                f"{choice.share:.1%} of the groups go: little more than one channel stays in every dimension, which "
                "seldom computes anything of use"
            )

    def expected(self) -> dict[str, Any]:
        """Return what will be left, under the public names of what was found in the end."""
        choice = self.choice
        return {
            **{each.name: {"before": each.full, "planned": each.cost(choice.drop)} for each in self.costs},
            "lanes": {"prunable": choice.prunable, "planned": choice.dropped},
        }

    def as_json(self) -> dict[str, Any]:
        """Return it under its public names."""
        choice = self.choice
        return {
            "sparsity": {
                "target": None if choice.wanted is None else choice.wanted / max(choice.prunable, 1),
                "achieved": choice.share,
            },
            "budgets": {
                each.name: {"asked": each.asked, "most": each.most, "planned": each.cost(choice.drop)}
                for each in self.budgets
            },
            "zeros": {"removed": self.zeros, "kept": self.zeros_kept},
            "round_to": self.rounding.block,
        }
