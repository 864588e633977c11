"""The command line as users run it, in a process of its own or, to be refused, in this one; small models and data."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, parser

from onnx_oto.cli import commands
from onnx_oto.cli.ending import Trouble
from tests.cli import warm

HEARD = [each for each in signal.Signals if each.name in ("SIGHUP", "SIGINT", "SIGTERM")]


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """Children hear signals even where these tests run in the background, which ignores some."""
    before = {number: signal.getsignal(number) for number in HEARD}
    for number, handler in before.items():
        if handler is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


Cli = Callable[..., "subprocess.CompletedProcess[str]"]

# [N,1,8,8] images to three classes: a residual block on 8 channels, then 12 more.
TINY = """
<ir_version: 8, opset_import: ["" : 17]>
tiny (float[N,1,8,8] image) => (float[N,3] logits) {
    a = Conv<pads = [1,1,1,1]>(image, w1)
    b = BatchNormalization(a, s1, b1, m1, v1)
    c = Relu(b)
    d = Conv<pads = [1,1,1,1]>(c, w2, b2)
    e = Add(c, d)
    f = Conv<pads = [1,1,1,1], strides = [2,2]>(e, w3, b3)
    g = Relu(f)
    h = GlobalAveragePool(g)
    i = Flatten(h)
    logits = Gemm<transB = 1>(i, w4, b4)
}
"""
SHAPES = {
    "w1": (8, 1, 3, 3), "s1": (8,), "b1": (8,), "m1": (8,), "v1": (8,), "w2": (8, 8, 3, 3), "b2": (8,),
    "w3": (12, 8, 3, 3), "b3": (12,), "w4": (3, 12), "b4": (3,),
}  # fmt: skip


def build(text: str, shapes: Mapping[str, tuple[int, ...]]) -> onnx.ModelProto:
    """Parse a graph and add seeded weights: positive where the name begins with v (variances) or s (scales)."""
    model = parser.parse_model(text)
    rng = np.random.default_rng(0)
    for name, shape in shapes.items():
        array = rng.standard_normal(shape) * np.sqrt(2 / max(1, np.prod(shape[1:])))
        if name[0] in "vs":
            array = 0.5 + np.abs(array)
        model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    return model


def images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return uint8 images with a bright spot, and which third of the image it is in."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 60, (count, 8, 8)).astype(np.uint8)
    y = np.arange(count) % 3
    for image, label in zip(x, y, strict=True):
        image[label * 3 : label * 3 + 2, 2:6] = 255
    return x, y


def arrays(**changes: Any) -> dict[str, np.ndarray]:
    """Return a complete data set; `changes` replace arrays, None removes one."""
    (x_train, y_train), (x_test, y_test) = images(96, 0), images(48, 1)
    full = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test, **changes}
    return {key: value for key, value in full.items() if value is not None}


@pytest.fixture(scope="session")
def models() -> Callable[..., onnx.ModelProto]:
    """Return the builder of small models: text and weight shapes."""
    return build


@pytest.fixture(scope="session")
def data_arrays() -> Callable[..., dict[str, np.ndarray]]:
    """Return the builder of data sets, see `arrays`."""
    return arrays


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of the small residual network."""
    path = tmp_path_factory.mktemp("model") / "tiny.onnx"
    onnx.save(build(TINY, SHAPES), path)
    return path


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of a data set that fits it."""
    path = tmp_path_factory.mktemp("data") / "spots.npz"
    np.savez(path, **arrays())
    return path


@pytest.fixture(scope="session")
def cli() -> Cli:
    """Return a function that runs `onnx-oto` with arguments and fails on any traceback."""

    def run(*arguments: Any, path: Path | None = None) -> subprocess.CompletedProcess[str]:
        done = warm.run(*arguments, environment=environment(path))
        assert "Traceback" not in done.stderr
        return done

    return run


@pytest.fixture
def at_screen(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs arguments in this process; gives the exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        words = [str(argument) for argument in arguments]
        result = commands.run(words)
        if isinstance(result, Trouble):
            result.report(as_json="--json" in words)
        captured = capfd.readouterr()
        return result.code if isinstance(result, Trouble) else result, captured.out, captured.err

    return run


Refused = Callable[..., str]


@pytest.fixture
def refused(at_screen: Callable[..., tuple[int, str, str]]) -> Refused:
    """Return a function that runs arguments in this process, expects an exit code and no result; gives the error line.

    Files for every exit code ask `refused_alone`.
    """
    return lambda code, *arguments: refusal(code, arguments, *at_screen(*arguments))


@pytest.fixture(scope="session")
def refused_alone(cli: Cli) -> Refused:
    """Return a function as `refused` gives, that runs `onnx-oto` in a process of its own."""

    def run(code: int, *arguments: Any, path: Path | None = None) -> str:
        done = cli(*arguments, path=path)
        return refusal(code, arguments, done.returncode, done.stdout, done.stderr)

    return run


def refusal(code: int, arguments: Sequence[Any], found: int, printed: str, said: str) -> str:
    """Return the one error line of a command that has no result and ends with `code`."""
    assert found == code, said
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "defect" not in lines[0]
    if "--json" not in arguments:
        assert printed == ""
        return lines[0]
    told = json.loads(printed)
    assert (told["schema"], told["error"]["code"]) == (1, code)
    assert lines[0] == f"error: {told['error']['message']}"
    return lines[0]


def environment(path: Path | None) -> dict[str, str]:
    """Return the environment, with a folder in front of the module search path."""
    if path is None:
        return dict(os.environ)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(path), os.environ.get("PYTHONPATH", "")])}


@pytest.fixture(scope="session")
def process_environment() -> dict[str, str]:
    """Return the environment for processes that a test starts itself."""
    return environment(None)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a model as it is, without any check, and return the path."""

    def to_file(model: onnx.ModelProto, name: str = "model.onnx") -> Path:
        path = tmp_path / name
        path.write_bytes(model.SerializeToString())
        return path

    return to_file


@pytest.fixture
def node() -> Callable[..., onnx.NodeProto]:
    """Return onnx's node maker."""
    return helper.make_node
