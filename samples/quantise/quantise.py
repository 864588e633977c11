"""Quantise the compact model with ONNX Runtime's own tools, in two ways, and judge all three models alike."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

RUN = Path("runs/shapes")
with np.load("data.npz") as data:
    arrays = {key: data[key] for key in data}
train, test = (arrays[f"x_{split}"][:, None].astype(np.float32) / 255 for split in ("train", "test"))


class Calibration(CalibrationDataReader):
    """Batches of training images, by which the ranges of activations are found."""

    def __init__(self) -> None:
        self.batches = iter(np.split(train[:512], 8))

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self.batches, None)
        return None if batch is None else {"image": batch}


# Fused and with shapes: what the static tool wants of a model first.
quant_pre_process(str(RUN / "compact.onnx"), "prepared.onnx", skip_symbolic_shape=True)
# Weights of MatMul and Gemm as int8, activations when the model runs: no data are needed.
quantize_dynamic(
    "prepared.onnx", "dynamic.onnx", weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"]
)
# Weights and activations as int8 between QuantizeLinear and DequantizeLinear, a scale for each channel.
quantize_static(
    "prepared.onnx", "static.onnx", Calibration(), quant_format=QuantFormat.QDQ, per_channel=True, reduce_range=False,
    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
)  # fmt: skip

reference = None
for path in (RUN / "trained.onnx", RUN / "compact.onnx", Path("dynamic.onnx"), Path("static.onnx")):
    onnx.checker.check_model(onnx.load(path), full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    scores = session.run(None, {"image": test})[0]
    reference = scores if reference is None else reference
    moved = np.abs(scores - reference).sum() / np.abs(reference).sum()
    accuracy = (scores.argmax(1) == arrays["y_test"]).mean()
    print(
        f"{path.name:14} {path.stat().st_size:7,} bytes, accuracy {accuracy:.3f}, output moved by {moved:.1e}"
    )
    if path.name == "compact.onnx":
        assert moved < 1e-5
    assert accuracy > 0.9
