"""The command that writes reports."""

from __future__ import annotations

from pathlib import Path

from onnx_oto.cli.objects import print_json
from onnx_oto.cli.streams import RESULTS
from onnx_oto.cli.verb import Place, verb
from onnx_oto.pipeline.report_options import ReportOptions


@verb(
    "report",
    ReportOptions,
    Place("run", metavar="RUN|FULL"),
    Place("compact", metavar="[COMPACT]", optional=True),
    Place(
        "output",
        "Where to write it; - is stdout. Without: report.FORMAT in the folder of the run, or COMPACT.report.FORMAT.",
        short="-o",
        optional=True,
    ),
    example=(
        "onnx-oto report runs/first",
        "onnx-oto report runs/first --format md -o -",
        "onnx-oto report zeroed.onnx compact.onnx -o cut.html",
    ),
)
def report_command(
    options: ReportOptions, *, as_json: bool, run: Path, compact: Path | None, output: Path | None
) -> None:
    """Write a run, or a model and its compact form, as a page: what was gained, curves, layers, the graph drawn.

    RUN is the folder that was --run, complete or not. The page is one file that needs no network; --format md and json
    hold the same. Every run leaves its page as report.html.
    """
    from onnx_oto.reporting.writing import report

    made = report(run, compact, options, output=output)
    if as_json:
        print_json(made.as_json())
    elif made.path is None:
        RESULTS.write(made.text)
        RESULTS.flush()
    else:
        from onnx_oto.cli.screen import print_line, say
        from onnx_oto.reporting.page import headline

        for note in (*made.report.state, *made.report.notes):
            say(f"note: {note}")
        if made.report.picture is not None and made.report.picture.why:
            say(f"note: the graph is listed, not drawn: {made.report.picture.why}")
        print_line(headline(made.report))
        print_line(f"report: {made.path}")
