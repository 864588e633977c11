"""LSTM, GRU and RNN: a lane is one hidden unit, in all gates and both directions.

A unit whose weights, recurrent weights and biases are zero stays zero: its gates are constant, its candidate is
tanh(0) = 0, and it starts from zero: an initial state that is a parameter is zeroed with it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_oto.lanes.contract import contract
from onnx_oto.lanes.layout import IntArray, Layout, relabel_axis
from onnx_oto.lanes.repairs.cut import Cut
from onnx_oto.lanes.trace import Role, Trace, describe
from onnx_oto.model.graph.node import Node
from onnx_oto.ops.rules import NotCovered, given, inputs, rule

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
DEFAULT: dict[str, tuple[str, ...]] = {
    "LSTM": ("sigmoid", "tanh", "tanh"),
    "GRU": ("sigmoid", "tanh"),
    "RNN": ("tanh",),
}
ZERO_AT_ZERO = frozenset({"tanh", "relu", "leakyrelu", "thresholdedrelu", "elu", "softsign"})


@rule("LSTM", "GRU", "RNN", counts=True)
def recurrent(node: Node, trace: Trace) -> None:
    """h[t] from x[t] W + h[t-1] R + b through gates; a hidden unit is one lane, in all gates and directions."""
    layouts = inputs(node, trace) + [None] * 5
    x, w, r = (given(layout) for layout in layouts[:3])
    bias, peephole = layouts[3], layouts[7]
    shape = trace.shape(node.inputs[2])
    if not all(isinstance(n, int) for n in shape) or not (w.constant and r.constant):
        raise NotCovered("has weights of unknown size")
    if any(name not in trace.parameters for name in node.inputs[1:3]):
        raise NotCovered("has weights that are computed")
    directions, hidden, gates = int(shape[0] or 0), int(shape[2] or 0), GATES[node.op]
    if hidden == 1:
        raise NotCovered("has a single hidden unit")
    units = _unit_labels(node, trace, gates, hidden)
    if bias is not None:
        _tie_vector(node, trace, 3, units)
    if peephole is not None and node.op == "LSTM":
        _tie_vector(node, trace, 7, units, Role.CONSUMER)
    for index in (5, 6):
        start = layouts[index]
        if start is not None:
            _tie_start(node, trace, index, start, units)
    activations = [a.lower() for a in node.attrs.get("activations") or DEFAULT[node.op]]
    candidates = (
        activations
        if node.op == "RNN"
        else [a for i, a in enumerate(activations) if i % len(DEFAULT[node.op])]
    )
    if not set(candidates) <= ZERO_AT_ZERO:
        trace.freeze(units, f"{describe(node)} has activations that are not zero at zero")
    _read_input(node, trace, x, w)
    _put_outputs(node, trace, units)
    trace.count_macs(node, [*trace.shape(node.inputs[0])[:2], directions * gates], [units, units])
    trace.repair(node, lambda cut: _resize(cut, node, units))


def _unit_labels(node: Node, trace: Trace, gates: int, hidden: int) -> IntArray:
    """Return the hidden units' labels, int64 [hidden], tied in all gates of W and R and in R's inputs."""
    w, r = (trace.parameters[name] for name in node.inputs[1:3])
    rows = w[1].reshape(gates, hidden)
    units: IntArray = rows[0]
    trace.tie(units, rows)
    trace.tie(units, r[1].reshape(gates, hidden))
    trace.tie(units, r[2])
    for name in node.inputs[1:3]:
        trace.roles[name, 1] = Role.PRODUCER
        trace.weights.add(name)
    trace.roles.setdefault((node.inputs[2], 2), Role.CONSUMER)
    return units


def _tie_vector(node: Node, trace: Trace, index: int, units: IntArray, role: Role = Role.PRODUCER) -> None:
    """Tie a parameter [directions, k * hidden] (biases, peepholes)."""
    name = node.inputs[index]
    labels = trace.parameters.get(name, {}).get(1)
    if labels is None:
        layout = trace.layout(name)
        if layout is not None and layout.uniform == 0.0:
            return
        trace.freeze(units, f"{describe(node)} has a bias that is computed")
        return
    trace.tie(units, labels.reshape(-1, units.size))
    trace.roles[name, 1] = role
    trace.weights.add(name)


def _tie_start(node: Node, trace: Trace, index: int, start: Layout, units: IntArray) -> None:
    """Tie an initial state [directions, B, hidden] (input `index`): it must be zero where a unit is removed.

    A parameter is zeroed with its unit. Zeros are only cut, here alone: layers that share them stay independent.
    """
    value = trace.graph.constant(node.inputs[index])
    if value is not None and not value.any():
        trace.repair(node, lambda cut: _cut_zeros(cut, node, index, value, units))
        return
    axis = start.rank - 1
    blocks = start.on_axis(axis)
    if not blocks or len(blocks[0].keys) > 1 or blocks[0].labels.size != units.size:
        cause = trace.cause(node.inputs[index]) or "it is computed"
        trace.freeze(units, f"{describe(node)} starts from a state that stays whole: {cause}")
        return
    trace.tie(units, blocks[0].labels)
    if start.constant:
        trace.assign(blocks[0], Role.PRODUCER)
    trace.demand_zero(blocks[0], node, "the initial state")


def _cut_zeros(cut: Cut, node: Node, index: int, zeros: npt.NDArray[Any], units: IntArray) -> None:
    kept = cut.kept(units)
    if not kept.all():
        cut.set_input(node.name, index, zeros[..., kept])


def _read_input(node: Node, trace: Trace, x: Layout, w: Layout) -> None:
    """x's last axis is summed over by W's last; time and batch stay whole."""
    x = trace.release(x, range(x.rank - 1), f"{describe(node)} runs along the axis")
    w = trace.release(w, [0], f"{describe(node)} has directions there")
    contract(trace, node, [(x, "tbi"), (w, "dgi")], "tbdg")


def _put_outputs(node: Node, trace: Trace, units: IntArray) -> None:
    """Y [T, directions, B, hidden] (or [B, T, directions, hidden]), Y_h and Y_c [directions, B, hidden]."""
    for name in node.outputs:
        shaped = trace.shaped(name) if name else None
        if shaped is not None:
            trace.put(name, relabel_axis(shaped, shaped.rank - 1, units, np.zeros(units.size)))


def _resize(cut: Cut, node: Node, units: IntArray) -> None:
    kept = cut.kept(units)
    if not kept.all():
        cut.set_attribute(node.name, "hidden_size", int(kept.sum()))
