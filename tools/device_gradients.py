"""Gradients and steps on a device: every row of the gradient suite against the CPU's, then whole steps of networks.

    .venv/bin/python tools/device_gradients.py cuda [--seconds 60] [--steps resnet18,resnet50] [--batch 64]

A row is a model of one operator (tests/gradients/rows.py); its gradient by the plain backend is computed on the device
and on the CPU, in float32 both. Prints the largest distances relative to the gradient's norm, rows whose second step
gave other bits than the first, and what failed. Then milliseconds of a step with the copies of parameters and gradients
between the device and the host, medians, and of the processor's own step.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
import onnx

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # tests/
sys.path.insert(0, str(Path(__file__).resolve().parent))

from paper_six.form import Form
from paper_six.networks import NETWORKS

from onnx_oto.errors import OtoError
from onnx_oto.gradients import TrainingSpec, choose_backend, prepare
from onnx_oto.runtime.devices import Device, read_device, require_device
from tests.gradients.harness import Row, model_of, trainable
from tests.gradients.rows import ROWS


def gradient(row: Row, device: Device) -> tuple[np.ndarray, bool]:
    """Return the gradient of a row, float32 [P] without gaps, and whether a second step gives the same bits."""
    shape = row.values()[next(iter(row.params))].shape
    spec = TrainingSpec(trainable(row), "output", batch=shape[0], shards=1, device=device)
    session = prepare(model_of(row), spec, choose_backend("plain", device)).build()
    data = {"data": np.zeros(shape, np.float32)}
    try:
        loss, first = session.step(data, None), np.array(session.grads)
        same = session.step(data, None) == loss and np.array_equal(np.asarray(session.grads), first)
        taken = [first[at : at + math.prod(shape)] for at, shape in session.slices.values()]
        return np.concatenate(taken), same
    finally:
        session.close()


def compare(device: Device, seconds: float) -> None:
    """Print how far the gradients on a device are from those of the CPU."""
    far, changing, failed = [], [], []
    end = time.monotonic() + seconds
    for row in ROWS:
        if time.monotonic() > end:
            break
        try:
            (expected, _), (found, same) = gradient(row, Device()), gradient(row, device)
        except OtoError as error:
            failed.append(f"{row.id}: {error}")
            continue
        far.append((float(np.linalg.norm(found - expected) / max(np.linalg.norm(expected), 1e-6)), row.id))
        if not same:
            changing.append(row.id)
    print(f"{len(far)} of {len(ROWS)} rows compared; farthest from the CPU's gradient, relative to its norm:")
    for distance, name in sorted(far, reverse=True)[:5]:
        print(f"  {distance:.1e} {name}")
    print(f"other bits in a second step: {', '.join(changing) or 'none'}")
    print("\n".join(["failed:", *failed] if failed else ["failed: none"]))


def time_steps(name: str, batch: int, device: Device, steps: int) -> None:
    """Print the median time of a step of a network for images of 32x32."""
    model = NETWORKS[name](Form(classes=10, size=32), 0)
    norms = {n for node in model.graph.node if node.op_type == "BatchNormalization" for n in node.input[3:5]}
    names = tuple(
        t.name
        for t in model.graph.initializer
        if t.data_type == onnx.TensorProto.FLOAT and t.name not in norms
    )
    spec = TrainingSpec(names, "cross-entropy", batch=batch, device=device)
    session = prepare(model, spec, choose_backend("plain", device)).build()
    value = model.graph.input[0]
    shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim][1:]
    x = {value.name: np.random.default_rng(0).standard_normal((batch, *shape)).astype(np.float32)}
    times = []
    for _ in range(steps):
        begin = time.perf_counter()
        session.step(x, np.arange(batch) % 10)
        times.append(1000 * (time.perf_counter() - begin))
    session.close()
    print(f"{name}, batch {batch}, {device.name}: {median(times[3:] or times):.1f} ms", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("device", type=read_device)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--steps", type=lambda text: text.split(","), default=["resnet20", "resnet18"])
    parser.add_argument("--batch", type=int, default=64)
    options = parser.parse_args()
    require_device(options.device)
    compare(options.device, options.seconds)
    for name in options.steps:
        for device in (options.device, Device()):
            time_steps(name, options.batch, device, 15)


if __name__ == "__main__":
    main()
