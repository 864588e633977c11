"""`prune` and `compact`: smaller models without training."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnx_oto.errors import UnsupportedError, UsageError
from onnx_oto.lanes.solution import BoolArray
from onnx_oto.model.files.replace import together
from onnx_oto.model.files.saving import stage, storing
from onnx_oto.model.graph.payloads import Payloads
from onnx_oto.model.normal.sharing import share_copies
from onnx_oto.pipeline.budgeting import Kept, Plan, budgets_of, plan, rounding_of, widths_of, within
from onnx_oto.pipeline.by_data import ByData, Judgements, by_data
from onnx_oto.pipeline.explaining import Explanation, command_of, digests
from onnx_oto.pipeline.feeding import read_feeding
from onnx_oto.pipeline.int8.beside import int8_name
from onnx_oto.pipeline.int8.result import Int8
from onnx_oto.pipeline.kept import stage_kept
from onnx_oto.pipeline.latency.making import Clock, clock_for
from onnx_oto.pipeline.measuring import measure_cut, missed, warnings_of
from onnx_oto.pipeline.opening import Opened, open_model, require_prunable
from onnx_oto.pipeline.options import ACTIVATIONS, CompactOptions, PruneOptions
from onnx_oto.pipeline.places import Output, files_read, require_apart, require_folders, with_table
from onnx_oto.pipeline.proving import agree, agree_piecewise
from onnx_oto.pipeline.summary import SCHEMA, Change, Summary, summarise
from onnx_oto.runtime.comparing import Feeding, Held
from onnx_oto.runtime.comparing.computable import require_computable
from onnx_oto.runtime.timing import Untimed
from onnx_oto.runtime.worker import start_early
from onnx_oto.surgery import Compacted, kept_inside
from onnx_oto.surgery import cut as cut_out
from onnx_oto.zigs import Choice, choose, score, zero_dropped
from onnx_oto.zigs.budgets import Budget
from onnx_oto.zigs.choose import choose_zeros
from onnx_oto.zigs.groups import Zeroed, zero_lanes

Say = Callable[[str], None]


@dataclass(frozen=True)
class Pruned:
    """The result of a cut. seconds: of analysis and cut, of verification, and of timing. notes: see `Opened`.

    plan: what was to go, where that was chosen. judged: on data, where there were any.
    """

    summary: Summary
    cut_seconds: float
    verify_seconds: float
    notes: tuple[str, ...] = ()
    latency_seconds: float = 0.0
    plan: Plan | None = None
    judged: Judgements | None = None
    int8: Int8 | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the result under its public names."""
        return {
            **self.summary.as_json(),
            **({} if self.plan is None else self.plan.as_json()),
            **({} if self.judged is None else {"judged": self.judged.as_json()}),
            **({} if self.int8 is None else {"int8": self.int8.as_json()}),
            **({"original": original.as_json()} if (original := self.summary.verdict.original) else {}),
            "seconds": {
                "cut": round(self.cut_seconds, 4),
                "verify": round(self.verify_seconds, 4),
                "latency": round(self.latency_seconds, 4),
            },
            "notes": list(self.notes),
        }


def prune(
    path: str | os.PathLike[str],
    output: str | os.PathLike[str],
    options: PruneOptions | None = None,
    *,
    say: Say = lambda text: None,
    announce: Callable[[Plan], None] = lambda plan: None,
) -> Pruned:
    """Cut the lanes of lowest score out of the model at `path`, verify, and write the compact model to `output`.

    `announce` gets what will go, before it goes; `say` sentences about what is measured until then.

    Nothing is written unless the compact model computes what the zeroed full one computes. Raises
    UnsupportedError when nothing is prunable, or when no inputs were found that prove anything.
    """
    options = options or PruneOptions()
    if options.dry_run:
        raise UsageError("dry-run cuts nothing: call `onnx_oto.pipeline.prune.planned`, or leave it out")
    begin = time.perf_counter()
    found = _prepared(path, output, options, say)
    opened, seen = found.opened, found.seen
    asked = time.perf_counter()
    with clock_for(opened, options, found.feeding, say) as clock:
        begin += time.perf_counter() - asked  # measuring a table is no cutting
        kept, made = found.choose(options, clock)
        announce(made)
        refitted, judged = (opened, None) if seen is None else seen.refitted(kept.choice)
        pruned = _cut(
            refitted,
            kept.choice.drop,
            output,
            begin,
            Explanation(command_of("prune", options), digests(path)).within(kept.budgets),
            feeding=found.feeding,
            save_zeroed=options.save_zeroed,
            kept=options.kept,
            seed=options.seed,
            original=opened.model,
            result=kept.result if refitted is opened else None,
            is_timed=not options.skip_latency,
            round_to=made.rounding.block,
            clock=clock,
            fitted=() if judged is None else judged.fitted,
            most_held=options.most_held,
            say=say,
        )
    summary = pruned.summary
    useless = () if judged is None else judged.warnings()
    said = (*made.warnings(), *useless, *summary.warnings, *missed(summary.latency, made.budgets))
    pruned = replace(pruned, summary=replace(summary, warnings=said), plan=made, judged=judged)
    if seen is None or not options.int8:
        return pruned
    return replace(pruned, int8=seen.int8(output, summary.size.after))


