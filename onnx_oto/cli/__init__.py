"""The command line: a command parses, calls one function of the pipeline, prints."""

from __future__ import annotations

from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command line. Until our handlers of signals are loaded, Ctrl-C ends the process without a word.

    Newer runtimes tell their makers of use, unless this variable of theirs says otherwise (docs/security.md).
    """
    try:
        import os
        import signal

        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    from onnx_oto.cli.entry import main as enter

    enter()
