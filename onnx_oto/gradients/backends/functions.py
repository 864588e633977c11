"""Functions of ours in the place of nodes of a gradient graph, where they are faster (see `runtime/joining.py`)."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import onnx

from onnx_oto.gradients.backends.calling import free_early
from onnx_oto.gradients.backends.ort_adding import add_up
from onnx_oto.gradients.backends.ort_divided import divide
from onnx_oto.gradients.backends.ort_divided_probe import can_divide
from onnx_oto.gradients.backends.ort_norms import write_norms
from onnx_oto.gradients.backends.ort_norms_probe import can_norm
from onnx_oto.gradients.backends.ort_stacked import stack
from onnx_oto.gradients.backends.ort_stacked_probe import can_stack
from onnx_oto.gradients.backends.recompute import recompute
from onnx_oto.gradients.backends.stacked_plan import sizes

Shapes = Mapping[str, tuple[int, ...]]


def can_call() -> bool:
    """Return whether functions can be called from graphs here, tried where it can do no harm."""
    return can_stack()


def call_functions(
    gradient: onnx.ModelProto,
    shapes: Shapes,
    wanted: Collection[str],
    *,
    joint: bool,
    even: bool,
    adding: bool,
    samples: int,
) -> Shapes:
    """Rewrite a gradient graph in place, where functions can be called; return `shapes` with those of what is new.

    shapes: static shapes of forward tensors by name, more do no harm; the rest is as `Backend.differentiate` has it.
    """
    if samples and can_divide():
        divide(gradient, shapes, wanted, samples)
    if even:
        shapes = stack(gradient, shapes, wanted, sizes(), written=not adding)
    if can_norm():
        write_norms(gradient, shapes, joint=joint)
    return shapes


def complete(
    gradient: onnx.ModelProto,
    forward: onnx.ModelProto,
    shapes: Shapes,
    wanted: Collection[str],
    *,
    adding: bool,
    again: bool,
) -> None:
    """Do what comes after all rewriting, in place: gradients are added up, tensors made again and let go early.

    adding: only where functions can be called; it and `again` are as `Backend.differentiate` has them.
    """
    if adding:
        add_up(gradient, wanted, shapes)
    if again:
        recompute(gradient, shapes, [value.name for value in forward.graph.output])
    free_early(gradient.graph)
