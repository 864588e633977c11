"""The command line: a command parses, calls one function of the pipeline, prints."""

from onnx_oto.cli.main import main

__all__ = ["main"]
