"""Packages, imported in a process of its own: a broken one may bring that down, or print what it likes."""

from __future__ import annotations

import contextlib
import importlib.metadata as metadata
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from onnx_oto.pipeline.doctor.commands import NAME, install, pip
from onnx_oto.pipeline.doctor.finding import Finding, State, told

_SECONDS = 120.0
_TRY = """
import importlib, json, os, sys
sys.path[:], names = json.loads(sys.argv[1])
out = os.fdopen(os.dup(1), "w"); null = os.open(os.devnull, os.O_RDWR); os.dup2(null, 1); os.dup2(null, 2)
for name in names:
    print(json.dumps([name, "begun", ""]), file=out, flush=True)
    try:
        module = importlib.import_module(name)
        said = ["loads", str(getattr(module, "__version__", ""))]
    except ModuleNotFoundError as error:
        said = ["missing" if error.name == name.partition(".")[0] else "broken", str(error)]
    except BaseException as error:
        said = ["broken", f"{type(error).__name__}: {error}"]
    print(json.dumps([name, *said]), file=out, flush=True)
"""


class Tried(NamedTuple):
    """What became of an import: "loads", "missing" or "broken"; the version, or what was said."""

    state: str
    text: str


class Needed(NamedTuple):
    """A package: the name it is imported by, that of its distribution, the extra that brings it, what it is for."""

    module: str
    name: str
    extra: str = ""
    purpose: str = ""


BASE = (
    Needed("numpy", "numpy"),
    Needed("onnx", "onnx"),
    Needed("onnx_graphsurgeon", "onnx-graphsurgeon"),
    Needed("psutil", "psutil"),
    Needed("rich", "rich"),
    Needed("jinja2", "jinja2"),
    Needed("tomli_w", "tomli-w"),
    *((Needed("tomli", "tomli"),) if sys.version_info < (3, 11) else ()),
)
"""What every command needs. Without click there is no command to look."""
EXTRAS = (
    Needed("numba", "numba", "cpu", "faster steps, and the statistics of a whole batch over all cores"),
    Needed("PIL", "pillow", "images", "folders of images"),
    Needed("pyarrow", "pyarrow", "tables", "Parquet, Arrow and CSV tables"),
    Needed("scipy", "scipy", "mat", "MATLAB files (SVHN)"),
    Needed("tokenizers", "tokenizers", "tokens", "lines of text"),
    Needed("mpi4py", "mpi4py", "mpi", "training on several machines"),
    Needed("pygraphviz", "pygraphviz", "report", "the graph in reports, where no `dot` is installed"),
)
"""What only some need."""


def tried(modules: Sequence[str]) -> dict[str, Tried]:
    """Return what becomes of importing each module, from where this process would; one that kills it is broken."""
    left, found = list(modules), dict[str, Tried]()
    while left:
        asked = json.dumps([[each for each in sys.path if isinstance(each, str)], left])
        command = [sys.executable, "-c", _TRY, asked]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=_SECONDS,
                check=False,
                stdin=subprocess.DEVNULL,
            )
            code, output = done.returncode, done.stdout
        except subprocess.TimeoutExpired as error:
            code, output = None, (error.stdout or b"").decode(errors="replace")
        except OSError as error:
            return found | dict.fromkeys(left, Tried("broken", f"Python does not start: {told(error)}"))
        begun = ""
        for name, state, text in _lines(output):
            begun = name
            if state != "begun":
                found[name] = Tried(state, text)
        if begun and begun not in found:
            died = (
                f"takes longer than {_SECONDS:.0f} s" if code is None else f"ends the process (code {code})"
            )
            found[begun] = Tried("broken", f"importing it {died}")
        elif not begun:
            return found | dict.fromkeys(left, Tried("broken", f"Python ends with code {code}"))
        left = [name for name in left if name not in found]
    return found


def _lines(output: str) -> Iterator[tuple[str, str, str]]:
    for line in output.splitlines():
        with contextlib.suppress(ValueError):
            name, state, text = json.loads(line)
            yield name, state, text


def base(found: dict[str, Tried]) -> Iterator[Finding]:
    """Yield what is wrong with the packages that everything needs, one line if nothing is."""
    least, sound = _least(), True
    missing = [each.name for each in BASE if found[each.module].state == "missing"]
    if missing:
        sound = False
        what = "is" if len(missing) == 1 else "are"
        yield Finding("packages", "broken", f"{', '.join(missing)} {what} not installed", install())
    for each in BASE:
        state, text = found[each.module]
        wanted, version = least.get(each.name, ""), version_of(each.name)
        is_old = state == "loads" and bool(wanted and version) and _parts(version) < _parts(wanted)
        if state == "broken" or is_old:
            sound = False
            said = (
                f"is {version}, and {wanted} or newer is needed"
                if is_old
                else f"does not load ({told(text)})"
            )
            remedy = (
                f"{pip()} install --upgrade --force-reinstall '{each.name}{f'>={wanted}' if wanted else ''}'"
            )
            yield Finding("packages", "broken", f"{each.name} {said}", remedy)
    if sound:
        yield Finding("packages", "ok", ", ".join(f"{each.name} {version_of(each.name)}" for each in BASE))


def extras(found: dict[str, Tried]) -> Iterator[Finding]:
    """Yield what of the packages that only some need is there, and what is not."""
    for each in EXTRAS:
        state, text = found[each.module]
        if state == "loads":
            yield Finding("extra", "ok", f"{each.name} {version_of(each.name)}: {each.purpose}")
        elif state == "missing":
            kind: State = "warning" if each.extra == "cpu" else "note"
            yield Finding(
                "extra", kind, f"{each.name} is not installed: needed for {each.purpose}", _command(each)
            )
        else:
            remedy = f"{_command(each)} --force-reinstall {each.name}"
            yield Finding(
                "extra", "warning", f"{each.name} does not load ({told(text)}): for {each.purpose}", remedy
            )


def _command(each: Needed) -> str:
    """Return what installs a package; the extra of a runtime would bring that too, so its companion comes alone."""
    return f"{pip()} install {each.name}" if each.extra == "cpu" else install(each.extra)


def version_of(name: str) -> str:
    """Return the version of a distribution, "" where nothing tells."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _least() -> dict[str, str]:
    """Return the oldest versions that are enough, by distribution, as far as our own metadata say."""
    try:
        wanted = metadata.requires(NAME) or []
    except metadata.PackageNotFoundError:
        return {}
    pairs = (
        re.match(r"([\w.-]+)>=([\d.]+)", each.replace(" ", "")) for each in wanted if "extra" not in each
    )
    return {pair[1].lower(): pair[2] for pair in pairs if pair}


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
