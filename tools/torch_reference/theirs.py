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
from torch_reference.steps import (
    BATCHES,
    EXACT,
    FIRST,
    MOMENTUM,
    MOVED,
    SAMPLES,
    SINGLE,
    SMOOTH,
    STEPPED,
    STEPS,
    WAYS,
    Way,
)

Arrays = dict[str, Any]
Loss = Callable[[torch.Tensor], torch.Tensor]
MULTIPLIERS = (nn.Linear, nn.modules.conv._ConvNd, nn.Embedding)


def main(name: str, folder: str, seed: str) -> None:
    """Write model.onnx, batch-I.npz, theirs-I.npz, and in the end facts.json to the folder."""
    place = Path(folder)
    case = CASES[name.removesuffix(SMOOTH)]
    kinks = watched(smooth=name.endswith(SMOOTH))
    torch.manual_seed(int(seed))
    module = case.build()
    without_chance(module)
    randomise(module, int(seed))
    make_distinct(module)
    export(
        Example(module, (case.draw(2),), exact=True), place / "model.onnx", Options("kept", seed=int(seed))
    )
    for index in range(BATCHES):
        x = case.draw(SAMPLES)
        with torch.no_grad():
            shape, spread = _shape(module, x)
        classes = shape[1] if len(shape) == 2 and shape[1] > 1 else None
        target = torch.randint(0, classes, shape[:1]) if classes else spread * torch.randn(shape)
        np.savez(place / f"batch-{index}.npz", input=x.numpy(), target=target.numpy())
        arrays = {f"start|{key}": value for key, value in _state(module).items()}
        arrays |= {
            f"decayed|{key}": np.asarray(key in decayed(module)) for key, _ in module.named_parameters()
        }
        runs = {EXACT: (module, torch.float64), SINGLE: (module, torch.float32)}
        runs[MOVED] = (moved(module, index), torch.float64)
        for label, (network, kind) in runs.items():
            ways = WAYS if index < STEPPED and label != MOVED else {}
            found = _trained(network, x, target, kind, ways)
            arrays.update({f"{key}|{label}": value for key, value in found.items()})
        np.savez(place / f"theirs-{index}.npz", **arrays)
    facts = {
        "loss": "cross-entropy" if classes else "mse",
        "params": sum(p.numel() for p in module.parameters()),
        "parameters": [key for key, _ in module.named_parameters()],
        "samples": SAMPLES,
        "batches": BATCHES,
        "stepped": STEPPED,
        "kinks": sorted(kinks),
    }
    (place / "facts.json").write_text(json.dumps(facts), encoding="utf-8")


