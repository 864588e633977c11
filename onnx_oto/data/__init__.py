"""Data: reading, fitting to a model, batches.

npz.py      read x_train, y_train, x_test, y_test
layout.py   from the stored sample shape to the model's
fit.py      conversion per batch, and the sentence that says what is done
augment.py  random flips and shifts
dataset.py  both splits for a model and a loss, labels checked
batches.py  shuffled batches by seed and epoch
"""

from onnx_oto.data.augment import Augment
from onnx_oto.data.batches import Batch, batches, fit_batch, in_order
from onnx_oto.data.dataset import Dataset, Examples, Input, Labels, assemble
from onnx_oto.data.fit import Pixels, Source, fit
from onnx_oto.data.npz import Raw, load

__all__ = [
    "Augment",
    "Batch",
    "Dataset",
    "Examples",
    "Input",
    "Labels",
    "Pixels",
    "Raw",
    "Source",
    "assemble",
    "batches",
    "fit",
    "fit_batch",
    "in_order",
    "load",
]
