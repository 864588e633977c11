"""Is there exactly one ONNX Runtime, and can it train? Asked of package metadata before importing."""

from __future__ import annotations

import importlib
import importlib.metadata as metadata
import re
import sys
from types import ModuleType

from onnx_oto.errors import RuntimeMissingError

_TRAINING = ("onnxruntime-training", "onnxruntime-training-cpu")
_COMPANIONS = ("onnxruntime-extensions", "onnxruntime-genai", "onnxruntime-easy", "onnxruntime-tools")
_METADATA = ("METADATA", "PKG-INFO", "")
"""Where metadata lie, as in `importlib.metadata`: of a wheel, of an egg, and of an egg that is one file."""
_NAME = re.compile(r"^Name:(.*)$", re.MULTILINE | re.IGNORECASE)
_INSTALL = "pip install 'onnx-oto[cpu]'"
_INSTALL_STOCK = "pip install 'onnx-oto[runtime]'"
_LAST_TRAINING = (3, 12)
"""The last Python that there is a training build for."""


def installed() -> dict[str, str]:
    """Return the distributions that own the import package `onnxruntime`, as normalised name -> version.

    All variants (onnxruntime, onnxruntime-gpu, onnxruntime-training-cpu, ...) are named alike, and so are
    packages that only build on it: the list of installed files decides, or the name without such a list.
    """
    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        name = re.sub(r"[-_.]+", "-", _name_of(distribution)).lower()
        if name.startswith(("onnxruntime", "ort-nightly")) and _owns_package(distribution, name):
            found[name] = distribution.version
    return found


def _name_of(distribution: metadata.Distribution) -> str:
    """Return the name that a distribution gives itself, empty where it gives none.

    Of the head of its metadata alone: below stands its README, and to parse that of everything that is installed takes
    longer than all else before a training.
    """
    text = next(filter(None, map(distribution.read_text, _METADATA)), "")
    found = _NAME.search(text.partition("\n\n")[0])
    return found[1].strip() if found else ""


def _owns_package(distribution: metadata.Distribution, name: str) -> bool:
    files = distribution.files
    if files is None:
        return not name.startswith(_COMPANIONS)
    return any(file.as_posix() == "onnxruntime/__init__.py" for file in files)


def problem() -> str | None:
    """Return one line that says why models cannot be run and the command that mends it, or None."""
    found = installed()
    if len(found) > 1:
        names = " ".join(sorted(found))
        return (
            f"{len(found)} distributions own the package 'onnxruntime' ({', '.join(sorted(found))}) and "
            f"overwrite each other: run `pip uninstall -y {names} && {install_command()}`"
        )
    return None if found else f"no ONNX Runtime is installed: run `{install_command()}`"


def install_command() -> str:
    """Return the command that installs what this Python can train with."""
    return _INSTALL if has_training_build() else _INSTALL_STOCK


def has_training_build() -> bool:
    """Return whether there is a training build for this Python."""
    return sys.version_info[:2] <= _LAST_TRAINING


def training_problem() -> str | None:
    """Return one line that says why the runtime has no gradients and the command that mends it, or None."""
    found = installed()
    if len(found) > 1:
        return problem()
    if not has_training_build():
        versions = ".".join(map(str, sys.version_info[:2]))
        return (
            f"ONNX Runtime's training build needs Python 3.10 to 3.12, this is {versions}: train with "
            "--backend plain, or make an environment with one"
        )
    if not found:
        return problem()
    (name,) = found
    if name not in _TRAINING:
        return (
            f"{name} {found[name]} cannot train (it lacks the training build): "
            f"run `pip uninstall -y {name} && {_INSTALL}`"
        )
    return None


def require_training() -> ModuleType:
    """Return ONNX Runtime's binding with the gradient builder; raises RuntimeMissingError with the remedy."""
    trouble = training_problem()
    if trouble:
        raise RuntimeMissingError(trouble)
    try:
        binding = importlib.import_module("onnxruntime.capi._pybind_state")
    except Exception as error:  # a half-removed package fails in many ways
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RuntimeMissingError(
            f"onnxruntime is installed but does not load ({line}): "
            f"run `pip install --force-reinstall --no-deps {next(iter(installed()))}`"
        ) from error
    if not hasattr(binding, "GradientGraphBuilder"):
        raise RuntimeMissingError(
            "the package 'onnxruntime' was overwritten by a build that cannot train: "
            f"run `pip uninstall -y {' '.join(installed())} && {_INSTALL}`"
        )
    return binding
