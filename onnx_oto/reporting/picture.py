"""The graph of a model as boxes: what each is called, its colour, what is said of it, and where it lies."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnx_oto.lanes.layout import IntArray
from onnx_oto.model import Node
from onnx_oto.reporting.folding import MOST_BOXES, Block, Box, Edge, fold, operators
from onnx_oto.reporting.layers import Layer, Looked
from onnx_oto.reporting.layout import SECONDS, NoLayout, Placed, place
from onnx_oto.zigs import Analysis, reason

GLYPH, LINE, PADDING = 6.7, 15.0, 10.0
"""Width of a letter, height of a line, and what is left around text, in points."""
LEAST_WIDTH, MOST_LETTERS = 84.0, 34
TURN = 137.508
"""Degrees between the hues of dimensions that follow each other: far apart, and never the same."""


@dataclass(frozen=True)
class Tile:
    """A box of the drawing.

    title: its operator; small: what it is joined by; widths: its channels. colour: of its dimension, None where it has
    none. names: of its nodes. facts: what else is said of it. frozen: why its channels stay.
    """

    title: str
    small: str
    widths: str
    times: int
    colour: str | None
    dimension: str | None
    names: tuple[str, ...]
    facts: tuple[str, ...]
    frozen: tuple[str, ...]

    @property
    def lines(self) -> list[str]:
        """What is written in it."""
        return [
            line for line in (self.title, self.small, self.widths, "frozen" if self.frozen else "") if line
        ]

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in points."""
        longest = max(map(len, self.lines))
        return max(LEAST_WIDTH, longest * GLYPH + 2 * PADDING), len(self.lines) * LINE + 1.4 * PADDING


@dataclass(frozen=True)
class Picture:
    """A graph, drawn. placed: where everything lies, None where it could not be said, because of `why`.

    nodes: of the graph, more than there are tiles.
    """

    tiles: tuple[Tile, ...]
    edges: tuple[Edge, ...]
    blocks: tuple[Block, ...]
    placed: Placed | None
    why: str
    nodes: int

    def reads(self) -> list[list[int]]:
        """Return, for every tile, the numbers (from 1) of those that feed it."""
        found: list[list[int]] = [[] for _ in self.tiles]
        for a, b in self.edges:
            found[b].append(a + 1)
        return found


def colours(analysis: Analysis) -> dict[str, str]:
    """Return a colour for every prunable dimension, by its name, in the order of the graph."""
    return {each.name: _hex(0.62, 0.14, 30 + TURN * i) for i, each in enumerate(analysis.prunable)}


def _hex(lightness: float, chroma: float, hue: float) -> str:
    """Return a colour of OKLCH, hue in degrees, as #rrggbb: equally light whatever the hue (Ottosson, 2020).

    >>> _hex(1.0, 0.0, 0.0), _hex(0.62, 0.14, 30)
    ('#ffffff', '#cd6151')
    """
    a, b = (chroma * f(math.radians(hue)) for f in (math.cos, math.sin))
    cones = (
        lightness + 0.3963377774 * a + 0.2158037573 * b,
        lightness - 0.1055613458 * a - 0.0638541728 * b,
        lightness - 0.0894841775 * a - 1.2914855480 * b,
    )
    long, medium, short = (each**3 for each in cones)
    linear = (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )
    return "#" + "".join(f"{round(255 * _gamma(min(max(each, 0.0), 1.0))):02x}" for each in linear)


def _gamma(value: float) -> float:
    return 12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055


