"""What quantising does to a full and a compact model: bytes, accuracy, milliseconds. Run it in a stock environment.

    python tools/quantised.py runs/demo --data onnx_oto/assets/fashion_mnist_subset.npz [--mean 0.5 --std 0.5]

It needs onnxruntime, onnx and sympy, and nothing of this project. Both models of the run are quantised dynamically
(weights of MatMul and Gemm) and statically (QDQ, a scale for each channel, ranges by 512 training images); then all six
take turns on one image, and are judged on the test images. Images are uint8, channels last or none.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

ROUNDS = 400


class Batches(CalibrationDataReader):
    """Images to find ranges by, in batches of 64."""

    def __init__(self, name: str, images: np.ndarray) -> None:
        self._name, self._batches = name, iter(np.split(images, range(64, len(images), 64)))

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch, None when all were taken."""
        batch = next(self._batches, None)
        return None if batch is None else {self._name: batch}


def pixels(images: np.ndarray, mean: float, std: float) -> np.ndarray:
    """Return images uint8 [N, H, W] or [N, H, W, C] as a model reads them, float32 [N, C, H, W]."""
    images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    return (images.astype(np.float32) / 255 - mean) / std


def quantised(model: Path, images: np.ndarray, folder: Path) -> list[Path]:
    """Return the model and what is made of it: dynamic, static."""
    name = ort.InferenceSession(model).get_inputs()[0].name
    prepared, dynamic, static = (
        folder / f"{model.stem}.{kind}.onnx" for kind in ("prepared", "dynamic", "static")
    )
    quant_pre_process(str(model), str(prepared))
    quantize_dynamic(prepared, dynamic, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"])
    quantize_static(
        prepared,
        static,
        Batches(name, images),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,  # on x86 its kernels are twice as fast as those of int8 activations
        weight_type=QuantType.QInt8,
    )
    return [model, dynamic, static]


def main() -> None:
    """Print a row for each model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a run, with trained.onnx and compact.onnx")
    parser.add_argument("--data", type=Path, required=True, help="npz with x_train, x_test, y_test")
    parser.add_argument("--mean", type=float, default=0.0)
    parser.add_argument("--std", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    with np.load(given.data) as data:
        train, test = (pixels(data[key], given.mean, given.std) for key in ("x_train", "x_test"))
        labels = data["y_test"]
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = given.threads
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    with tempfile.TemporaryDirectory() as folder:
        paths = [
            path
            for name in ("trained", "compact")
            for path in quantised(given.run / f"{name}.onnx", train[:512], Path(folder))
        ]
        sessions = [
            ort.InferenceSession(path, settings, providers=["CPUExecutionProvider"]) for path in paths
        ]
        feed = {sessions[0].get_inputs()[0].name: test[:1]}
        times: list[list[float]] = [[] for _ in sessions]
        for _ in range(ROUNDS):
            for session, taken in zip(sessions, times, strict=True):
                session.run(None, feed)
                begin = time.perf_counter()
                session.run(None, feed)
                taken.append(1000 * (time.perf_counter() - begin))
        print(
            f"ONNX Runtime {ort.__version__}, {given.threads} thread(s), one image, {ROUNDS} rounds in turn\n"
        )
        print("| model | bytes | accuracy | ms, median | ms, least |\n| --- | --- | --- | --- | --- |")
        for path, session, taken in zip(paths, sessions, times, strict=True):
            parts = [
                session.run(None, {next(iter(feed)): part})[0]
                for part in np.split(test, range(100, len(test), 100))
            ]
            right = float((np.concatenate(parts).argmax(1) == labels).mean())
            kind = path.stem if "." in path.stem else f"{path.stem}, float32"
            size = f"{path.stat().st_size:,}"
            took = f"{np.median(taken):.3f} | {min(taken):.3f}"
            print(f"| {kind.replace('.', ', ')} | {size} | {right:.4f} | {took} |")


if __name__ == "__main__":
    main()
