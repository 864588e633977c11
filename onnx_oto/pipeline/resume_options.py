"""What `resume` is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from onnx_oto.pipeline.running_options import PathLike
from onnx_oto.settings import Settings, setting
from onnx_oto.settings.checks import positive


@dataclass(frozen=True, kw_only=True)
class ResumeOptions(Settings):
    """What may be said of a run that goes on: all else is as it was."""

    lr: float | None = setting(
        None,
        "Largest learning rate from here on, such as a lower one after the run diverged.",
        check=positive,
        shown="as before",
    )
    model: PathLike | None = setting(None, "The model, if it has moved since.", shown="where it was")
    data: PathLike | None = setting(None, "The data, if they have moved since.", shown="where they were")
    same_data: bool = setting(
        False, "Large data are the same though their files were written since; sampled contents are compared."
    )
