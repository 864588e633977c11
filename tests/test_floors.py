"""Imports go downwards only, and a few libraries stay behind their fences."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import onnx_oto

ROOT = Path(onnx_oto.__file__).parent
FLOORS = (
    ("errors", "machine", "signals", "text"),
    ("settings", "peers"),
    ("model",),
    ("runtime",),
    ("lanes",),
    ("ops", "losses"),
    ("zigs", "data"),
    ("optim", "gradients", "metrics", "refit"),
    ("training", "surgery"),
    ("pipeline",),
    ("reporting",),
    ("cli", "api"),
    ("__main__",),
)
"""From the ground up. Packages of one floor do not import each other."""
FLOOR_OF = {name: number for number, names in enumerate(FLOORS) for name in names}
ROOMS = {
    "model": ("graph", "shapes", "files", "normal", "view"),
    "gradients": ("graph", "session", "backends", "preparation"),
}
"""Packages with floors of their own, from the ground up."""
FENCES = {
    "onnxruntime": ("gradients/", "runtime/"),
    "mpi4py": ("peers/",),
    "openvino": ("runtime/",),
    "click": ("cli/",),
    "rich": ("cli/",),
    "jinja2": ("reporting/",),
    "pygraphviz": ("reporting/",),
    "onnx_graphsurgeon": ("surgery/",),
    "PIL": ("data/images/",),
    "torch": (),
    "hypothesis": (),
    "pytest": (),
}
"""Library -> where in the package it may be imported."""
NOT_IN_OPTIM = ("onnx", "onnxruntime", "onnx_graphsurgeon")


def imports(source: str) -> Iterator[tuple[int, str]]:
    """Yield (line, module) of every import in a source text, inside functions too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            if module == "onnx_oto":
                yield from ((node.lineno, f"onnx_oto.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, module


def violations(where: str, source: str) -> list[str]:
    """Return what one file (path below the package) imports though it may not, as 'file:line: what'."""
    here = where.split("/")[0].removesuffix(".py")
    found = []
    for line, module in imports(source):
        first, *rest = module.split(".")
        room = rest[1:2] if first == "onnx_oto" and rest[:1] == [here] else []
        if room and _is_upwards(here, where, room[0]):
            found.append(f"{where}:{line}: imports '{module}', which is not on a lower floor of '{here}'")
        if first == "" or (first == "onnx_oto" and not rest):
            found.append(f"{where}:{line}: write the whole name of the module instead of '{module}'")
        elif first == "onnx_oto" and rest[0] != here:
            if rest[0] in FLOOR_OF and here in FLOOR_OF and FLOOR_OF[rest[0]] >= FLOOR_OF[here]:
                found.append(f"{where}:{line}: '{here}' imports '{module}', which is not on a lower floor")
            elif rest[0] not in FLOOR_OF and rest[0] != "__version__":
                found.append(f"{where}:{line}: '{module}' stands on no floor: add it to FLOORS")
        elif first in FENCES and not where.startswith(FENCES[first]):
            found.append(
                f"{where}:{line}: '{first}' may be imported in {', '.join(FENCES[first]) or 'no file'} only"
            )
        elif here == "optim" and first in NOT_IN_OPTIM:
            found.append(f"{where}:{line}: optim works on arrays alone, it does not import '{first}'")
    return found


def _is_upwards(package: str, where: str, room: str) -> bool:
    """Return whether `room` lies above the file `where` in a package with floors of its own."""
    floors = ROOMS.get(package, ())
    own = where.split("/")[1].removesuffix(".py")
    return own in floors and room in floors and floors.index(room) > floors.index(own)


def test_imports_go_downwards_and_fences_hold() -> None:
    found = [
        line
        for path in sorted(ROOT.rglob("*.py"))
        if path.parent != ROOT or path.stem in FLOOR_OF
        for line in violations(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n" + "\n".join(found)


def test_every_package_stands_on_a_floor() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages <= set(FLOOR_OF), f"add {sorted(packages - set(FLOOR_OF))} to FLOORS"


@pytest.mark.parametrize(
    ("where", "source", "expected"),
    [
        (
            "model/view.py",
            "from onnx_oto.zigs import analyse",
            "view.py:1: 'model' imports 'onnx_oto.zigs'",
        ),
        (
            "ops/pool.py",
            "import numpy\nfrom onnx_oto import zigs",
            "pool.py:2: 'ops' imports 'onnx_oto.zigs'",
        ),
        ("zigs/groups.py", "def f():\n    from onnx_oto.data import npz", "groups.py:2: 'zigs' imports"),
        ("surgery/knife.py", "import onnx_oto.training.loop", "knife.py:1: 'surgery' imports"),
        ("model/shapes/walk.py", "from onnx_oto.model.files import check", "not on a lower floor of 'model'"),
        ("lanes/trace.py", "from .solve import components", "write the whole name"),
        ("model/files/loading.py", "from onnx_oto.helpers import f", "stands on no floor"),
        ("optim/base.py", "import onnx.helper", "optim works on arrays alone"),
        ("zigs/groups.py", "import onnxruntime.capi", "'onnxruntime' may be imported in gradients/"),
        ("pipeline/train.py", "import click", "'click' may be imported in cli/ only"),
        (
            "model/view.py",
            "import onnx_graphsurgeon as gs",
            "'onnx_graphsurgeon' may be imported in surgery/ only",
        ),
        ("gradients/backends/ort_training.py", "import torch", "'torch' may be imported in no file only"),
    ],
)
def test_a_violation_names_file_and_line(where: str, source: str, expected: str) -> None:
    found = violations(where, source)
    assert len(found) == 1
    assert expected in found[0]


@pytest.mark.parametrize(
    ("where", "source"),
    [
        (
            "zigs/groups.py",
            "import onnx\nfrom onnx_oto.lanes.trace import Role\nfrom onnx_oto.lanes.solution import Lanes",
        ),
        ("runtime/sessions.py", "import onnxruntime"),
        (
            "cli/commands.py",
            "import click\nfrom onnx_oto import __version__\nfrom onnx_oto.errors import OtoError",
        ),
        ("pipeline/train.py", "from onnx_oto.surgery import compact"),
    ],
)
def test_what_is_allowed_passes(where: str, source: str) -> None:
    assert violations(where, source) == []
