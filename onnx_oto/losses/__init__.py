"""Losses: what target each needs, its subgraph, its value in numpy. ONNX and numpy alone, no runtime.

loss.py         the seam: Loss, Target, Judged
losses.py       the losses by name
cross_entropy.py, mse.py, l1.py, smooth_l1.py, bce.py, output.py, distill.py
blend.py        a task's loss and a teacher's
rows.py         scores as rows
elementwise.py  what the losses per element share
weighted.py     entries that do not all count alike
reading.py      which tensor a loss reads
attach.py       a loss in a graph
named.py        options in a text
"""

from onnx_oto.losses.attach import LOSS, WEIGHT, attach, target_input
from onnx_oto.losses.blend import Blend
from onnx_oto.losses.cross_entropy import CrossEntropy
from onnx_oto.losses.distill import Distill, Match, teacher_target
from onnx_oto.losses.elementwise import Elementwise
from onnx_oto.losses.loss import DATA, Judged, Kind, Loss, Target
from onnx_oto.losses.losses import LOSSES, make
from onnx_oto.losses.reading import read, read_all
from onnx_oto.losses.weighted import ENTRY_WEIGHT, MADE, OTHER, OTHER_WEIGHT, Weighable, Weighted, weighted

__all__ = [
    "DATA",
    "ENTRY_WEIGHT",
    "LOSS",
    "LOSSES",
    "MADE",
    "OTHER",
    "OTHER_WEIGHT",
    "WEIGHT",
    "Blend",
    "CrossEntropy",
    "Distill",
    "Elementwise",
    "Judged",
    "Kind",
    "Loss",
    "Match",
    "Target",
    "Weighable",
    "Weighted",
    "attach",
    "make",
    "read",
    "read_all",
    "target_input",
    "teacher_target",
    "weighted",
]
