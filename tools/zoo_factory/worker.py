"""Runs inside a framework's environment: lists a set, or makes one model of it.

    python -m zoo_factory.worker list SET
    python -m zoo_factory.worker make SET NAME PATH OPTIONS_JSON

`list` prints a JSON array. `make` writes PATH atomically and prints one JSON object as its last line.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path
from types import ModuleType

from zoo_factory.options import Options


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"zoo_factory.set_{name.replace('-', '_')}")


def make(set_name: str, name: str, path: Path, options: Options) -> dict[str, object]:
    """Write the model `name` of the set to `path` and return the facts about it."""
    begin = time.perf_counter()
    partial = path.with_name(path.name + ".partial")
    facts = dict(_module(set_name).make(name, partial, options))
    _check(partial)
    os.replace(partial, path)
    return {
        "model": name,
        "bytes": path.stat().st_size,
        **facts,
        "seconds": round(time.perf_counter() - begin, 1),
    }


def _check(path: Path) -> None:
    import onnx

    onnx.checker.check_model(str(path))


def main(arguments: list[str]) -> None:
    """Carry out one command (see the module)."""
    verb, set_name, *rest = arguments
    if verb == "list":
        print(json.dumps(_module(set_name).names()))
        return
    name, path, options = rest
    facts = make(set_name, name, Path(path), Options(**json.loads(options)))
    print("\n" + json.dumps(facts))


if __name__ == "__main__":
    main(sys.argv[1:])