def draw(
    looked: Looked, layers: Sequence[Layer], *, most: int = MOST_BOXES, seconds: float = SECONDS
) -> Picture:
    """Return the graph of the full model as a picture. layers: what is known of its nodes."""
    analysis = looked.full
    known = {layer.name: layer for layer in layers}
    multiply = {layer.name for layer in layers if layer.macs.before}
    folded = fold(analysis.graph, lambda node: node.name in multiply, most)
    of_lane = np.full(analysis.lanes.count, -1, np.int64)
    for number, dimension in enumerate(analysis.dimensions):
        of_lane[dimension.lanes] = number
    palette = colours(analysis)
    tiles = tuple(_tile(analysis, box, known, of_lane, palette) for box in folded.boxes)
    placed, why = None, ""
    try:
        placed = place([tile.size for tile in tiles], folded.edges, folded.blocks, seconds)
    except NoLayout as trouble:
        why = str(trouble)
    return Picture(tiles, folded.edges, folded.blocks, placed, why, len(analysis.graph.nodes))


def _tile(
    analysis: Analysis, box: Box, known: Mapping[str, Layer], of_lane: IntArray, palette: Mapping[str, str]
) -> Tile:
    rows = [known[node.name] for node in box.nodes if node.name in known]
    every = [known[node.name] for node in box.every if node.name in known]
    number = _dimension_of(analysis, box.nodes[-1], of_lane)
    dimension = None if number is None else analysis.dimensions[number]
    main = max(
        rows, key=lambda row: (row.macs.before or 0, row.params.before or 0), default=None
    )  # what it is about
    title = main.op if main is not None else box.nodes[0].op
    others = operators([node for node in box.nodes if main is None or node.name != main.name])
    if main is None:
        others = {op: count for op, count in others.items() if op != title or count > 1}
    frozen = list(dict.fromkeys(text for row in rows for text in row.frozen))
    if dimension is not None and not dimension.prunable and not frozen:
        frozen = [reason(analysis, dimension)]
    return Tile(
        _cut(title),
        _cut(", ".join(op if count == 1 else f"{op} ×{count}" for op, count in others.items())),
        _widths(every if box.times > 1 else rows, main),
        box.times,
        None if dimension is None else palette.get(dimension.name),
        None if dimension is None else dimension.name,
        tuple(node.name for node in box.every),
        tuple(_facts(box, every)),
        tuple(frozen),
    )


def _dimension_of(analysis: Analysis, node: Node, of_lane: IntArray) -> int | None:
    """Return the number of the dimension that most labelled positions of a node's first result belong to."""
    layout = analysis.trace.layouts.get(node.outputs[0]) if node.outputs else None
    if layout is None or not layout.blocks:
        return None
    numbers = np.concatenate(
        [of_lane[analysis.lanes.of_label[block.labels.reshape(-1)]] for block in layout.blocks]
    )
    numbers = numbers[numbers >= 0]
    return int(np.bincount(numbers).argmax()) if numbers.size else None


def _widths(rows: Sequence[Layer], main: Layer | None) -> str:
    """Return the channels of a box, before and after; from the least to the most of those that it stands for."""
    if main is None or main.channels.before is None:
        return ""
    own = [row.channels for row in rows if row.op == main.op and row.channels.before is not None]
    before = _span([each.before for each in own if each.before is not None])
    after = [each.after for each in own if each.after is not None]
    return f"{before} → {_span(after)}" if after and _span(after) != before else before


def _span(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


def _facts(box: Box, rows: Sequence[Layer]) -> list[str]:
    """Return what else is said of a box, in sentences without a full stop."""
    found = []
    if box.times > 1:
        found.append(f"stands {box.times} times in the graph, told once")
    for what, figures in (("parameters", [r.params for r in rows]), ("MACs", [r.macs for r in rows])):
        before = sum(each.before or 0 for each in figures)
        after = sum(each.after or 0 for each in figures)
        known = any(each.after is not None for each in figures)
        if before:
            found.append(
                f"{before:,} → {after:,} {what}" if known and after != before else f"{before:,} {what}"
            )
    if len(box.every) > 1:
        found.append(f"{len(box.every)} nodes")
    return found


def _cut(text: str) -> str:
    return text if len(text) <= MOST_LETTERS else text[: MOST_LETTERS - 1] + "…"
