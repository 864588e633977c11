"""`report`: gathers what is known, and writes it where it belongs. And the page that every run leaves."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from onnx_oto.errors import OtoError, StorageError, UsageError, one_line
from onnx_oto.model.files.replace import replacing
from onnx_oto.model.files.saving import storing
from onnx_oto.pipeline.folder import FILES, MANIFEST, REPORTS, reclaim
from onnx_oto.pipeline.places import Output, files_read, require_apart
from onnx_oto.pipeline.report_options import FORMATS, ReportOptions
from onnx_oto.pipeline.running_options import PathLike
from onnx_oto.reporting.document import Report
from onnx_oto.reporting.gathering import of_run
from onnx_oto.reporting.page import plain, written

STDOUT = "-"
MARKS = {
    "html": b'<meta name="generator" content="onnx-oto',
    "md": b"\nMade by onnx-oto ",
    "json": b'"onnx_oto":',
}
"""What is in every report: a file with another content is not replaced unasked."""


@dataclass(frozen=True)
class Reported:
    """A report that was made. path: where it is, None where it was to go to stdout. text: what was written."""

    report: Report
    kind: str
    path: Path | None
    text: str

    def as_json(self) -> dict[str, object]:
        """Return the report under its public names, with where it is."""
        content: dict[str, object] = plain(self.report.as_json())
        return {**content, "written": None if self.path is None else str(self.path)}


def report(
    subject: PathLike,
    compact: PathLike | None = None,
    options: ReportOptions | None = None,
    *,
    output: PathLike | None = None,
) -> Reported:
    """Write the report on a run (its folder), or on a model and its compact form.

    output: where, "-" for nowhere but `text`. Without one it is written into the folder of the run as report.FORMAT, or
    beside the compact model as COMPACT.report.FORMAT. Raises UsageError for what
    is no run, would replace what is no report, or is named as what reports are not; StorageError where it cannot be
    written.
    """
    options = options or ReportOptions()
    if compact is not None:
        _require_apart(subject, compact, options, output)
    kind = _kind(options.format, output)
    if compact is None:
        found = of_run(subject, options.table, options.layout_seconds)
    else:
        from onnx_oto.reporting.comparing import of_models  # loads what runs models

        found = of_models(subject, compact, options)
    text = written(found, kind)
    return Reported(found, kind, _write(subject, compact, output, kind, text.encode()), text)


def _kind(asked: str | None, output: PathLike | None) -> str:
    """Return what is written: what was asked for, or what the name of the output ends in. Raises UsageError."""
    if asked:
        return asked
    suffix = "" if output is None or str(output) == STDOUT else Path(output).suffix.lower()
    ending = {"": FORMATS[0], ".htm": "html", ".markdown": "md"}.get(suffix, suffix[1:])
    if ending not in FORMATS:
        raise UsageError(
            f"'{output}': reports are {', '.join(FORMATS)}: give a name that ends in one of them, or --format"
        )
    return ending


def _require_apart(
    subject: PathLike, compact: PathLike, options: ReportOptions, output: PathLike | None
) -> None:
    """Raise UsageError where the report would replace what it is made from."""
    if output is not None and str(output) != STDOUT:
        reads = files_read(subject, options)
        reads[Path(compact)] = "the compact model"
        require_apart(reads, [Output(output)])


def _write(
    subject: PathLike, compact: PathLike | None, output: PathLike | None, kind: str, content: bytes
) -> Path | None:
    run = Path(subject) if compact is None else None
    if output is not None:
        if str(output) == STDOUT:
            return None
        place = Path(output)
        if run is None or place.name not in (*FILES, MANIFEST) or not _is_inside(place, run):
            _store(place, content)
            return place
        if place.name != REPORTS[kind]:
            raise UsageError(f"'{place}' belongs to the run: give another name")
    if run is not None:
        return _into_run(run, kind, content)
    place = Path(str(compact)).with_suffix(f".report.{kind}")
    if place.exists() and MARKS[kind] not in place.read_bytes():
        raise UsageError(f"'{place}' is there, and is no report: give another place with -o")
    _store(place, content)
    return place


def _is_inside(place: Path, folder: Path) -> bool:
    return os.path.realpath(place.parent) == os.path.realpath(folder)


def _store(place: Path, content: bytes) -> None:
    with storing(place), replacing(place) as file:
        file.write(content)


def _into_run(run: Path, kind: str, content: bytes) -> Path:
    """Write a report into the folder of a run, as one of its files. Raises UsageError and StorageError."""
    if not (run / MANIFEST).exists():
        raise UsageError(
            f"'{run}' was written by a version that kept no list of its files: give a place with -o report.{kind}"
        )
    try:
        with reclaim(run) as folder:
            folder.go_on()
            place = folder.place(REPORTS[kind])
            _store(place, content)
            return place
    except (UsageError, StorageError) as error:
        raise type(error)(f"{error}; or give a place for the report with -o") from None


def leave_report(run: PathLike, say: Callable[[str], None]) -> Path | None:
    """Leave the page of a run in its folder, and return where; None where that failed, which is said in one line.

    Whatever goes wrong here, the results of the run are there already, and stay.
    """
    try:
        return report(run).path
    except OtoError as error:
        reason = str(error)
    except Exception as error:  # a page is no reason to lose the result of a night
        reason = f"{type(error).__name__}: {one_line(error)}"
    again = f"onnx-oto report {shlex.quote(str(run))}"
    say(f"warning: no report was written ({reason}); `{again}` makes it again")
    return None
