"""Training: the loop and what belongs to it.

schedule.py      learning rates
loop.py          epochs, steps, evaluation
guard.py         divergence noticed within the step
evaluate.py      accuracy and losses on the test data
events.py        what a run tells its observers
metrics.py       metrics.jsonl
checkpoint.py    the state of a run in one file
interruption.py  SIGINT and SIGTERM between two steps
"""

from onnx_oto.training.checkpoint import (
    Checkpoint,
    Progress,
    load_checkpoint,
    restore,
    save_checkpoint,
)
from onnx_oto.training.evaluate import Score, evaluate
from onnx_oto.training.events import EpochEnded, Event, Observer, Observers, Started, Stepped
from onnx_oto.training.interruption import StopRequests
from onnx_oto.training.loop import History, Recipe, total_steps, train
from onnx_oto.training.metrics import MetricsFile
from onnx_oto.training.schedule import Schedule

__all__ = [
    "Checkpoint",
    "EpochEnded",
    "Event",
    "History",
    "MetricsFile",
    "Observer",
    "Observers",
    "Progress",
    "Recipe",
    "Schedule",
    "Score",
    "Started",
    "Stepped",
    "StopRequests",
    "evaluate",
    "load_checkpoint",
    "restore",
    "save_checkpoint",
    "total_steps",
    "train",
]
