"""Libraries that only some kinds of data need: imported when they are needed; how to install them is told."""

from __future__ import annotations

import importlib
from types import ModuleType

from onnx_oto.errors import RuntimeMissingError, one_line

EXTRAS = {
    "PIL": ("Pillow", "images"),
    "pyarrow": ("pyarrow", "tables"),
    "scipy": ("scipy", "mat"),
    "tokenizers": ("tokenizers", "tokens"),
}
"""Package -> the name of its distribution, and our extra that brings it."""


def extra(module: str, why: str) -> ModuleType:
    """Return a module of a library that may not be there. Raises RuntimeMissingError with what installs it.

    why: what it is needed for, as in "to read 'a.parquet'".
    """
    package = module.partition(".")[0]
    name, ours = EXTRAS[package]
    remedy = f"run `pip install 'onnx-oto[{ours}]'`"
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != package:
            raise RuntimeMissingError(f"{name} does not load ({one_line(error)}): {remedy}") from None
        raise RuntimeMissingError(f"{name} is needed {why}, and is not installed: {remedy}") from None
    except ImportError as error:
        raise RuntimeMissingError(f"{name} does not load ({one_line(error)}): {remedy}") from None
