"""The report on two models that no run holds: counted, compared and measured here, as `verify` and `prune` do it."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

from onnx_oto import __version__
from onnx_oto.errors import (
    CrashedError,
    LimitError,
    ModelError,
    RuntimeMissingError,
    UnsupportedError,
    UsageError,
)
from onnx_oto.model import load, stored_bytes
from onnx_oto.pipeline import identity
from onnx_oto.pipeline.feeding import read_feeding
from onnx_oto.pipeline.measuring import measure_cut
from onnx_oto.pipeline.opening import open_model
from onnx_oto.pipeline.options import VerifyOptions
from onnx_oto.pipeline.report_options import ReportOptions
from onnx_oto.pipeline.summary import Change, Summary
from onnx_oto.pipeline.verifying import verify_files
from onnx_oto.reporting.document import Latency, Report, latency_of
from onnx_oto.reporting.gathering import look, read_object
from onnx_oto.reporting.layers import Figure
from onnx_oto.runtime.comparing import Verdict
from onnx_oto.zigs.cost import count_macs

TROUBLES = (CrashedError, LimitError, RuntimeMissingError, UnsupportedError)
"""Why models were not run, which is said in the report."""
Path_ = str | os.PathLike[str]


def of_models(full: Path_, compact: Path_, options: ReportOptions) -> Report:
    """Return the report on a model and its compact form.

    Raises StorageError and ModelError where one cannot be read, DataError where their inputs or outputs differ.
    """
    for path in (full, compact):
        if Path(path).is_dir():
            raise UsageError(f"'{path}' is a folder: give two models, or the folder of a run alone")
    notes: list[str] = []
    table = {} if options.table is None else read_object(Path(options.table), notes)
    small_bytes = stored_bytes(compact, load(compact, weights=False))
    full_bytes = stored_bytes(full, load(full, weights=False))
    models = look(full, compact, table, (), {}, options.layout_seconds)
    if models.looked is None or models.looked.compact is None:
        raise ModelError("; ".join(models.notes))
    looked, after = models.looked, models.looked.compact
    macs = (count_macs(looked.full, looked.sizes).count, count_macs(after, looked.sizes).count)
    verdict = latency = None
    if not options.skip_verify:
        try:
            verdict = _compared(full, compact, options)
        except TROUBLES as error:
            notes.append(f"the outputs of the two models were not compared: {error}")
    if not options.skip_latency:
        change = Change(looked.full.params, after.params), Change(*macs), Change(full_bytes, small_bytes)
        latency = _latency(full, compact, options, change, verdict)
    removed = [
        (bar.lanes.before or 0) - bar.lanes.after for bar in models.bars if bar.lanes.after is not None
    ]
    prunable = sum(bar.lanes.before or 0 for bar in models.bars if bar.frozen is None)
    is_told = len(removed) == len(models.bars)
    return Report(
        kind="models",
        title=Path(full).name,
        state=_state(full, compact, verdict, after.params > looked.full.params),
        params=Figure(looked.full.params, after.params),
        macs=Figure(*macs),
        bytes=Figure(full_bytes, small_bytes),
        macs_at=looked.sizes,
        lanes=Figure(prunable, prunable - sum(removed) if is_told else None),
        latency=latency,
        verification=None if verdict is None else verdict.as_json(),
        notes=(*notes, *models.notes, *(() if is_told else (_UNTOLD,))),
        bars=models.bars,
        layers=models.layers,
        picture=models.picture,
        colours=models.colours,
        provenance={"versions": _versions(verdict)},
        digests={Path(path).name: str(identity.of_model(path)["sha256"]) for path in (full, compact)},
        repeat=(shlex.join(["onnx-oto", "report", str(full), str(compact)]),),
        version=__version__,
    )


_UNTOLD = (
    "how many channels some dimensions keep is not told by the shapes of the compact model, and left open"
)


def _compared(full: Path_, compact: Path_, options: ReportOptions) -> Verdict:
    given = {
        name: getattr(options, name)
        for name in ("inputs", "input_shape", "limit_memory", "limit_time", "seed")
    }
    return verify_files(full, compact, VerifyOptions(**given))


def _latency(
    full: Path_,
    compact: Path_,
    options: ReportOptions,
    change: tuple[Change, Change, Change],
    verdict: Verdict | None,
) -> Latency | None:
    """Return what both models take, measured in turn; why there are no figures where they do not run."""
    try:
        opened, small = open_model(full), open_model(compact)
        known = verdict if verdict is not None else Verdict(False, 0.0, 0.0, 0)
        summary = Summary(*change, 0, 0, known, count_macs(opened.analysis).at)
        feeding = read_feeding(opened.model, options)
        measured = measure_cut(opened.analysis, small.model, summary, feeding, worked=0.0)
    except TROUBLES as error:
        return Latency(why=str(error))
    return latency_of(measured.as_json())


def _state(full: Path_, compact: Path_, verdict: Verdict | None, grown: bool) -> tuple[str, ...]:
    """Return what is compared, and what a difference means. grown: whether the second one has more parameters."""
    said = [f"Two models, {Path(full).name} and {Path(compact).name}."]
    if grown:
        said.append(
            "The second one is the larger one: the full model comes first, its compact form behind it."
        )
    if verdict is not None and not verdict.passed:
        said.append(
            f"Their outputs differ: {verdict.trouble}. That is so where channels went that were not zero: compare with "
            "the model that `prune --save-zeroed` writes to see that the cut itself is exact."
        )
    return tuple(said)


def _versions(verdict: Verdict | None) -> dict[str, Any]:
    runtime = {} if verdict is None or not verdict.runtime else {"runtime": verdict.runtime}
    return {"onnx-oto": __version__, **runtime}
