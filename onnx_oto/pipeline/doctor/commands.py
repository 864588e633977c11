"""Commands that install, for this interpreter and however this package was installed."""

from __future__ import annotations

import importlib.metadata as metadata
import importlib.util
import json
import os
import shlex
import shutil
import sys
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

NAME = "onnx-oto"


@cache
def pip() -> str:
    """Return how pip is called for this interpreter: alone where that is the one a shell finds, or by uv."""
    found, own = shutil.which("pip"), Path(sys.executable)
    if found and Path(found).parent == own.parent:
        return "pip"
    if importlib.util.find_spec("pip") is None and shutil.which("uv"):
        return f"uv pip --python {shlex.quote(sys.executable)}"
    return f"{shlex.quote(sys.executable)} -m pip"


def install(*extras: str) -> str:
    """Return the command that installs this package with extras, from where it came: an index, or a checkout."""
    chosen = f"[{','.join(extras)}]" if extras else ""
    place, editable = source()
    what = f"{place}{chosen}" if place else f"{NAME}{chosen}"
    return f"{pip()} install {'-e ' if editable else ''}{shlex.quote(what)}"


def trainable() -> str:
    """Return the command that installs what trains with this Python."""
    return install("cpu")


def environment(version: str) -> str:
    """Return the command that makes an environment of another Python, and installs what trains into it."""
    place, editable = source()
    what = f"{'-e ' if editable else ''}{shlex.quote(f'{place or NAME}[cpu]')}"
    if shutil.which("uv"):
        return f"uv venv --python {version} oto && uv pip install --python oto {what}"
    return f"python{version} -m venv oto && oto/bin/pip install {what}"


def mend(*names: str) -> str:
    """Return the command that installs packages anew, and nothing that they need."""
    return f"{pip()} install --force-reinstall --no-deps {shlex.join(names)}"


@cache
def source() -> tuple[str, bool]:
    """Return the folder this package was installed from, "" for an index, and whether it is used in place there."""
    root = Path(__file__).resolve().parents[3]
    if (root / "pyproject.toml").is_file():
        return str(root), True
    try:
        text = metadata.distribution(NAME).read_text("direct_url.json")
        place = urlsplit(json.loads(text).get("url", "") if text else "")
    except (metadata.PackageNotFoundError, OSError, ValueError):
        return "", False
    path = unquote(place.path)
    return (path, False) if place.scheme == "file" and os.path.exists(path) else ("", False)
