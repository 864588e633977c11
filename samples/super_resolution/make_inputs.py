"""Write what this sample starts from: pictures, and a network that doubles the size of pictures of any size."""

from pathlib import Path

import numpy as np
import onnx
from PIL import Image

NETWORK = """<ir_version: 8, opset_import: ["" : 17]>
double (float[N,3,H,W] small) => (float[N,3,H2,W2] large)
<float[4] twice = {1.0, 1.0, 2.0, 2.0}> {
    a = Conv<pads = [1,1,1,1]>(small, w1, b1)
    b = PRelu(a, s1)
    c = Conv<pads = [1,1,1,1]>(b, w2, b2)
    d = PRelu(c, s2)
    e = Conv<pads = [1,1,1,1]>(d, w3, b3)
    f = DepthToSpace<blocksize = 2, mode = "CRD">(e)
    g = Resize<mode = "linear">(small, , twice)
    large = Add(f, g)
}"""
WEIGHTS = {
    "w1": (32, 3, 3, 3), "b1": (32,), "s1": (32, 1, 1), "w2": (32, 32, 3, 3), "b2": (32,), "s2": (32, 1, 1),
    "w3": (12, 32, 3, 3), "b3": (12,),
}  # fmt: skip

rng = np.random.default_rng(0)
model = onnx.parser.parse_model(NETWORK)
for name, shape in WEIGHTS.items():
    values = (
        rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:])) if name[0] == "w" else np.zeros(shape)
    )
    values += 0.2 * (name[0] == "s")
    values *= 0.1 if name == "w3" else 1  # begins near the bilinear picture
    model.graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float32), name))
onnx.save(model, "model.onnx")

for split, count in (("train", 24), ("val", 4)):
    Path("pictures", split, "HR").mkdir(parents=True, exist_ok=True)
    for number in range(count):
        y, x = np.mgrid[:96, : 96 + 16 * (number % 3)]
        waves = [np.sin(x * a + y * b + c) for a, b, c in rng.uniform(-1, 1, (9, 3)) * (0.6, 0.6, 3)]
        edges = [(x * a + y * b > c * 40) for a, b, c in rng.uniform(-1, 1, (9, 3))]
        picture = np.stack([sum(waves[i::3]) / 3 + sum(edges[i::3]) for i in range(3)], axis=-1)
        picture = (255 * (picture - picture.min()) / np.ptp(picture)).astype(np.uint8)
        Image.fromarray(picture).save(Path("pictures", split, "HR", f"{number:04}.png"))
