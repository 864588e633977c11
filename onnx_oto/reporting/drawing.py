"""The picture of a graph as SVG, by itself or inside a page, and as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onnx_oto.reporting.layout import NoLayout, Point, run_dot
from onnx_oto.reporting.picture import LINE, PADDING, Picture, Tile
from onnx_oto.reporting.rendering import render
from onnx_oto.text import shown

MARGIN = 14.0
FRAME = 9.0
"""What is left around the drawing, and around the boxes of a block, in points."""
RESOLUTION = 144
"""Dots per inch of a PNG."""


@dataclass(frozen=True)
class Shape:
    """A tile where it lies. lines: what is written in it, each with how far below the upper edge."""

    tile: Tile
    x: float
    y: float
    width: float
    height: float
    lines: tuple[tuple[float, str], ...]

    @property
    def label(self) -> str:
        """All that is said of it, as one text."""
        return told(self.tile)


@dataclass(frozen=True)
class Frame:
    """What is drawn around a block."""

    x: float
    y: float
    width: float
    height: float
    times: int


def told(tile: Tile) -> str:
    """Return what is said of a tile, in sentences: names, channels, figures, and why it is frozen."""
    names = ", ".join(tile.names[:3]) + (f" and {len(tile.names) - 3} more" if len(tile.names) > 3 else "")
    parts = [f"{tile.title}: {names}"]
    if tile.widths:
        parts.append(f"{tile.widths} channels" + (f" of {tile.dimension}" if tile.dimension else ""))
    parts += tile.facts
    parts += [f"frozen: {text}" for text in tile.frozen]
    return shown(". ".join(parts)) + "."


def svg(picture: Picture, title: str, *, alone: bool = True) -> str:
    """Return the drawing as SVG. alone: a file of its own, with its colours. Raises NoLayout.

    Sizes are in pixels of the screen; the middle of a tile lies where graphviz says.
    """
    placed = picture.placed
    if placed is None:
        raise NoLayout(picture.why)
    shapes = [_shape(tile, middle) for tile, middle in zip(picture.tiles, placed.middles, strict=True)]
    frames = []
    for block in picture.blocks:
        inside = shapes[block.begin : block.end]
        left, top = min(s.x for s in inside) - FRAME, min(s.y for s in inside) - FRAME
        right, low = max(s.x + s.width for s in inside) + FRAME, max(s.y + s.height for s in inside) + FRAME
        frames.append(Frame(left, top, right - left, low - top, block.times))
    return render(
        "graph.svg",
        title=title,
        alone=alone,
        width=placed.width + 2 * MARGIN,
        height=placed.height + 2 * MARGIN,
        shapes=shapes,
        frames=frames,
        paths=[_path(points) for points in placed.curves if points],
    )


def _shape(tile: Tile, middle: Point) -> Shape:
    width, height = tile.size
    first = PADDING * 0.7 + LINE * 0.75
    lines = tuple((first + LINE * number, shown(line)) for number, line in enumerate(tile.lines))
    return Shape(tile, middle[0] - width / 2 + MARGIN, middle[1] - height / 2 + MARGIN, width, height, lines)


def _path(points: Sequence[Point]) -> str:
    first, *rest = ((x + MARGIN, y + MARGIN) for x, y in points)
    return f"M{first[0]:.1f} {first[1]:.1f}C" + " ".join(f"{x:.1f} {y:.1f}" for x, y in rest)


def png(picture: Picture, title: str) -> bytes:
    """Return the same boxes, colours and words as PNG, drawn by graphviz. Raises NoLayout."""
    lines = [
        "digraph g {",
        f'graph [ranksep=0.28, nodesep=0.22, dpi={RESOLUTION}, bgcolor="white", label={_quoted(title)}, labelloc=t, '
        'fontname="Helvetica", fontsize=14]',
        'node [shape=box, style="filled,rounded", fontname="Helvetica", fontsize=10, fontcolor="#1b1f24"]',
        'edge [arrowsize=0.6, color="#7a828c"]',
    ]
    for number, tile in enumerate(picture.tiles):
        border, ground = (tile.colour, tile.colour + "2e") if tile.colour else ("#9aa1aa", "#eef0f2")
        dashed = ',dashed"' if tile.frozen else '"'
        label = "\\n".join(map(_escaped, tile.lines))
        lines.append(
            f'b{number} [label="{label}", style="filled,rounded{dashed}, color="{border}", fillcolor="{ground}"]'
        )
    for number, block in enumerate(picture.blocks):
        inside = "; ".join(f"b{i}" for i in range(block.begin, block.end))
        told = f'label="× {block.times}"; style="rounded,dashed"; color="#7a828c"'
        lines.append(f"subgraph cluster_{number} {{ {told}; {inside} }}")
    lines += [f"b{a} -> b{b}" for a, b in picture.edges]
    return run_dot("\n".join([*lines, "}"]), "png")


def _escaped(text: str) -> str:
    return shown(text).replace("\\", "\\\\").replace('"', '\\"')


def _quoted(text: str) -> str:
    return f'"{_escaped(text)}"'
