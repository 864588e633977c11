"""Settings that no node can have (a group of 0, a stride of -1), refused before anything computes with them.

onnx's checker compares types only. Its inference, and whatever reads a model after it, divides by such numbers, runs
past the end of something, or never ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

from onnx import AttributeProto, FunctionProto, ModelProto, NodeProto

from onnx_oto.errors import ModelError
from onnx_oto.model.files.equation import equation_fault
from onnx_oto.model.graph.order import label, nodes_inside

_DOMAINS = frozenset({"", "ai.onnx", "com.microsoft"})
MOST_AXES = 2**15
"""No tensor has as many axes."""
MOST_COUNT = 2**31 - 1
"""The largest number that kernels of runtimes count such things with."""

_COUNTS = (
    *("blocksize", "chunk_size", "dilations", "group", "hidden_size", "kernel_shape", "kv_num_heads"),
    *(
        "num_groups",
        "num_heads",
        "num_outputs",
        "offset_group",
        "output_height",
        "output_width",
        "pooled_shape",
    ),
    *("q_num_heads", "qkv_hidden_sizes", "size", "strides", "targets"),
)
_SIZES = (
    "batch_dims",
    "block_size",
    "num_scan_inputs",
    "output_padding",
    "output_shape",
    "sampling_ratio",
    "split",
)
_PLACES = ("axes", "axis", "batch_axis", "scan_input_axes", "scan_output_axes", "time_axis")
_RANGES: Mapping[str, tuple[int, int]] = {
    **dict.fromkeys(_COUNTS, (1, MOST_COUNT)),
    **dict.fromkeys(_SIZES, (0, MOST_COUNT)),
    **dict.fromkeys(_PLACES, (-MOST_AXES, MOST_AXES)),
    "pads": (-MOST_COUNT, MOST_COUNT),
    "perm": (0, MOST_AXES),
}
"""The least and the largest number that attributes may have or hold, by name."""
_OPTIONAL = {("RotaryEmbedding", "num_heads"), ("MatMulNBits", "block_size")}
"""Where 0 says that nothing is said."""

Caller: TypeAlias = tuple[str, str, str]
Given: TypeAlias = Mapping[tuple[Caller, str], list[AttributeProto]]


def check_settings(model: ModelProto) -> None:
    """Raise ModelError for the first node, in bodies and functions too, with a setting that it cannot have."""
    given = _given_to_functions(model)
    for node in nodes_inside(model.graph.node):
        _check(node, node.attribute)
    for function in model.functions:
        for node in nodes_inside(function.node):
            for attr in node.attribute:
                _check(node, _resolved(attr, function, given))


def _check(node: NodeProto, attributes: Iterable[AttributeProto]) -> None:
    if node.domain not in _DOMAINS:
        return
    for attr in attributes:
        fault = _fault(node, attr)
        if fault:
            raise ModelError(f"node {label(node)!r} cannot work: {fault}")


def _fault(node: NodeProto, attr: AttributeProto) -> str | None:
    """Return what is wrong with one attribute, None where nothing is."""
    if attr.type == AttributeProto.STRING and attr.name == "equation" and node.op_type == "Einsum":
        text = attr.s.decode("utf-8", "replace")
        fault = equation_fault(text, len(node.input))
        return fault and f"its equation is {text[:60]!r}, and {fault}"
    if attr.type not in (AttributeProto.INT, AttributeProto.INTS) or attr.name not in _RANGES:
        return None
    least, most = _RANGES[attr.name]
    least = 0 if (node.op_type, attr.name) in _OPTIONAL else least
    most = min(most, len(node.input)) if attr.name == "num_scan_inputs" else most
    numbers = [attr.i] if attr.type == AttributeProto.INT else attr.ints
    wrong = next((number for number in numbers if not least <= number <= most), None)
    if wrong is not None:
        return f"its {attr.name!r} is {wrong}, where {least} to {most} are possible"
    if attr.name == "perm" and len(set(numbers)) < len(numbers):
        return f"its 'perm' {list(numbers[:8])} names an axis twice"
    return None


# --- functions ------------------------------------------------------------------------------------------------
def _resolved(attr: AttributeProto, function: FunctionProto, given: Given) -> Iterator[AttributeProto]:
    """Yield an attribute of a function's node; one that refers to an attribute of the function as all that is given."""
    if not attr.ref_attr_name:
        yield attr
        return
    defaults = [a for a in function.attribute_proto if a.name == attr.ref_attr_name]
    for value in [*defaults, *given.get((_key(function), attr.ref_attr_name), [])]:
        result = AttributeProto()
        result.CopyFrom(value)
        result.name = attr.name
        yield result


def _given_to_functions(model: ModelProto) -> Given:
    """Return every attribute value that some call gives to a function, by function and name, each once."""
    if not model.functions:
        return {}
    found: dict[tuple[Caller, str], dict[bytes, AttributeProto]] = {}
    passed: list[tuple[tuple[Caller, str], tuple[Caller, str]]] = []
    keys = {_key(function) for function in model.functions}
    for caller, nodes in [(None, model.graph.node), *((_key(f), f.node) for f in model.functions)]:
        for node in nodes_inside(nodes):
            called = node.domain, node.op_type, node.overload
            for attr in node.attribute if called in keys else ():
                if attr.ref_attr_name and caller is not None:
                    passed.append(((caller, attr.ref_attr_name), (called, attr.name)))
                else:
                    found.setdefault((called, attr.name), {})[attr.SerializeToString()] = attr
    for function in model.functions:
        for attr in function.attribute_proto:
            found.setdefault((_key(function), attr.name), {})[attr.SerializeToString()] = attr
    changed = True
    while changed:
        changed = False
        for source, target in passed:
            known = found.setdefault(target, {})
            before = len(known)
            known.update(found.get(source, {}))
            changed = changed or len(known) > before
    return {place: list(values.values()) for place, values in found.items()}


def _key(function: FunctionProto) -> Caller:
    return function.domain, function.name, function.overload
