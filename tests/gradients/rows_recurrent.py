"""Rows of the recurrent layers: T = 3 steps, N = 2 samples, I = 2 inputs, H = 3 hidden units."""

from __future__ import annotations

from typing import Any

import numpy as np

from .harness import Row

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
STATES = {"LSTM": ("y", "h", "c"), "GRU": ("y", "h"), "RNN": ("y", "h")}
T, N, I, H = 3, 2, 2, 3  # noqa: E741 (I inputs)
LENGTHS = {"n": np.array([2, 3], np.int32)}


def layer(
    op: str,
    label: str,
    *,
    directions: int = 1,
    given: str = "abhc",
    outputs: tuple[str, ...] | None = None,
    constants: dict[str, np.ndarray] | None = None,
    steps: int = T,
    **attributes: Any,
) -> Row:
    """Return a row; `given`: which inputs it has, b bias, h and c initial states, p peepholes."""
    gates, batch_first = GATES[op], attributes.get("layout", 0)
    state = (N, directions, H) if batch_first else (directions, N, H)
    shapes = {
        "a": (N, steps, I) if batch_first else (steps, N, I),
        "w": (directions, gates * H, I),
        "r": (directions, gates * H, H),
        "b": (directions, 2 * gates * H),
        "h0": state,
        "c0": state,
        "p": (directions, 3 * H),
    }
    has = {"a": True, "w": True, "r": True, "b": "b" in given, "h0": "h" in given}
    if op == "LSTM":
        has |= {"c0": "c" in given, "p": "p" in given}
    names = [name if has[name] else "" for name in has]
    names.insert(4, "n" if constants else "")
    states = STATES[op]
    written = ", ".join(f"{name}={_text(value)}" for name, value in {"hidden_size": H, **attributes}.items())
    results = ", ".join(name if outputs is None or name in outputs else "" for name in states).rstrip(", ")
    return Row(
        op,
        f"{results} = {op}<{written}>({', '.join(names).rstrip(', ')})",
        {name: shapes[name] for name in has if has[name]},
        constants or {},
        outputs or states,
        opset=14,
        label=label,
    )


def _text(value: object) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_text, value))}]"
    return str(value)


BATCH_FIRST = [
    layer("LSTM", "batch first", layout=1, directions=2, direction="bidirectional"),
    layer("GRU", "batch first", layout=1),
    layer("RNN", "batch first", layout=1, constants=LENGTHS),
]  # which ONNX Runtime has no kernel for

BOTH: dict[str, Any] = {"directions": 2, "direction": "bidirectional"}

RECURRENT = [
    layer("LSTM", "forward"),
    layer("LSTM", "reverse", direction="reverse"),
    layer("LSTM", "long", steps=6, **BOTH),
    layer("LSTM", "bidirectional", **BOTH),
    layer("LSTM", "without bias and states", given=""),
    layer("LSTM", "all outputs but the cell", outputs=("y", "h"), **BOTH),
    layer("LSTM", "last state alone", outputs=("h",)),
    layer("LSTM", "cell alone", outputs=("c",), **BOTH),
    layer("LSTM", "peepholes", given="bhcp", **BOTH),
    layer("LSTM", "input_forget", given="bhcp", input_forget=1),
    layer("LSTM", "clip", clip=0.4),
    layer("LSTM", "clip, peepholes", clip=0.4, given="bhcp"),
    layer("LSTM", "lengths", constants=LENGTHS, **BOTH),
    layer("LSTM", "reverse, lengths", constants=LENGTHS, direction="reverse"),
    layer("LSTM", "full lengths", constants={"n": np.array([T, T], np.int32)}),
    layer(
        "LSTM",
        "activations",
        activations=["HardSigmoid", "ScaledTanh", "LeakyRelu"],
        activation_alpha=[0.3, 1.2, 0.1],
        activation_beta=[0.4, 0.7],
    ),
    layer(
        "LSTM",
        "activations by direction",
        activations=["Sigmoid", "Tanh", "Tanh", "Sigmoid", "Softsign", "Affine"],
        activation_alpha=[0.9],
        activation_beta=[0.1],
        **BOTH,
    ),
    layer("GRU", "forward"),
    layer("GRU", "reverse", direction="reverse", linear_before_reset=1),
    layer("GRU", "bidirectional", **BOTH),
    layer("GRU", "linear_before_reset", linear_before_reset=1, **BOTH),
    layer("GRU", "linear_before_reset, without bias", given="", linear_before_reset=1),
    layer("GRU", "last state alone", outputs=("h",)),
    layer("GRU", "lengths", constants=LENGTHS, **BOTH),
    layer("GRU", "clip", clip=0.4, linear_before_reset=1),
    layer("GRU", "long", steps=5),
    layer("RNN", "forward"),
    layer("RNN", "long", steps=6, direction="reverse"),
    layer("RNN", "bidirectional, lengths", constants=LENGTHS, **BOTH),
    layer("RNN", "relu", activations=["Relu"], given=""),
    layer("RNN", "elu", activations=["Elu"], activation_alpha=[0.7]),
    layer("RNN", "softplus", activations=["Softplus"]),
    layer("RNN", "thresholded", activations=["ThresholdedRelu"], activation_alpha=[0.3]),
    layer("RNN", "clip", clip=0.4, direction="reverse"),
]
