"""Where the boxes of a drawing lie: by graphviz, in a process of its own that gets so much time and no more."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from onnx_oto.reporting.folding import Block, Edge

SECONDS = 10.0
"""What a layout may take."""
WITHOUT = "graphviz is not installed: `pip install 'onnx-oto[report]'`, or the `dot` of your system, draws the graph"
Point = tuple[float, float]


@dataclass(frozen=True)
class Placed:
    """Middles of boxes, and the edges as points of Bezier curves, in points from the upper left corner."""

    width: float
    height: float
    middles: tuple[Point, ...]
    curves: tuple[tuple[Point, ...], ...]


class NoLayout(Exception):
    """Why there is no drawing, in a sentence."""


def run_dot(source: str, kind: str, seconds: float = SECONDS) -> bytes:
    """Return a graph laid out by graphviz in a format of its own. Raises NoLayout."""
    if importlib.util.find_spec("pygraphviz") is not None:
        command = [sys.executable, "-m", "onnx_oto.reporting.dot_child", kind]
    elif (binary := shutil.which("dot")) is not None:
        command = [binary, f"-T{kind}"]
    else:
        raise NoLayout(WITHOUT)
    try:
        done = subprocess.run(
            command,
            input=source.encode(),
            capture_output=True,
            timeout=seconds,
            check=False,
            env=_environment(),
        )
    except subprocess.TimeoutExpired:
        raise NoLayout(f"graphviz takes more than {seconds:g} s for this graph") from None
    except OSError as error:
        raise NoLayout(f"graphviz does not start: {error.strerror or error}") from None
    if done.returncode or not done.stdout:
        last = (done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no reason given"])[-1]
        raise NoLayout(f"graphviz failed: {last}")
    return done.stdout


def _environment() -> dict[str, str]:
    """Return the environment, with the places where this process finds its modules."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def place(
    sizes: Sequence[Point], edges: Sequence[Edge], blocks: Sequence[Block] = (), seconds: float = SECONDS
) -> Placed:
    """Return where boxes of these sizes (points) lie. blocks: boxes that stay together. Raises NoLayout."""
    lines = [
        "digraph g {",
        "graph [ranksep=0.28, nodesep=0.22]",
        'node [shape=box, fixedsize=true, label=""]',
        "edge [arrowsize=0.6]",
        *(f"b{i} [width={w / 72:.4f}, height={h / 72:.4f}]" for i, (w, h) in enumerate(sizes)),
        *(f"b{a} -> b{b}" for a, b in edges),
        *_clusters(blocks),
        "}",
    ]
    return _read(run_dot("\n".join(lines), "plain", seconds).decode(), len(sizes), edges)


def _clusters(blocks: Sequence[Block]) -> list[str]:
    """Return subgraphs, nested as the blocks are, which come in order."""
    lines: list[str] = []
    open_until: list[int] = []
    for number, block in enumerate(blocks):
        while open_until and open_until[-1] <= block.begin:
            lines.append("}")
            open_until.pop()
        inside = "; ".join(f"b{i}" for i in range(block.begin, block.end))
        lines.append(f"subgraph cluster_{number} {{ margin=10; {inside};")
        open_until.append(block.end)
    return [*lines, *("}" for _ in open_until)]


def _read(text: str, count: int, edges: Sequence[Edge]) -> Placed:
    """Return what graphviz's plain format says. Raises NoLayout."""
    middles: dict[int, Point] = {}
    curves: dict[Edge, tuple[Point, ...]] = {}
    width = height = 0.0
    for line in text.replace("\\\n", "").splitlines():
        kind, *rest = shlex.split(line)
        if kind == "graph":
            width, height = (float(each) * 72 for each in rest[1:3])
        elif kind == "node":
            middles[int(rest[0][1:])] = (float(rest[1]) * 72, height - float(rest[2]) * 72)
        elif kind == "edge":
            numbers = [float(each) * 72 for each in rest[3 : 3 + 2 * int(rest[2])]]
            points = zip(numbers[::2], numbers[1::2], strict=True)
            curves[int(rest[0][1:]), int(rest[1][1:])] = tuple((x, height - y) for x, y in points)
    if len(middles) != count:
        raise NoLayout("graphviz left boxes out")
    return Placed(
        width, height, tuple(middles[i] for i in range(count)), tuple(curves.get(each, ()) for each in edges)
    )
