"""Training: the loop and what belongs to it.

schedule.py      learning rates
loop.py          epochs, steps, evaluation
transforms.py    what happens to a gradient before the optimizer has it
agreement.py     what the processes of a run decide together
guard.py         what is not finite, noticed within the step
selection.py     averages, the best epoch
evaluate.py      accuracy and losses on the test data
events.py        what a run tells its observers
records.py       metrics.jsonl
checkpoint.py    the state of a run in one file
keeping.py       when it is written, and where
interruption.py  SIGINT and SIGTERM between two steps
"""

from onnx_oto.training.checkpoint import (
    Checkpoint,
    Position,
    load_checkpoint,
    restore,
    take_state,
    write_state,
)
from onnx_oto.training.evaluate import Score, evaluate
from onnx_oto.training.events import (
    EpochEnded,
    Event,
    Judged,
    Kept,
    Observer,
    Observers,
    PutOff,
    Skipped,
    Started,
    Stepped,
)
from onnx_oto.training.interruption import StopRequests
from onnx_oto.training.keeping import Keeper, Places
from onnx_oto.training.loop import History, Recipe, total_steps, train
from onnx_oto.training.records import MetricsFile
from onnx_oto.training.schedule import Schedule
from onnx_oto.training.selection import Average, Best, Selection
from onnx_oto.training.transforms import ClipNorm, GradientTransform

__all__ = [
    "Average",
    "Best",
    "Checkpoint",
    "ClipNorm",
    "EpochEnded",
    "Event",
    "GradientTransform",
    "History",
    "Judged",
    "Keeper",
    "Kept",
    "MetricsFile",
    "Observer",
    "Observers",
    "Places",
    "Position",
    "PutOff",
    "Recipe",
    "Schedule",
    "Score",
    "Selection",
    "Skipped",
    "Started",
    "Stepped",
    "StopRequests",
    "evaluate",
    "load_checkpoint",
    "restore",
    "take_state",
    "total_steps",
    "train",
    "write_state",
]
