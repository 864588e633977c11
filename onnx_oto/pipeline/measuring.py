"""How long the full model and the compact one take, and what to do where the compact one is no faster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy.typing as npt
import onnx

from onnx_oto.pipeline.latency.making import Clock
from onnx_oto.pipeline.summary import Summary
from onnx_oto.runtime.comparing import Feeding, feeds_at
from onnx_oto.runtime.limits import Limits, allowance, limited
from onnx_oto.runtime.runner import Runner, first_line, in_onnxruntime
from onnx_oto.runtime.sessions import Patience
from onnx_oto.runtime.timing import TROUBLES, Latencies, Untimed, measure
from onnx_oto.zigs import Analysis
from onnx_oto.zigs.budgets import Budget
from onnx_oto.zigs.widths import ALIGNMENT

Feed: TypeAlias = Mapping[str, npt.NDArray[Any]]

SHARE_OF_WORK = 0.25
"""Of the time that a verb took, what timing may take where that is more than some seconds."""
MISSED = 1.1
"""How many times the latency that was asked for is clearly more: what is measured varies from process to process."""
MOST_SECONDS = 5.0
"""Seconds that one run may take at sizes that verification did not try."""
MOST_TRIED = 3
"""How many of the sizes that verification tried are tried again, largest first."""


def measure_cut(
    full: Analysis,
    compact: onnx.ModelProto,
    summary: Summary,
    feeding: Feeding,
    *,
    worked: float,
    clock: Clock | None = None,
) -> Latencies | Untimed:
    """Return the latency of a model and of its compact form, at sizes that somebody may use, or why there is none.

    These are the ones that MACs are counted at where the model runs at them, or what the user says, else the largest
    that verification used. worked: seconds that were spent so far, of which timing takes a small share. clock: measures
    instead, where another runtime serves.
    """
    if clock is not None:
        try:
            return clock.latencies(full.model, compact)
        except TROUBLES as error:
            return Untimed(first_line(error))
    with limited(feeding.limits):
        try:
            run = in_onnxruntime(full.model)
            feed = _running_feed(run, full, summary, feeding)
            if feed is None:
                return Untimed("the full model runs on none of the inputs that were tried for it")
            patience = Patience(longest=max(Patience().longest, SHARE_OF_WORK * worked))
            return measure(full.model, compact, feed, patience=patience, opened=run)
        except TROUBLES as error:
            return Untimed(first_line(error))


def warnings_of(latency: Latencies | Untimed | None, round_to: object) -> tuple[str, ...]:
    """Return what a user should be warned of, in sentences: a compact model that is slower, and the remedy.

    round_to: what every dimension keeps a multiple of, as it was asked for; None where that cannot be asked for.
    """
    if not isinstance(latency, Latencies) or not latency.is_slower:
        return ()
    if round_to is None or (isinstance(round_to, int) and round_to % ALIGNMENT):
        remedy = (
            f"numbers of channels that are no multiple of {ALIGNMENT} leave its fast kernels: prune or train with "
            "--round-to auto, or remove more"
        )
    else:
        remedy = (
            "what repairs norms and fills up channels in front of a reshape costs more than was saved: remove more, or "
            "keep what norms run over with --fixed-norms"
        )
    times = f"{latency.full.text} -> {latency.compact.text}"
    return (f"the compact model is slower: {times} in {latency.runtime}; {remedy}",)


def missed(latency: Latencies | Untimed | None, budgets: Iterable[Budget]) -> tuple[str, ...]:
    """Return what a user should be warned of where the compact model, measured, is clearly over a budget of latency."""
    if not isinstance(latency, Latencies):
        return ()
    return tuple(
        f"the compact model takes {latency.left:.1%} of the full one's time, --latency {each.asked} asked for "
        f"{each.most / each.full:.1%}: measure a table on a quiet machine (`onnx-oto bench --table`), or ask for less"
        for each in budgets
        if each.name == "latency" and latency.left * each.full > MISSED * each.most
    )


def _running_feed(run: Runner, full: Analysis, summary: Summary, feeding: Feeding) -> Feed | None:
    """Return the first feed that the full model runs on."""
    allowed = allowance(weights=0, fed=0).seconds
    usual = Limits(feeding.limits.memory, min(allowed, MOST_SECONDS))
    tried = sorted(summary.verdict.sizes, key=_extent, reverse=True)[:MOST_TRIED]
    for sizes, limits in ((summary.macs_at, usual), *((sizes, feeding.limits) for sizes in tried)):
        with limited(limits):
            for feed in feeds_at(full.model, full.graph, sizes, feeding):
                if _runs(run, feed):
                    return feed
    return None


def _runs(run: Runner, feed: Feed) -> bool:
    try:
        run(feed)
    except TROUBLES:
        return False
    return True


def _extent(sizes: Mapping[str, int]) -> int:
    """Return a measure of how large open axes are."""
    result = 1
    for size in sizes.values():
        result *= size
    return result
