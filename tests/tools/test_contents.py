"""What tools/check_package asks of wheel and sdist: a file that is missing, or too much, is named."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
GOOD = [
    "onnx_oto/py.typed",
    "onnx_oto/assets/fashion_mnist_subset.npz",
    "onnx_oto/assets/fashion_resnet.onnx",
    "onnx_oto/assets/FASHION_MNIST_LICENSE.txt",
    "onnx_oto/cli/__init__.py",
    "onnx_oto-0.1.0.dist-info/licenses/LICENSE",
]


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_contents", ROOT / "tools" / "check_contents.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CHECK = _load()


def test_what_has_all_is_right() -> None:
    assert CHECK.wrong(GOOD, wheel=True) == []


@pytest.mark.parametrize("missing", GOOD)
def test_what_is_missing_is_named(missing: str) -> None:
    (problem,) = CHECK.wrong([path for path in GOOD if path != missing], wheel=True)
    assert problem.endswith("is missing")


@pytest.mark.parametrize("more", ["onnx_oto/__pycache__/a.pyc", "runs/demo/trained.onnx", ".venv/bin/python"])
def test_what_is_too_much_is_named(more: str) -> None:
    assert f"{more} does not belong there" in CHECK.wrong([*GOOD, more], wheel=False)


def test_a_wheel_installs_nothing_beside_the_package() -> None:
    assert CHECK.wrong([*GOOD, "tests/__init__.py"], wheel=True) == [
        "the wheel would install tests beside the package"
    ]
    assert CHECK.wrong([*GOOD, "tests/__init__.py"], wheel=False) == []


def test_a_folder_without_archives_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert CHECK.main(tmp_path) == 1
    assert "holds 0 files *.whl" in capsys.readouterr().err
