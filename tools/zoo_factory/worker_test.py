"""Run with `pytest tools/zoo_factory`: whatever happens to one model, the worker answers and goes on."""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import onnx
import pytest

from zoo_factory import worker
from zoo_factory.environments import FRAMEWORK_OF_SET, REQUIREMENTS
from zoo_factory.options import Options

GOOD = """
<ir_version: 8, opset_import: ["": 17]>
g (float[N, 3] x) => (float[N, 3] y) { y = Relu(x) }
"""


def good(name: str, path: Path, options: Options) -> dict[str, object]:
    """Write a model."""
    onnx.save(onnx.parser.parse_model(GOOD), path)
    return {"batch": "dynamic"}


def raises(name: str, path: Path, options: Options) -> dict[str, object]:
    """Fail as a framework does."""
    raise RuntimeError("cannot export")


def dies(name: str, path: Path, options: Options) -> dict[str, object]:
    """Fail as native code does."""
    path.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def hangs(name: str, path: Path, options: Options) -> dict[str, object]:
    """Never end."""
    time.sleep(60)
    return {}


def invalid(name: str, path: Path, options: Options) -> dict[str, object]:
    """Write something that is no model."""
    path.write_bytes(b"no model")
    return {}


def answer(make: Callable[[str, Path, Options], dict[str, object]], path: Path) -> dict[str, object]:
    """Return the worker's answer about a set with this `make`."""
    module = ModuleType("set_made_up")
    module.make = make  # type: ignore[attr-defined]
    facts: dict[str, object] = worker._in_child(
        module, "m", path, Options(), timeout=5 if make is not hangs else 0.3
    )
    return facts


def test_a_model_is_written_whole(tmp_path: Path) -> None:
    facts = answer(good, tmp_path / "m.onnx")
    assert facts == {"batch": "dynamic", "bytes": (tmp_path / "m.onnx").stat().st_size}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (raises, "RuntimeError: cannot export"),
        (dies, "exit code -9"),
        (hangs, "not finished"),
        (invalid, ""),
    ],
)
def test_a_failure_is_told_and_leaves_no_file(
    make: Callable[[str, Path, Options], dict[str, object]], words: str, tmp_path: Path
) -> None:
    assert words in str(answer(make, tmp_path / "m.onnx")["error"])
    assert list(tmp_path.iterdir()) == []


class _OwnsThreads:
    """Stands for a session: ending it in a process that lacks its threads crashes."""

    def __init__(self) -> None:
        self.cycle, self.home = self, os.getpid()

    def __del__(self) -> None:
        if os.getpid() != self.home:
            os._exit(11)


def collects(name: str, path: Path, options: Options) -> dict[str, object]:
    """Run the collector, as any model may."""
    gc.collect()
    return good(name, path, options)


def test_what_waits_for_the_collector_is_left_to_the_parent(tmp_path: Path) -> None:
    gc.disable()
    try:
        _OwnsThreads()
        assert "error" not in answer(collects, tmp_path / "m.onnx")
    finally:
        gc.enable()


def test_every_set_has_a_module_and_an_environment() -> None:
    folder = Path(worker.__file__).parent
    for name, framework in FRAMEWORK_OF_SET.items():
        assert (folder / f"set_{name.replace('-', '_')}.py").exists()
        assert framework in REQUIREMENTS
