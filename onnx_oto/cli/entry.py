"""Entry point: streams and signals first, then the commands, which take long to import."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import NoReturn

from onnx_oto.cli import streams
from onnx_oto.cli.ending import INTERRUPTED, Trouble, leave_at_once
from onnx_oto.cli.ranks import CREW, join
from onnx_oto.cli.verbs import VERBS
from onnx_oto.signals import Ending, Interrupted, clean_up


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    arguments = sys.argv[1:]
    as_json = "--json" in arguments

    def interrupted(number: int) -> NoReturn:
        trouble = Trouble.of_signal(number)
        try:
            trouble.report(as_json=as_json)
        finally:
            leave_at_once(trouble.code)

    ending = Ending(interrupted)
    ending.install()
    streams.take_over(debug=bool(os.environ.get("ONNX_OTO_DEBUG")))
    result = _run(arguments, ending)
    clean_up()
    if isinstance(result, Trouble):
        CREW.fail(result, as_json=as_json)
        result.report(as_json=as_json)
        if result.kind == INTERRUPTED:
            leave_at_once(result.code)
    with contextlib.suppress(OSError, streams.ReaderGone):
        streams.RESULTS.flush()  # or the interpreter would try in vain, and say so
    CREW.done()
    sys.exit(result.code if isinstance(result, Trouble) else result)


def _run(arguments: list[str], ending: Ending) -> Trouble | int:
    """Return what came out. A signal decides, whatever became of its exception on the way here."""
    try:
        result = _commands(arguments, ending)
        ending.close()
    except Interrupted as error:
        return Trouble.of_signal(error.number, str(error))
    except BaseException:
        if ending.number is None:
            raise
        return Trouble.of_signal(ending.number)
    return result if ending.number is None else Trouble.of_signal(ending.number)


def _commands(arguments: list[str], ending: Ending) -> Trouble | int:
    try:
        if (trouble := join(arguments)) is not None:
            return trouble
        if _runs_a_model(arguments):
            from onnx_oto.runtime.worker import start_early

            with contextlib.suppress(OSError):
                start_early()
        from onnx_oto.cli.commands import run
    except ImportError as error:
        return Trouble.of_import(error)
    ending.unwind()
    return run(arguments)


def _runs_a_model(arguments: list[str]) -> bool:
    """Return whether a model will be run soon: the process for that loads its runtime meanwhile."""
    entry = VERBS.get(arguments[0]) if arguments else None
    return entry is not None and entry.runs and not {"-h", "--help"} & set(arguments)
