"""Losses: what target each needs, its subgraph, its value in numpy. ONNX and numpy alone, no runtime.

loss.py         the seam: Loss, Target, Judged
losses.py       the losses by name
cross_entropy.py, mse.py, l1.py, smooth_l1.py, bce.py, output.py
elementwise.py  what the losses per element share
weighted.py     entries that do not all count alike
reading.py      which tensor a loss reads
attach.py       a loss in a graph
named.py        options in a text
"""

from onnx_oto.losses.attach import LOSS, WEIGHT, attach, target_input
from onnx_oto.losses.cross_entropy import CrossEntropy
from onnx_oto.losses.elementwise import Elementwise
from onnx_oto.losses.loss import DATA, Judged, Kind, Loss, Target
from onnx_oto.losses.losses import LOSSES, make
from onnx_oto.losses.reading import read
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
    "CrossEntropy",
    "Elementwise",
    "Judged",
    "Kind",
    "Loss",
    "Target",
    "Weighable",
    "Weighted",
    "attach",
    "make",
    "read",
    "target_input",
    "weighted",
]