@dataclass(frozen=True)
class Planned:
    """What a cut would do. widths: the sizes of dimensions that would lose something, before and after."""

    plan: Plan
    widths: Mapping[str, tuple[int, int]]
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return it under its public names."""
        return {
            "schema": SCHEMA,
            "dry_run": True,
            **self.plan.as_json(),
            **self.plan.expected(),
            "widths": {name: list(sizes) for name, sizes in self.widths.items()},
            "warnings": list(self.plan.warnings()),
            "notes": list(self.notes),
        }


def planned(
    path: str | os.PathLike[str],
    output: str | os.PathLike[str],
    options: PruneOptions | None = None,
    *,
    say: Say = lambda text: None,
) -> Planned:
    """Return what `prune` would do; nothing is cut out of the model at `path`, and nothing written.

    Raises as `prune` does before it cuts. A latency table that is not there yet is measured, and not kept.
    """
    options = options or PruneOptions()
    found = _prepared(path, output, options, say)
    if options.table is not None and not os.path.lexists(options.table):
        options = replace(options, table=None)
    with clock_for(found.opened, options, found.feeding, say) as clock:
        kept, made = found.choose(options, clock)
    return Planned(made, widths_of(found.opened.analysis, kept.choice.drop), found.opened.notes)


@dataclass(frozen=True, eq=False)
class _Found:
    """A model that is to be pruned, what data show of it, and the scores of its lanes: float64 [lanes]."""

    opened: Opened
    seen: ByData | None
    scores: npt.NDArray[np.floating]
    feeding: Feeding

    def choose(self, options: PruneOptions, clock: Clock | None) -> tuple[Kept, Plan]:
        """Return what goes, cut, and the plan of it. Raises OutOfReach."""
        opened, analysis = self.opened, self.opened.analysis
        budgets = budgets_of(opened, options, clock)
        known = clock.table if clock else None
        rounding = rounding_of(analysis, options, budgets, options.reach, options.min_keep, known=known)

        def choosing(budgets: Sequence[Budget]) -> Choice:
            return choose(
                analysis,
                self.scores,
                options.share,
                budgets=budgets,
                scope=options.reach,
                round_to=rounding,
                min_keep=options.min_keep,
                additive=options.ranking == ACTIVATIONS,
            )

        kept = within(opened, budgets, choosing, clock)
        return kept, plan(opened, kept.choice, kept.budgets, rounding)


def _prepared(
    path: str | os.PathLike[str], output: str | os.PathLike[str], options: PruneOptions, say: Say
) -> _Found:
    """Return the model, opened, and what is known of it before anything is chosen."""
    writes = [Output(output, model=True)]
    if options.save_zeroed is not None:
        writes.append(Output(options.save_zeroed, model=True))
    if options.kept is not None:
        writes.append(Output(options.kept))
    if options.int8:
        writes.append(Output(int8_name(output), model=True))
    require_apart(*with_table(files_read(path, options, options.data), writes, options.table))
    start_early()
    opened = open_model(path, options, stream_above=options.most_held, payloads=Payloads())
    require_prunable(opened)
    if opened.is_streamed:
        _require_streamable(options)
    require_folders(writes)
    seen = None if options.data is None else by_data(options.data, opened, options, say)
    scores = score(opened.analysis, options.ranking, options.seed) if seen is None else seen.scores()
    return _Found(opened, seen, scores, read_feeding(opened.model, options))


def _require_streamable(options: PruneOptions) -> None:
    """Raise UsageError for what needs the whole model where its weights are streamed."""
    wanted = {"--data": options.data, "--latency": options.latency}
    asked = [name for name, value in wanted.items() if value is not None]
    if asked:
        raise UsageError(
            f"{asked[0]} runs the whole model, and its weights take more than --stream-above allows to be held: raise "
            "that, or leave it out"
        )


def compact_zeros(
    path: str | os.PathLike[str], output: str | os.PathLike[str], options: CompactOptions | None = None
) -> Pruned:
    """Cut out the lanes whose groups are exactly zero in the model at `path`, verify, write to `output`.

    Raises UnsupportedError when no group is zero.
    """
    options = options or CompactOptions()
    writes = [Output(output, model=True)]
    require_apart(files_read(path, options), writes)
    start_early()
    begin = time.perf_counter()
    opened = open_model(path, options)
    require_prunable(opened)
    require_folders(writes)
    choice = choose_zeros(opened.analysis)
    if not choice.dropped:
        what = "none that can be removed" if zero_lanes(opened.analysis).any() else "none"
        raise UnsupportedError(
            f"of the {choice.prunable} groups of '{opened.path.name}', {what} is exactly zero: train it with "
            "`onnx-oto train`, or remove channels by their weights with `onnx-oto prune`"
        )
    feeding = read_feeding(opened.model, options)
    explanation = Explanation(command_of("compact", options), digests(path))
    return _cut(
        opened, choice.drop, output, begin, explanation, feeding=feeding, is_timed=not options.skip_latency
    )


def _cut(
    opened: Opened,
    drop: BoolArray,
    output: str | os.PathLike[str],
    begin: float,
    explanation: Explanation,
    *,
    feeding: Feeding,
    save_zeroed: str | os.PathLike[str] | None = None,
    kept: str | os.PathLike[str] | None = None,
    seed: int = 0,
    original: onnx.ModelProto | None = None,
    result: Compacted | None = None,
    is_timed: bool = True,
    round_to: object = None,
    clock: Clock | None = None,
    fitted: Sequence[str] = (),
    most_held: float = math.inf,
    say: Say = lambda text: None,
) -> Pruned:
    """Cut (or take `result`), verify, measure and write.

    begin: when work began. explanation: is written into the compact model. original: the model that was brought, where
    that computes something else. round_to: see `warnings_of`. fitted: initializers that have other values than in the
    file. most_held: bytes of weights that are held together where they are streamed.
    """
    result = cut_out(opened.analysis, drop) if result is None else result
    opened.analysis.graph.payloads.release()
    small = result.model
    cut = time.perf_counter()
    zeros = Zeroed(opened.analysis, drop) if opened.is_streamed else None
    zeroed = zero_dropped(opened.analysis, drop)
    inside = kept_inside(opened.analysis, drop, result)
    try:
        require_computable(opened.origins.computed, feeding.limits)
        if zeros is None:
            verdict = agree(zeroed, small, seed, feeding, original, inside=inside)
        else:
            verdict = agree_piecewise(
                Held(zeroed, zeros), Held(small, result.streamed), seed, feeding, inside, most_held, say
            )
    except UnsupportedError as error:
        raise UnsupportedError("; the model has ".join([str(error), *opened.notes])) from None
    end = time.perf_counter()
    unwritten = Change(opened.file_bytes, 0)
    summary = summarise(opened.analysis, small, drop, verdict, unwritten)
    if is_timed and zeros is not None:
        summary = replace(summary, latency=Untimed("the weights are not held, see --stream-above"))
    elif is_timed:
        latency = measure_cut(opened.analysis, small, summary, feeding, worked=end - begin, clock=clock)
        summary = replace(summary, latency=latency, warnings=warnings_of(latency, round_to))
    timed = time.perf_counter()
    for each in (small, zeroed):
        share_copies(each, opened.origins)
    explanation.write(small, opened.analysis, drop, summary)
    with storing(output), together() as files:
        written = stage(small, output, files, values=result.streamed)
        if save_zeroed is not None:
            with storing(save_zeroed):
                stage(zeroed, save_zeroed, files, values=zeros or {})
        if kept is not None:
            with storing(kept):
                stage_kept(opened, drop, result, kept, files, fitted)
    summary = replace(summary, size=replace(unwritten, after=written))
    return Pruned(summary, cut - begin, end - cut, opened.notes, timed - end)
