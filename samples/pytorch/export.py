"""Export the network as ONNX, and draw a folder of pictures for each class to train it on."""

from pathlib import Path

import numpy as np
import torch
from network import Network
from PIL import Image

torch.manual_seed(0)
network = Network().eval()
torch.save(network.state_dict(), "network.pt")
torch.onnx.export(
    network,
    (torch.zeros(2, 3, 32, 32),),
    "network.onnx",
    input_names=["image"],
    output_names=["scores"],
    dynamic_shapes={"image": {0: torch.export.Dim("batch")}},
    optimize=False,  # keeps BatchNormalization, which trains better than without
    external_data=False,
)

rng = np.random.default_rng(0)
for label, name in enumerate(("cross", "ring", "square")):
    folder = Path("shapes", name)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(150):
        y, x = np.mgrid[:32, :32] - rng.integers(12, 20, (2, 1, 1))
        far, near, size = np.maximum(abs(x), abs(y)), np.minimum(abs(x), abs(y)), rng.integers(6, 11)
        shown = ((near < 2) & (far < size), abs(far - size) < 2, far < size)[label]
        picture = rng.integers(0, 120, (32, 32, 3)) + shown[..., None] * rng.integers(40, 136, 3)
        Image.fromarray(picture.astype(np.uint8)).save(folder / f"{number}.png")
