"""PyTorch's side: python -m step_bench.theirs NAME FOLDER THREADS [compile]. Writes model.onnx first if it is missing.

The step is that of anybody: zero_grad, forward, loss, backward, SGD with momentum (foreach). facts.json: batch, shape,
loss.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from zoo_factory.options import Options
from zoo_factory.torch_export import Example, export

from step_bench.networks import NETWORKS, Network, loss_of, without_chance
from step_bench.serving import Times, serve


def write(name: str, folder: Path) -> None:
    """Export a network with its BatchNormalizations."""
    network = NETWORKS[name]
    torch.manual_seed(0)
    module = without_chance(network.make())
    example = network.draw(2)
    target = [] if network.loss == "cross-entropy" else list(module.eval()(example).shape[1:])
    export(Example(module, (example,), exact=True), folder / "model.onnx", Options("kept"))
    facts = {
        "batch": network.batch,
        "sample": list(network.sample),
        "loss": network.loss,
        "classes": network.classes,
        "target": target,
    }
    (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")


def main(name: str, folder: str, threads: str, *compiled: str) -> None:
    """Serve."""
    place, network = Path(folder), NETWORKS[name]
    place.mkdir(parents=True, exist_ok=True)
    if not (place / "facts.json").exists():
        write(name, place)
    torch.set_num_threads(int(threads))
    serve(_stepper(network, json.loads((place / "facts.json").read_text()), bool(compiled)))


def _stepper(network: Network, facts: dict[str, list[int]], compiled: bool) -> Callable[[], Times]:
    torch.manual_seed(0)
    module = without_chance(network.make()).train()
    optimizer = torch.optim.SGD(module.parameters(), 1e-3, momentum=0.9, foreach=True)
    run = torch.compile(module) if compiled else module
    loss_function = loss_of(network.loss)
    x = network.draw(network.batch)
    target = (
        torch.randn(network.batch, *facts["target"])
        if facts["target"]
        else torch.randint(0, 10, (network.batch,))
    )

    def step() -> Times:
        begin = time.perf_counter()
        optimizer.zero_grad()
        loss = loss_function(run(x), target)
        loss.backward()
        middle = time.perf_counter()
        optimizer.step()
        end = time.perf_counter()
        return 1e3 * (end - begin), 1e3 * (end - middle)

    return step


if __name__ == "__main__":
    main(*sys.argv[1:])
