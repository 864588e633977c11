"""From a torch module to an ONNX file: random weights that matter, then one of torch's two exporters."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zoo_factory.options import Options

OPSET = 18
BATCHNORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class Example:
    """A module with inputs of batch 2.

    args: tensors in call order. names: their names in the graph. dynamic: per input, axis -> symbol. exact: it is
    exported in the wanted way or not at all, and the exporter may find conditions on the symbols.
    """

    module: nn.Module
    args: tuple[torch.Tensor, ...]
    names: tuple[str, ...] = ("input",)
    dynamic: tuple[Mapping[int, str], ...] = ({0: "batch"},)
    outputs: tuple[str, ...] = field(default=())
    exact: bool = False


def define_missing_ops() -> Any:
    """Return (and keep!) a library that defines the two operators torchvision wants on a CPU-only torch."""
    library = torch.library.Library("torchvision", "DEF")
    for op in ("nms", "qnms"):
        library.define(f"{op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def image(*size: int, channels: int = 3, batch: int = 2) -> torch.Tensor:
    """Return a normal random image batch float32 [batch, channels, *size]."""
    return torch.randn(batch, channels, *size)


def export(example: Example, path: Path, options: Options) -> dict[str, object]:
    """Randomise, export and write the module; return what was done.

    The wanted way is tried first; where torch cannot (and the example is not exact), the batch is made static, then
    the other exporter is used. Raises the first way's error when none works.
    """
    module = example.module.eval()
    randomise(module, options.seed)
    calibrate(module, example.args, options.seed)
    facts: dict[str, object] = {"sensitivity": _sensitivity(module, example.args)}
    first: Exception | None = None
    for exporter, static in _ways(example, options):
        try:
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")
                (_dynamo if exporter == "dynamo" else _torchscript)(example, path, options.bn, static)
        except Exception as error:  # the exporters raise whatever they like
            first = first or error
            continue
        return {**facts, "exporter_used": exporter, "batch": "static" if static else "dynamic"}
    assert first is not None
    raise first


def _ways(example: Example, options: Options) -> list[tuple[str, bool]]:
    """Return (exporter, static) in the order to try."""
    if example.exact:
        return [(options.exporter, options.static)]
    other = {"dynamo": "torchscript", "torchscript": "dynamo"}[options.exporter]
    ways = itertools.product((options.exporter, other), (False, True))
    return [(exporter, static) for exporter, static in ways if static or not options.static]


def randomise(module: nn.Module, seed: int) -> None:
    """Replace every parameter whose elements are all equal (ones, zeros, layer scales) by random values.

    Constant c != 0 becomes c' * uniform(0.5, 1.5) with |c'| at least 0.1, zero becomes normal(0, 0.05). By
    value, not by name: biases, norms, class tokens, position tables and gates alike.
    """
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.is_floating_point() or parameter.numel() == 0:
                continue
            first = float(parameter.flatten()[0])
            if not bool((parameter == first).all()):
                continue
            if first == 0:
                parameter.copy_(0.05 * torch.randn(parameter.shape, generator=rng))
                continue
            scale = first if abs(first) >= 0.1 else 0.1
            parameter.copy_(scale * (0.5 + torch.rand(parameter.shape, generator=rng)))


def calibrate(module: nn.Module, args: Sequence[torch.Tensor], seed: int) -> None:
    """Set running statistics of BatchNorms to those of the example inputs, disturbed by a seeded 10 to 25 %.

    So activations neither vanish nor explode, and no statistic is 0 or 1.
    """
    norms = [m for m in module.modules() if isinstance(m, BATCHNORM) and m.running_mean is not None]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        try:
            module(*args)
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
                norm.eval()
        rng = torch.Generator().manual_seed(seed + 1)
        for norm in norms:
            assert norm.running_mean is not None
            assert norm.running_var is not None
            variance = norm.running_var.clamp_min(1e-3)
            shift = 0.1 * torch.randn(variance.shape, generator=rng)
            norm.running_mean.add_(shift * variance.sqrt())
            norm.running_var.copy_(variance * (0.8 + 0.45 * torch.rand(variance.shape, generator=rng)))


def _sensitivity(module: nn.Module, args: Sequence[torch.Tensor]) -> float | None:
    """Return how far the outputs move, relative to their size, when the floating inputs are drawn again.

    A model near 0 ignores its inputs: equal outputs would then prove nothing. None without floating inputs.
    """
    if not any(a.is_floating_point() for a in args):
        return None
    again = [torch.randn_like(a) if a.is_floating_point() else a for a in args]
    with torch.no_grad():
        pairs = zip(_tensors(module(*args)), _tensors(module(*again)), strict=True)
        moved = [float((a - b).abs().max() / a.abs().max().clamp_min(1e-30)) for a, b in pairs]
    return float(f"{max(moved):.2g}")


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value] if value.is_floating_point() else []
    if isinstance(value, Mapping):
        value = list(value.values())
    return [t for item in value for t in _tensors(item)] if isinstance(value, list | tuple) else []


def _dynamo(example: Example, path: Path, bn: str, static: bool) -> None:
    symbols: dict[str, Any] = {}
    shapes: Any = None
    if not static and any(example.dynamic):
        shapes = tuple(
            {axis: symbols.setdefault(name, _symbol(name, example.exact)) for axis, name in axes.items()}
            for axes in example.dynamic
        )
    program = torch.onnx.export(
        example.module,
        example.args,
        input_names=list(example.names),
        output_names=list(example.outputs) or None,
        dynamo=True,
        dynamic_shapes=shapes,
        optimize=bn == "folded",
        verbose=False,
    )
    assert program is not None
    program.save(str(path), external_data=_bytes(example.module) > 1_900_000_000)


def _symbol(name: str, conditions: bool) -> Any:
    """Return what stands for an open axis: a bare name lets the exporter find conditions such as evenness."""
    return name if conditions else torch.export.Dim(name)


def _torchscript(example: Example, path: Path, bn: str, static: bool) -> None:
    mode = torch.onnx.TrainingMode
    axes = {} if static else {n: dict(a) for n, a in zip(example.names, example.dynamic, strict=True)}
    torch.onnx.export(
        example.module,
        example.args,
        str(path),
        input_names=list(example.names),
        output_names=list(example.outputs) or None,
        dynamo=False,
        dynamic_axes=axes,
        opset_version=OPSET,
        training={"folded": mode.EVAL, "kept": mode.PRESERVE, "training": mode.TRAINING}[bn],
        do_constant_folding=bn == "folded",
    )


def _bytes(module: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in module.parameters())
