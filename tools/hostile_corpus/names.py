"""Names that a terminal, a markup or a line would take for something else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, helper

from hostile_corpus.case import ANY, INSPECT, INVALID, OK, PRUNE, TRAIN, Build, Case, Trial, outputs, pair
from hostile_corpus.placing import open_value
from hostile_corpus.structure import Edit, edited

NAMES = {
    "escape": "\x1b[31m\x1b[2J",
    "title": "\x1b]0;hostile\x07",
    "link": "\x1b]8;;file:///etc/passwd\x1b\\click\x1b]8;;\x1b\\",
    "csi-8bit": "\x9b31m",
    "nul": "a\0b",
    "return": "fine\rerror: hostile",
    "newline": "fine\nerror: hostile\n",
    "tab-and-bell": "\t\a\b\b",
    "line-separator": "a\u2028error: hostile\u2029\x85b",
    "markup": "[red]hostile[/red]",
    "markup-closing": "[/]",
    "markup-link": "[link=file:///etc/passwd]",
    "right-to-left": "\u202ehostile\u202c\u2066x\u2069",
    "invisible": "\u200b\ufeff\ufffe",
    "megabyte": "N" * 10**6,
    "megabyte-escape": "\x1b[31m" * 200_000,
    "format": "%s %n {0} {x!r} $HOME `id`",
    "path": "../../../etc/passwd",
    "wildcards": "[!*?]",
    "empty-looking": " ",
}
PLAIN = "plain"


def cases() -> Iterator[Case]:
    """Yield every name in valid models, in refused ones, and where training reports."""
    for name, text in NAMES.items():
        yield pair("names", f"{name}-everywhere", edited(_everywhere(text)), PRUNED, PRUNE, ANY)
        yield pair("names", f"{name}-inspected", edited(_everywhere(text)), INSPECTED, INSPECT, ANY)
        yield pair("names", f"{name}-refused", edited(_refused(text)), ACCEPTED, PRUNE, INVALID)
        yield pair("names", f"{name}-unknown-operator", edited(_unknown(text)), KNOWN, PRUNE, INVALID)
        yield pair("names", f"{name}-frozen", edited(_frozen(text)), FROZEN, INSPECT, ANY)
    for name in ("escape", "nul", "newline", "markup-closing", "megabyte-escape"):
        yield pair("names", f"{name}-trained", _with_data(NAMES[name]), TRAINED, TRAIN, ANY)


def _with_data(text: str) -> Build:
    """Return a builder: the model with a text in every name, and data for it."""

    def build(folder: Path) -> None:
        edited(_everywhere(text))(folder)
        rng = np.random.default_rng(0)
        arrays: dict[str, Any] = {}
        for split, count in (("train", 64), ("test", 32)):
            arrays[f"x_{split}"] = rng.standard_normal((count, 4)).astype(np.float32)
            arrays[f"y_{split}"] = np.arange(count) % 16
        np.savez(folder / "d.npz", **arrays)

    return build


def _everywhere(text: str) -> Edit:
    """Return an edit that puts a text into every name of the model."""

    def edit(model: ModelProto) -> None:
        def renamed(name: str) -> str:
            return f"{text}{name}"

        for node in model.graph.node:
            node.name = renamed(node.op_type)
            node.doc_string = text
            node.input[:] = [renamed(name) for name in node.input]
            node.output[:] = [renamed(name) for name in node.output]
        for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
            value.name = renamed(value.name)
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = text
        model.graph.output[0].type.tensor_type.shape.dim[0].dim_param = text
        model.graph.name = model.producer_name = model.domain = model.doc_string = text
        entry = model.metadata_props.add()
        entry.key = entry.value = text

    return edit


def _refused(text: str) -> Edit:
    """Return an edit that adds a node of this name; unless the name is plain, its axis is wrong."""

    def edit(model: ModelProto) -> None:
        axis = 1 if text == PLAIN else 99
        model.graph.node.append(helper.make_node("Softmax", ["d"], [f"{text}z"], name=text, axis=axis))
        model.graph.output.append(open_value(f"{text}z"))

    return edit


def _unknown(text: str) -> Edit:
    """Return an edit that adds a node of an operator of this name, in the standard domain; of Neg for a plain one."""

    def edit(model: ModelProto) -> None:
        model.graph.node.append(helper.make_node("Neg" if text == PLAIN else text, ["d"], ["z"]))
        model.graph.output.append(open_value("z"))

    return edit


def _frozen(text: str) -> Edit:
    """Return an edit that adds an operator of a domain that nobody knows: channels freeze with a reason."""

    def edit(model: ModelProto) -> None:
        model.opset_import.append(helper.make_opsetid(text, 1))
        model.graph.node.append(helper.make_node(text, ["a"], [f"{text}z"], name=text, domain=text))
        model.graph.output.append(open_value(f"{text}z"))

    return edit


PRUNED = Trial(edited(_everywhere(PLAIN)), PRUNE, OK, outputs(PRUNE))
TRAINED = Trial(_with_data(PLAIN), TRAIN, OK, outputs(TRAIN))
INSPECTED = Trial(edited(_everywhere(PLAIN)), INSPECT)
ACCEPTED = Trial(edited(_refused(PLAIN)), PRUNE, OK, outputs(PRUNE))
KNOWN = Trial(edited(_unknown(PLAIN)), PRUNE, OK, outputs(PRUNE))
FROZEN = Trial(edited(_frozen(PLAIN)), INSPECT)
