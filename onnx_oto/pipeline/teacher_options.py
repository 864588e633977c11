"""What is asked for when a model is taught by another one, or by itself as it was brought.

Only the standard library is imported here; the names in registries are looked up when somebody asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from onnx_oto.errors import UsageError
from onnx_oto.pipeline.loss_options import LossOptions
from onnx_oto.pipeline.running_options import PathLike
from onnx_oto.settings import setting, topics
from onnx_oto.settings.checks import all_positive, positive, share

DISTILL = "distill"
SELF, NONE = "self", "none"


@dataclass(frozen=True, kw_only=True)
class TeacherOptions(LossOptions, topic=topics.TEACHER):
    """Whether there is a teacher, and what of it is learned."""

    teacher: Literal["self", "none"] | PathLike | None = setting(
        None,
        "Model that is learned from: `self` is the model as it was brought, in inference form; or the file of another "
        "one, with the same inputs and outputs that fit; or `none`. It says what the loss `distill` compares, alone or "
        "beside the task's loss.",
        metavar="self|none|FILE",
        shown="self for data without targets and for the loss distill, else none",
    )
    teacher_weight: float = setting(
        0.5, "Share of the teacher where there is a task's loss too; 1 leaves it the metric.", check=share
    )
    teacher_temperature: float | None = setting(
        None,
        "Temperature of scores of classes: the same as distill:temperature=...",
        check=positive,
        shown="2",
    )
    teacher_tensor: Sequence[str] = setting(
        (),
        "Output, or tensor inside, that is compared with the teacher's, and its weight (repeatable). Channels of one "
        "inside stay.",
        metavar="NAME[:WEIGHT]",
        shown="all float tensors in front of what chooses places (TopK, NonMaxSuppression), each with weight 1",
    )
    teacher_match: Literal["auto", "classes", "values"] = setting(
        "auto",
        "How they are compared: as scores of classes, by KL divergence, or as numbers, by squared errors; auto: as "
        "scores what ends in Softmax or LogSoftmax, or is [N, K] straight from a linear layer, else as numbers, in "
        "front of a final Sigmoid.",
    )
    teacher_scale: tuple[float, ...] = setting(
        (),
        "What squared errors of numbers are divided by, one for each tensor.",
        check=all_positive,
        shown="the teacher's variance on some of the training data",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.is_taught and self.loss.partition(":")[0] == DISTILL:
            raise UsageError(
                "the loss distill needs a teacher: leave --teacher none out, or give another loss"
            )
        if not self.is_taught:
            given = [
                name
                for name in ("teacher_tensor", "teacher_scale", "teacher_temperature")
                if getattr(self, name)
            ]
            if given:
                raise UsageError(f"{given[0].replace('_', '-')} is for a teacher: leave --teacher none out")
        if self.teacher_temperature is not None and "temperature" in self.loss:
            raise UsageError("the temperature is given twice, by --loss and by --teacher-temperature")

    @property
    def is_taught(self) -> bool:
        """Whether there may be a teacher: that may follow from the data."""
        return self.teacher != NONE

    def possible_losses(self) -> tuple[str, ...]:
        """See `LossOptions`: a teacher may take the place of the data."""
        return (
            *super().possible_losses(),
            *(("teacher-classes", "teacher-values") if self.is_taught else ()),
        )
