"""`demo`: the main job on embedded data, start to finish."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from importlib.resources import as_file, files
from pathlib import Path

from onnx_oto.peers.seam import ALONE, Peers
from onnx_oto.pipeline.options import DemoOptions
from onnx_oto.pipeline.ready import Say
from onnx_oto.pipeline.recording import Record
from onnx_oto.pipeline.result import Trained
from onnx_oto.pipeline.train import train
from onnx_oto.training import Observer


def demo(
    run: str | os.PathLike[str],
    options: DemoOptions | None = None,
    *,
    observer: Observer | None = None,
    say: Say = lambda text: None,
    stop: Callable[[], bool] | None = None,
    listening: AbstractContextManager[object] | None = None,
    peers: Peers = ALONE,
) -> Trained:
    """Train the embedded residual CNN on the embedded Fashion-MNIST subset and return the result.

    10,000 training and 2,000 test images; 60 % of the groups of every dimension are driven to zero and cut out:
    20, 40 and 80 channels become 8, 16 and 32, which suits the runtime. Everything is written to `run`, an earlier
    demo there is replaced, and nothing else.
    """
    options = options or DemoOptions()
    with embedded() as (model, data):
        return train(
            model,
            data,
            run,
            options.training(),
            observer=observer,
            say=say,
            stop=stop,
            listening=listening,
            record=Record("demo", options),
            peers=peers,
        )


@contextlib.contextmanager
def embedded() -> Iterator[tuple[Path, Path]]:
    """Give the embedded model and data as files, as long as the block."""
    assets = files("onnx_oto") / "assets"
    with (
        as_file(assets / "fashion_resnet.onnx") as model,
        as_file(assets / "fashion_mnist_subset.npz") as data,
    ):
        yield model, data
