"""Optimizers over flat arrays: numpy only, no onnx, no names, no graph.

groups.py      where each ZIG lies in the flat buffer; sums and edits over groups
directions.py  SGD, Adam, AdamW, and their application in cache-sized pieces
saliency.py    which groups matter
plan.py        which step does what
stated.py      options that directions and optimizers state themselves
base.py        the Optimizer protocol, its task, and plain training
leaving.py     which groups were chosen and which are zero for good
sparsifier.py  what the optimizers that let groups go have in common
half_space.py  the penalised trial step and its projection
dhspg.py       DHSPG with an exact finish
published.py   DHSPG by the rule of its package
hspg.py        HSPG, in two stages
hesso.py       HESSO, in periods
proximal.py    proximal steps of the group lasso
cut.py         cuts at once: magnitude, one-shot
refit.py       training with groups that are gone before the first step
optimizers.py  the optimizers by name
workers.py     pieces over threads
"""

from onnx_oto.optim.base import Dense, Optimizer, OptimizerOptions, Select, Task
from onnx_oto.optim.dhspg import Dhspg
from onnx_oto.optim.directions import DIRECTIONS, Adam, AdamW, Direction, Sgd
from onnx_oto.optim.groups import GroupIndex, Stretch
from onnx_oto.optim.optimizers import CUT_FIRST, OPTIMIZERS, Method, method, options
from onnx_oto.optim.plan import Plan
from onnx_oto.optim.saliency import SALIENCIES
from onnx_oto.optim.stated import Option, option

__all__ = [
    "CUT_FIRST",
    "DIRECTIONS",
    "OPTIMIZERS",
    "SALIENCIES",
    "Adam",
    "AdamW",
    "Dense",
    "Dhspg",
    "Direction",
    "GroupIndex",
    "Method",
    "Optimizer",
    "OptimizerOptions",
    "Option",
    "Plan",
    "Select",
    "Sgd",
    "Stretch",
    "Task",
    "method",
    "option",
    "options",
]
