"""The command that looks at the environment: doctor. It needs nothing but click, as all else may be what is wrong."""

from __future__ import annotations

import click

from onnx_oto.cli.objects import print_json
from onnx_oto.cli.streams import RESULTS
from onnx_oto.cli.text import shown
from onnx_oto.cli.verb import verb
from onnx_oto.errors import RuntimeMissingError
from onnx_oto.pipeline.doctor_options import DoctorOptions

MARKS = {"ok": "ok", "note": "-", "warning": "!", "broken": "BROKEN"}


@verb("doctor", DoctorOptions, bare=True, example="onnx-oto doctor")
def doctor_command(_: DoctorOptions, *, as_json: bool) -> None:
    """Look at runtimes, Python, processor, memory, disk and extras; say what mends each.

    Exit code 7 when something makes training impossible. Nothing is installed or changed.
    """
    from onnx_oto.pipeline.doctor.examining import examine

    found = examine()
    if as_json:
        print_json(found.as_json())
    else:
        for each in found.findings:
            RESULTS.write(shown(f"{MARKS[each.state]:>6}  {each.name}: {each.text}") + "\n")
            if each.remedy:
                RESULTS.write(shown(f"        mend it: {each.remedy}") + "\n")
        last = "training works here" if found.trains else "training does NOT work here: see BROKEN above"
        RESULTS.write(f"{last}\n")
        RESULTS.flush()
    if not found.trains:
        raise click.exceptions.Exit(RuntimeMissingError.exit_code)
