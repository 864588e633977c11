"""PyTorch's side: build, export, gradients and steps in float32 and float64. Runs where torch is.

python -m torch_reference.theirs NAME FOLDER SEED
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from zoo_factory.options import Options
from zoo_factory.set_trained import CASES
from zoo_factory.torch_export import Example, export, randomise

from torch_reference.distinct import distinct, nudged
from torch_reference.steps import EXACT, MOMENTUM, SAMPLES, SINGLE, STEPS, WAYS, Way

Arrays = dict[str, Any]
RUNS = [(EXACT, torch.float64, 0), *((label, torch.float32, i) for i, label in enumerate(SINGLE))]
"""In float32 with the samples in several orders and inputs rounded otherwise, which changes nothing else."""
Loss = Callable[[torch.Tensor], torch.Tensor]


def main(name: str, folder: str, seed: str) -> None:
    """Write model.onnx, batch.npz, theirs.npz and facts.json to the folder."""
    place = Path(folder)
    torch.manual_seed(int(seed))
    module = CASES[name].build()
    without_chance(module)
    randomise(module, int(seed))
    make_distinct(module)
    example = CASES[name].draw(2)
    export(Example(module, (example,), exact=True), place / "model.onnx", Options("kept", seed=int(seed)))
    x = CASES[name].draw(SAMPLES)
    with torch.no_grad():
        shape, spread = _shape(module, x)
    classes = shape[1] if len(shape) == 2 and shape[1] > 1 else None
    target = torch.randint(0, classes, shape[:1]) if classes else spread * torch.randn(shape)
    np.savez(place / "batch.npz", input=x.numpy(), target=target.numpy())
    arrays = {f"start|{key}": value for key, value in _state(module).items()}
    for label, kind, first in RUNS:
        order = torch.arange(SAMPLES).roll(first)  # as numpy.roll
        inputs = torch.from_numpy(nudged(x[order].numpy(), first))
        found = _trained(module, inputs, target[order], kind)
        arrays.update({f"{key}|{label}": value for key, value in found.items()})
    np.savez(place / "theirs.npz", **arrays)
    facts = {
        "loss": "cross-entropy" if classes else "mse",
        "params": sum(p.numel() for p in module.parameters()),
        "parameters": [key for key, _ in module.named_parameters()],
    }
    (place / "facts.json").write_text(json.dumps(facts), encoding="utf-8")


def without_chance(module: nn.Module) -> None:
    """Switch Dropout and the dropping of whole paths off: both sides would draw other masks."""
    for part in module.modules():
        for key in ("p", "drop_prob", "dropout"):
            if isinstance(getattr(part, key, None), float):
                setattr(part, key, 0.0)


def make_distinct(module: nn.Module) -> None:
    """Change parameters by units in the last place, so that no two numbers of the model are equal.

    Then every number is found again by its value, wherever and in whatever order an exporter stores it.
    """
    parameters = [p for p in module.parameters() if p.is_floating_point()]
    flat = torch.cat([p.detach().flatten() for p in parameters])
    values = torch.from_numpy(distinct(flat.numpy()))
    with torch.no_grad():
        for parameter, part in zip(parameters, values.split([p.numel() for p in parameters]), strict=True):
            parameter.copy_(part.view_as(parameter))


def _shape(module: nn.Module, x: torch.Tensor) -> tuple[tuple[int, ...], float]:
    """Return shape and standard deviation of the first output in inference."""
    y = _first(module.eval()(x))
    return tuple(y.shape), float(y.std()) or 1.0


def _first(y: Any) -> torch.Tensor:
    while not isinstance(y, torch.Tensor):
        y = y[0]
    return y


def _trained(module: nn.Module, x: torch.Tensor, target: torch.Tensor, kind: torch.dtype) -> Arrays:
    """Return the loss, gradients and statistics of one step, and the parameters after all steps of every way."""
    if x.is_floating_point():
        x = x.to(kind)
    if target.is_floating_point():
        target = target.to(kind)

    def loss(y: torch.Tensor) -> torch.Tensor:
        return F.mse_loss(y, target) if target.is_floating_point() else F.cross_entropy(y, target)

    fresh = copy.deepcopy(module).to(kind).train()
    value = loss(_first(fresh(x)))
    value.backward()
    result: Arrays = {"loss": np.asarray(float(value))}
    for key, parameter in fresh.named_parameters():
        if parameter.grad is not None:
            result[f"gradient|{key}"] = parameter.grad.numpy()
    result.update({f"statistic|{key}": value for key, value in _statistics(fresh)})
    for name, way in WAYS.items():
        stepped = _stepped(copy.deepcopy(module).to(kind).train(), x, loss, way)
        result.update({f"{name}|{key}": p.detach().numpy() for key, p in stepped.named_parameters()})
    return result


def _stepped(module: nn.Module, x: torch.Tensor, loss: Loss, way: Way) -> nn.Module:
    optimizer = _optimizer(module, way)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss(_first(module(x))).backward()
        optimizer.step()
    return module


def _optimizer(module: nn.Module, way: Way) -> torch.optim.Optimizer:
    settings: dict[str, Any] = {"lr": way.lr, "weight_decay": way.weight_decay}
    if way.direction == "sgd":
        return torch.optim.SGD(module.parameters(), momentum=MOMENTUM, **settings)
    return {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[way.direction](
        module.parameters(), **settings
    )


def _statistics(module: nn.Module) -> Iterator[tuple[str, Any]]:
    for key, value in module.named_buffers():
        if key.endswith(("running_mean", "running_var")):
            yield key, value.numpy().copy()


def _state(module: nn.Module) -> Arrays:
    parameters = {key: p.detach().numpy().copy() for key, p in module.named_parameters()}
    return {**parameters, **dict(_statistics(module))}


if __name__ == "__main__":
    main(*sys.argv[1:])
