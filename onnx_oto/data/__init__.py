"""Data: kinds of it, columns of samples, fitting to a model, batches.

source.py       the seams: Source, Opening, and what is known before values are read
reading.py      how data are opened, beyond the path
splitting.py    samples set apart, by a seed
openers.py      the kinds of data, by the kind of path
npz.py          x_train, y_train, x_test, y_test in an npz file
npy.py          the same in npy files
idx.py          the MNIST family
cifar.py        CIFAR-10 and CIFAR-100, binary
svhn.py         SVHN, .mat
arrow.py        tables in parquet and CSV (arrow_files.py, arrow_columns.py, arrow_values.py; embedded.py: images)
text.py         lines of text and a tokenizer
callables.py    what a function makes
images/         images in folders: one for each class, without labels, or pairs of small and large ones
repeating.py    training samples that come several times in an epoch
deferred.py     headers now, values later: an Opening
archive.py      npz files that nobody vouches for (npyhead.py: the heads of their members)
unpacking.py    what has to be unpacked once, to files that are mapped
files.py, extras.py  opening files, and libraries that may not be there
table.py        data in columns
classes.py      labels that are words
arrangement.py  from the stored sample shape to the model's
pages.py        mapped files at bounded resident memory
fit.py          conversion of inputs per batch, and the sentence that says what is done
labels.py       targets as the loss reads them, checked
scene.py        which columns show the same image
augment.py      random changes of images
zoom.py         a part of an image, enlarged
colour.py       brightness, contrast, saturation
weighing.py     weights of samples and labels, and mixed samples
dataset.py      columns as a source
buckets.py      sequences of different lengths
batches.py      shuffled batches by seed and epoch
prefetch.py     the next batches made on threads
"""

from onnx_oto.data.augment import Augment
from onnx_oto.data.batches import OneByOne, batch_jobs, batches, fit_batch, in_order, jobs_in_order
from onnx_oto.data.dataset import Examples, Tables, sample_shapes
from onnx_oto.data.fit import Column, Pixels, Stored, fit
from onnx_oto.data.images.whole import takes_any_size, trial, wholes
from onnx_oto.data.labels import Labels, fit_target
from onnx_oto.data.openers import OPENERS, Opener, open_data
from onnx_oto.data.prefetch import made_ahead, prefetched
from onnx_oto.data.reading import Reading
from onnx_oto.data.source import (
    SAMPLE_WEIGHT,
    TARGET,
    Batch,
    Dataset,
    Header,
    Input,
    Opening,
    Sample,
    Source,
    Wanted,
)
from onnx_oto.data.splitting import Chosen
from onnx_oto.data.table import Table
from onnx_oto.data.weighing import Weighed, require_mixable, weigh

__all__ = [
    "OPENERS",
    "SAMPLE_WEIGHT",
    "TARGET",
    "Augment",
    "Batch",
    "Chosen",
    "Column",
    "Dataset",
    "Examples",
    "Header",
    "Input",
    "Labels",
    "OneByOne",
    "Opener",
    "Opening",
    "Pixels",
    "Reading",
    "Sample",
    "Source",
    "Stored",
    "Table",
    "Tables",
    "Wanted",
    "Weighed",
    "batch_jobs",
    "batches",
    "fit",
    "fit_batch",
    "fit_target",
    "in_order",
    "jobs_in_order",
    "made_ahead",
    "open_data",
    "prefetched",
    "require_mixable",
    "sample_shapes",
    "takes_any_size",
    "trial",
    "weigh",
    "wholes",
]
