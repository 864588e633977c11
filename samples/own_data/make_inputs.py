"""Write what this sample starts from: log files of three machines, and a network for windows of them."""

from pathlib import Path

import numpy as np
import onnx

NETWORK = """<ir_version: 8, opset_import: ["" : 17]>
machines (float[N,2,32] window) => (float[N,3] scores) {
    a = Conv<pads = [2,2]>(window, w1, b1)
    b = Relu(a)
    c = MaxPool<kernel_shape = [2], strides = [2]>(b)
    d = Conv<pads = [2,2]>(c, w2, b2)
    e = Relu(d)
    f = GlobalAveragePool(e)
    g = Flatten(f)
    scores = Gemm(g, w3, b3)
}"""
WEIGHTS = {"w1": (24, 2, 5), "b1": (24,), "w2": (32, 24, 5), "b2": (32,), "w3": (32, 3), "b3": (3,)}

rng = np.random.default_rng(0)
model = onnx.parser.parse_model(NETWORK)
for name, shape in WEIGHTS.items():
    fan = np.prod(shape[1:]) if len(shape) > 2 else shape[0]
    values = rng.standard_normal(shape) * np.sqrt(2 / fan) * (len(shape) > 1)
    model.graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float32), name))
onnx.save(model, "model.onnx")

Path("signals").mkdir(exist_ok=True)
for split, lines in (("train", 8000), ("test", 3200)):
    for machine in range(3):
        time = np.arange(lines)
        pressure = np.sin(time * (0.3 + 0.25 * machine)) + 0.5 * rng.standard_normal(lines)
        flow = np.cos(time * 0.2) * (1 + machine % 2) + 0.5 * rng.standard_normal(lines)
        rows = "".join(f"{p:.4f},{f:.4f}\n" for p, f in zip(pressure, flow, strict=True))
        Path("signals", f"machine{machine}-{split}.csv").write_text("pressure,flow\n" + rows)
