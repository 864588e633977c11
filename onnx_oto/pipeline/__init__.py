"""The verbs of the command line, composed of the floors below."""

from onnx_oto.pipeline.demo import demo
from onnx_oto.pipeline.feeding import FeedOptions
from onnx_oto.pipeline.opening import Opened, open_model
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.pipeline.prune import Pruned, PruneOptions, compact_zeros, prune
from onnx_oto.pipeline.result import Gain, Trained
from onnx_oto.pipeline.summary import Summary
from onnx_oto.pipeline.train import train
from onnx_oto.pipeline.verifying import verify_files

__all__ = [
    "FeedOptions",
    "Gain",
    "Opened",
    "PruneOptions",
    "Pruned",
    "Summary",
    "TrainOptions",
    "Trained",
    "compact_zeros",
    "demo",
    "open_model",
    "prune",
    "train",
    "verify_files",
]
