"""The front door: every verb is a function, takes its settings as keywords or as an object, gives a typed result."""

from __future__ import annotations

import inspect as inspection
import types
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

import onnx_oto
from onnx_oto.cli.verbs import VERBS
from onnx_oto.errors import UsageError
from onnx_oto.settings.base import flat, settings_of

OPTIONS = {
    "bench": onnx_oto.BenchOptions,
    "doctor": onnx_oto.DoctorOptions,
    "compact": onnx_oto.CompactOptions,
    "demo": onnx_oto.DemoOptions,
    "resume": onnx_oto.ResumeOptions,
    "inspect": onnx_oto.InspectOptions,
    "prune": onnx_oto.PruneOptions,
    "report": onnx_oto.ReportOptions,
    "train": onnx_oto.TrainOptions,
    "verify": onnx_oto.VerifyOptions,
}
TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N,6] x) => (float[N,3] y) { a = Gemm(x, w1, b1)  b = Relu(a)  y = MatMul(b, w2) }
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return the path of a small classifier."""
    made = parser.parse_model(TEXT)
    rng = np.random.default_rng(0)
    for name, shape in {"w1": (6, 10), "b1": (10,), "w2": (10, 3)}.items():
        array = rng.standard_normal(shape).astype(np.float32)
        made.graph.initializer.append(numpy_helper.from_array(array, name))
    onnx.save(made, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_every_verb_is_a_function_and_no_module_hides_one() -> None:
    import onnx_oto.cli.screen
    import onnx_oto.pipeline.demo
    import onnx_oto.pipeline.prune
    import onnx_oto.pipeline.train

    for name in VERBS:
        assert isinstance(getattr(onnx_oto, name), types.FunctionType)
        assert not (Path(onnx_oto.__file__).parent / name).exists(), "a package would hide the verb"
        assert not (Path(onnx_oto.__file__).parent / f"{name}.py").exists(), "a module would hide the verb"


def test_all_names_are_there_and_documented() -> None:
    assert {*VERBS, *(kind.__name__ for kind in OPTIONS.values())} <= {*onnx_oto.__all__}
    assert {*onnx_oto.__all__} <= {*dir(onnx_oto)}
    for name in onnx_oto.__all__:
        assert getattr(onnx_oto, name).__doc__ or name == "__version__"
    with pytest.raises(AttributeError, match="module 'onnx_oto' has no attribute 'prun'"):
        onnx_oto.prun  # noqa: B018


@pytest.mark.parametrize("name", sorted(VERBS))
def test_signature_and_documentation_name_every_setting(name: str) -> None:
    function = getattr(onnx_oto, name)
    parameters = inspection.signature(function).parameters
    for each in flat(settings_of(OPTIONS[name])):
        assert parameters[each.name].default == each.default
        assert parameters[each.name].kind is inspection.Parameter.KEYWORD_ONLY
        assert f"{each.name}: {each.about.help}" in function.__doc__


def test_keywords_and_an_object_of_options_are_one(model: Path, tmp_path: Path) -> None:
    by_keyword = onnx_oto.prune(model, tmp_path / "a.onnx", sparsity=0.3, by="random", seed=3)
    options = onnx_oto.PruneOptions(sparsity=0.3, by="random", seed=3)
    by_object = onnx_oto.prune(str(model), tmp_path / "b.onnx", options)
    some = onnx_oto.PruneOptions(sparsity=0.9, by="random")
    both = onnx_oto.prune(model, tmp_path / "c.onnx", some, sparsity=0.3, seed=3)
    assert by_keyword.summary.params == by_object.summary.params == both.summary.params
    files = {(tmp_path / name).read_bytes() for name in ("a.onnx", "b.onnx", "c.onnx")}
    assert len(files) == 1


def test_a_model_may_be_in_memory(model: Path, tmp_path: Path) -> None:
    loaded = onnx.load(model)
    before = loaded.SerializeToString()
    assert onnx_oto.inspect(loaded).as_json() == onnx_oto.inspect(model).as_json()
    onnx_oto.prune(loaded, tmp_path / "a.onnx", save_zeroed=tmp_path / "zeroed.onnx")
    onnx_oto.prune(model, tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    verdict = onnx_oto.verify(onnx.load(tmp_path / "zeroed.onnx"), onnx.load(tmp_path / "a.onnx"))
    assert isinstance(verdict, onnx_oto.Verdict)
    assert verdict.passed
    assert not onnx_oto.verify(loaded, tmp_path / "a.onnx").passed
    assert loaded.SerializeToString() == before


def test_compact_removes_what_is_zero(model: Path, tmp_path: Path) -> None:
    onnx_oto.prune(model, tmp_path / "small.onnx", save_zeroed=tmp_path / "zeroed.onnx")
    result = onnx_oto.compact(tmp_path / "zeroed.onnx", tmp_path / "compact.onnx")
    assert isinstance(result, onnx_oto.Pruned)
    assert result.summary.removed == 5


def test_what_was_inspected_is_typed(model: Path) -> None:
    found = onnx_oto.inspect(model, why="w1")
    assert isinstance(found, onnx_oto.Inspected)
    (dimension,) = found.dimensions
    assert (dimension.name, dimension.size, dimension.prunable, dimension.chain) == ("w1", 10, True, ())
    assert found.as_json()["dimensions"][0]["uses"][0]["positions"] == list(range(10))


def test_train_returns_what_it_gained(model: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((64, 6)).astype(np.float32), np.arange(64) % 3
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    said: list[str] = []
    settings = {"epochs": 2, "batch": 16, "direction": "adam", "sparsity": 0.5}
    result = onnx_oto.train(model, tmp_path / "data.npz", tmp_path / "run", say=said.append, **settings)
    assert isinstance(result, onnx_oto.Trained)
    assert result.gain is not None
    assert result.achieved == 0.5
    assert any("rehearsal" in line for line in said)
    text = (tmp_path / "run" / "run.toml").read_text()
    assert "lr = 0.001" in text, "what follows from the direction is resolved"
    assert 'model = "../model.onnx"' in text
    onnx_oto.train(onnx.load(model), tmp_path / "data.npz", tmp_path / "memory", **settings)
    text = (tmp_path / "memory" / "run.toml").read_text()
    assert "onnx-oto train MODEL --config run.toml" in text
    assert "model =" not in text, "a model in memory has no file"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sparsty": 0.5}, "there is no setting 'sparsty': did you mean 'sparsity'?"),
        ({"sparsity": 1}, "sparsity is 1.0: give a number from 0 to below 1"),
        ({"options": 3}, "options are 3: give PruneOptions, or its fields as keywords"),
        ({"options": onnx_oto.TrainOptions()}, "give PruneOptions"),
    ],
)
def test_what_is_no_setting_is_refused(model: Path, tmp_path: Path, settings, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        onnx_oto.prune(model, tmp_path / "out.onnx", **settings)
    assert message in str(caught.value)
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize("model", [None, b"model.onnx", onnx.GraphProto(), 3])
def test_what_is_no_model_is_refused(model, tmp_path: Path) -> None:
    said = rf"model is of type {type(model).__name__}: give a path or an onnx.ModelProto"
    for call in (
        lambda: onnx_oto.inspect(model),
        lambda: onnx_oto.prune(model, tmp_path / "out.onnx"),
        lambda: onnx_oto.train(model, "data.npz", tmp_path / "run"),
        lambda: onnx_oto.verify(model, model),
    ):
        with pytest.raises(UsageError, match=said):
            call()


def test_what_is_no_path_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="data is of type dict: give a path"):
        onnx_oto.train(model, {"x": 1}, tmp_path / "run")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="run is of type NoneType: give a path"):
        onnx_oto.train(model, "data.npz", None)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="output is of type NoneType: give a path"):
        onnx_oto.compact(model, None)  # type: ignore[arg-type]
