"""Make the smaller network in PyTorch from what `prune --kept` says stays, and write what it computes."""

import json
from pathlib import Path

import numpy as np
import torch
from network import Network

kept = json.loads(Path("kept.json").read_text())["parameters"]
state = torch.load("network.pt")
for name, entry in kept.items():
    for axis, indices in entry["axes"].items():
        state[name] = state[name].index_select(int(axis), torch.tensor(indices))

inner = [len(state[f"blocks.{i}.conv1.weight"]) for i in range(2)]
small = Network(len(state["stem.weight"]), inner).eval()
small.load_state_dict(state)  # every shape fits, or this raises
torch.save(state, "small.pt")

images = np.random.default_rng(0).random((8, 3, 32, 32), np.float32)
with torch.no_grad():
    np.savez("sliced.npz", images=images, scores=small(torch.from_numpy(images)).numpy())
print(f"widths: {len(state['stem.weight'])} outside, {inner} inside")