def watched(smooth: bool) -> set[str]:
    """Return a set that the names of those functions with kinks gather in that are called from now on.

    smooth: they are smooth functions instead, for the whole process; Hardsigmoid and Hardswish become Sigmoid and SiLU.
    """
    called: set[str] = set()

    def noted(name: str, function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def call(*args: Any, **kwargs: Any) -> torch.Tensor:
            called.add(name)
            return function(*args, **kwargs)

        return call

    for name, function in SMOOTHED.items():
        setattr(F, name, noted(name, function if smooth else getattr(F, name)))
    torch.relu = noted("relu", F.softplus if smooth else torch.relu)
    torch.Tensor.relu = noted("relu", F.softplus if smooth else torch.Tensor.relu)
    return called


def averaged(average: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Return average pooling that is called as maximum pooling is."""

    def pool(
        x: torch.Tensor,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> torch.Tensor:
        return average(x, kernel_size, stride, padding, ceil_mode)

    return pool


def smooth_prelu(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return softplus(x) - weight * softplus(-x): the PReLU in it sees no positive numbers, and its slope stays one."""
    return F.softplus(x) + torch.prelu(-F.softplus(-x), weight)


SMOOTHED: dict[str, Callable[..., torch.Tensor]] = {
    "relu": lambda x, inplace=False: F.softplus(x),
    "leaky_relu": lambda x, slope=0.01, inplace=False: F.softplus(x) - slope * F.softplus(-x),
    "hardtanh": lambda x, low=-1.0, high=1.0, inplace=False: F.softplus(x - low) - F.softplus(x - high) + low,
    "relu6": lambda x, inplace=False: F.softplus(x) - F.softplus(x - 6.0),
    "prelu": smooth_prelu,
    "hardswish": lambda x, inplace=False: F.silu(x),
    "hardsigmoid": lambda x, inplace=False: torch.sigmoid(x),
    "max_pool1d": averaged(F.avg_pool1d),
    "max_pool2d": averaged(F.avg_pool2d),
    "max_pool3d": averaged(F.avg_pool3d),
}
"""What takes the place of the functions of torch.nn.functional that have kinks."""


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


def moved(module: nn.Module, seed: int) -> nn.Module:
    """Return a copy with half of all parameters moved by a unit in their last place."""
    result = copy.deepcopy(module)
    with torch.no_grad():
        for index, parameter in enumerate(result.parameters()):
            parameter.copy_(torch.from_numpy(nudged(parameter.numpy(), 1000 * seed + index)))
    return result


def decayed(module: nn.Module) -> set[str]:
    """Return the names of the parameters that weight decay is for: not for norms and biases, as PyTorch's users do it.

    By what they are in PyTorch: weights of layers, and of the rest what has more than one axis longer than 1.
    """
    weights = {
        f"{name}.weight".removeprefix(".")
        for name, part in module.named_modules(remove_duplicate=False)
        if isinstance(part, MULTIPLIERS)
    }
    return {
        name
        for name, p in module.named_parameters()
        if name in weights or sum(size > 1 for size in p.shape) > 1
    }


def _shape(module: nn.Module, x: torch.Tensor) -> tuple[tuple[int, ...], float]:
    """Return shape and standard deviation of the first output in inference."""
    y = _first(module.eval()(x))
    return tuple(y.shape), float(y.std()) or 1.0


def _first(y: Any) -> torch.Tensor:
    while not isinstance(y, torch.Tensor):
        y = y[0]
    return y


def _trained(
    module: nn.Module, x: torch.Tensor, target: torch.Tensor, kind: torch.dtype, ways: dict[str, Way]
) -> Arrays:
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
    for name, way in ways.items():
        stepped = _stepped(copy.deepcopy(module).to(kind).train(), x, loss, way)
        result.update({f"{name}|{key}": p.detach().numpy() for key, p in stepped.named_parameters()})
        if name == FIRST:
            result.update({f"later|{key}": value for key, value in _statistics(stepped)})
    return result


def _stepped(module: nn.Module, x: torch.Tensor, loss: Loss, way: Way) -> nn.Module:
    optimizer = _optimizer(module, way)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss(_first(module(x))).backward()
        optimizer.step()
    return module


def _optimizer(module: nn.Module, way: Way) -> torch.optim.Optimizer:
    chosen = decayed(module)
    groups: list[dict[str, Any]] = [
        {"params": [p for name, p in module.named_parameters() if way.everything or name in chosen]},
        {
            "params": [
                p for name, p in module.named_parameters() if not way.everything and name not in chosen
            ],
            "weight_decay": 0.0,
        },
    ]
    settings: dict[str, Any] = {"lr": way.lr, "weight_decay": way.weight_decay}
    if way.direction == "sgd":
        return torch.optim.SGD(groups, momentum=MOMENTUM, **settings)
    return {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[way.direction](groups, **settings)


def _statistics(module: nn.Module) -> Iterator[tuple[str, Any]]:
    for key, value in module.named_buffers():
        if key.endswith(("running_mean", "running_var")):
            yield key, value.numpy().copy()


def _state(module: nn.Module) -> Arrays:
    parameters = {key: p.detach().numpy().copy() for key, p in module.named_parameters()}
    return {**parameters, **dict(_statistics(module))}


if __name__ == "__main__":
    main(*sys.argv[1:])
