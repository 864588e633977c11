"""The commands by name. A new one is one entry here, and one function (see `verb.py`), loaded when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple, cast

if TYPE_CHECKING:
    import click


class VerbEntry(NamedTuple):
    """Where a command is. runs: whether it soon runs a model: the process for that loads its runtime meanwhile.

    shared: whether several processes may do it together.
    """

    module: str
    command: str
    runs: bool = True
    shared: bool = False

    def load(self) -> click.Command:
        """Return the command, with what its options need and nothing else."""
        return cast("click.Command", getattr(import_module(self.module), self.command))


_MODELS, _TRAINING = "onnx_oto.cli.models", "onnx_oto.cli.training"
VERBS = {
    "bench": VerbEntry(_MODELS, "bench_command", runs=False),
    "compact": VerbEntry(_MODELS, "compact_command"),
    "demo": VerbEntry(_TRAINING, "demo_command", shared=True),
    "doctor": VerbEntry("onnx_oto.cli.checkup", "doctor_command", runs=False),
    "inspect": VerbEntry(_MODELS, "inspect_command", runs=False),
    "prune": VerbEntry(_MODELS, "prune_command"),
    "report": VerbEntry("onnx_oto.cli.reporting", "report_command", runs=False),
    "resume": VerbEntry(_TRAINING, "resume_command", shared=True),
    "train": VerbEntry(_TRAINING, "train_command", shared=True),
    "verify": VerbEntry(_MODELS, "verify_command"),
}
