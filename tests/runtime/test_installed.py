"""A missing, doubled, wrong or broken runtime is one line with the command that mends it."""

from __future__ import annotations

import importlib
import importlib.metadata
import subprocess
import sys
from types import SimpleNamespace

import pytest

from onnx_oto.errors import RuntimeMissingError
from onnx_oto.runtime import installed
from tests.gradients.available import needs_training_build


def distribution(name: str, *, owns: bool = True, record: bool = True) -> SimpleNamespace:
    files = [importlib.metadata.PackagePath("onnxruntime/__init__.py" if owns else "other/__init__.py")]
    texts = {"METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.19.2\n\nName: readme\n"}
    return SimpleNamespace(read_text=texts.get, version="1.19.2", files=files if record else None)


def pretend(monkeypatch: pytest.MonkeyPatch, *found: SimpleNamespace) -> None:
    others = (
        distribution("numpy", owns=False),
        SimpleNamespace(read_text={}.get, version="0", files=None),
    )
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: iter((*found, *others)))


def test_this_environment_is_fine() -> None:
    assert installed.problem() is None


def test_names_are_those_of_the_metadata() -> None:
    for each in importlib.metadata.distributions():
        assert installed._name_of(each) == (each.metadata["Name"] or "")


@needs_training_build
def test_the_training_build_is_loaded() -> None:
    assert hasattr(installed.require_training(), "GradientGraphBuilder")


@pytest.fixture
def has_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a Python that there is a training build for."""
    monkeypatch.setattr(installed, "has_training_build", lambda: True)


@pytest.mark.usefixtures("has_build")
@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), r"no ONNX Runtime is installed: run `pip install 'onnx-oto\[cpu\]'`"),
        (
            ("onnxruntime",),
            r"onnxruntime 1.19.2 cannot train .* run `pip uninstall -y onnxruntime && pip install",
        ),
        (
            ("onnxruntime", "onnxruntime_training_cpu"),
            r"2 distributions own .* run `pip uninstall -y onnxruntime onnxruntime-training-cpu && pip install",
        ),
        (("onnxruntime-gpu", "onnxruntime-training", "ort-nightly"), "3 distributions own"),
    ],
)
def test_wrong_runtimes(monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], message: str) -> None:
    pretend(monkeypatch, *map(distribution, names))
    with pytest.raises(RuntimeMissingError, match=message) as caught:
        installed.require_training()
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 7


def test_companions_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    extensions = distribution("onnxruntime-extensions", owns=False)
    silent = distribution("onnxruntime-genai", record=False)
    pretend(monkeypatch, distribution("onnxruntime-training-cpu"), extensions)
    assert installed.problem() is None
    pretend(
        monkeypatch,
        distribution("onnxruntime-training"),
        distribution("onnxruntime_extensions", record=False),
    )
    assert installed.problem() is None
    pretend(monkeypatch, distribution("onnxruntime-training"), silent)
    assert installed.problem() is None


def test_new_pythons_get_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    monkeypatch.setattr(sys, "version_info", (3, 13, 1))
    with pytest.raises(RuntimeMissingError, match=r"needs Python 3\.10 to 3\.12, this is 3\.13"):
        installed.require_training()


@pytest.mark.usefixtures("has_build")
def test_broken_and_overwritten_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise ImportError("libfoo.so: cannot open shared object file\nmore")

    pretend(monkeypatch, distribution("onnxruntime-training-cpu"))
    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(
        RuntimeMissingError, match=r"does not load \(libfoo.so: .* file\): run `pip install --force"
    ):
        installed.require_training()
    monkeypatch.setattr(importlib, "import_module", lambda name: SimpleNamespace())
    with pytest.raises(RuntimeMissingError, match="was overwritten by a build that cannot train"):
        installed.require_training()


def test_importing_needs_no_runtime() -> None:
    """Analysis and the refusals of training work where onnxruntime cannot be imported."""
    code = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "import onnx_oto, onnx_oto.gradients as g, onnx.parser\n"
        "m = onnx.parser.parse_model('<ir_version: 8, opset_import: [\"\": 17]>'"
        " 'g (float[N, 2] x) => (float[N, 2] y) <float[2] w = {1, 2}> { a = Mul(x, w) y = Bernoulli(a) }')\n"
        "from onnx_oto.gradients.backends.ort_training import OrtTraining\n"
        "print(g.prepare(m, g.TrainingSpec(('w',), 'mse', 4), OrtTraining()).refusals[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "(Bernoulli): it draws at random" in done.stdout


def test_building_is_silent() -> None:
    """The builder writes to descriptor 2 from native code, whatever the log level."""
    code = (
        "import numpy as np, onnx.parser\n"
        "from onnx_oto.gradients import TrainingSpec, choose_backend, prepare\n"
        "m = onnx.parser.parse_model('<ir_version: 8, opset_import: [\"\": 17]>'"
        " 'g (float[N, 2] x) => (float[N, 2] y) <float[2] w = {1, 2}> { a = Mul(x, w) y = Relu(a) }')\n"
        "x = np.ones((4, 2), np.float32)\n"
        "s = prepare(m, TrainingSpec(('w',), 'mse', 4), choose_backend()).build()\n"
        "s.step({'x': x}, x); s.predict({'x': x}); s.close()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == done.stderr == ""
