"""Twenty steps of both backends end at one place, but for the noise of float32 (`tools/trajectories.py` shows it)."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_oto.gradients.backends.ort_training import OrtTraining
from onnx_oto.gradients.backends.plain import Plain

from .available import needs_training_build
from .small_networks import NETWORKS, descend

SMOOTH = 1e-5
"""How far apart, as a share of the way. The training build alone ends up to 3e-6 off with the batch in two shards."""
KINKED = 0.06
"""The same where there are kinks: inputs moved by 1e-7 turn some Relu of millions: 0.02 in the end."""


@needs_training_build
@pytest.mark.parametrize("name", NETWORKS)
def test_backends_end_at_one_place(name: str) -> None:
    network = NETWORKS[name]()
    kinks = {"Relu", "Clip", "MaxPool"} & {node.op_type for node in network.model.graph.node}
    first, second = (descend(network, backend) for backend in (OrtTraining(), Plain()))
    assert first.losses[-1] < 0.97 * first.losses[0]
    assert np.linalg.norm(first.slope - second.slope) <= 1e-4 * np.linalg.norm(first.slope)
    assert first.off(second) <= (KINKED if kinks else SMOOTH)
