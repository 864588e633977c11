"""Dimensions, reasons, pins and numbers of a model."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from contract.builder import build
from contract.graphs_vision import RESIDUAL

from onnx_oto.errors import UsageError
from onnx_oto.model import normalise
from onnx_oto.surgery import compact
from onnx_oto.zigs import AnalysisOptions, Use, analyse, choose, score
from onnx_oto.zigs.analysis import kept_elements
from onnx_oto.zigs.families import _scattered as scattered

from .models import GROUPED, analysis_of, chain, chained


def test_dimensions_of_a_chain() -> None:
    analysis = chained(6, 4)
    first, second, last = analysis.dimensions
    assert (first.name, first.size, first.reason) == ("w0", 6, "")
    assert set(first.uses) == {Use("w0", 1, "producer"), Use("w1", 0, "consumer")}
    assert (second.name, second.size) == ("w1", 4)
    assert last.reason == "it is part of the model's output 'y'"
    assert not last.prunable
    assert first.constraints == ("keep at least 1",)


def test_roles_of_a_batch_norm() -> None:
    analysis = analyse(normalise(build(RESIDUAL)))
    (inner,) = [d for d in analysis.dimensions if d.name == "w1"]
    roles = {(u.param, u.axis): u.role for u in inner.uses}
    assert roles == {
        ("w1", 0): "producer",
        ("n1s", 0): "producer",
        ("n1p", 0): "producer",
        ("n1m", 0): "buffer",
        ("varn1", 0): "buffer",
        ("w2", 1): "consumer",
    }


def test_constraints_are_named() -> None:
    dims = {d.name: d for d in analysis_of(GROUPED).dimensions}
    assert any("balanced over the 2 groups" in c for c in dims["w0"].constraints)


def test_names_of_dimensions_are_unique() -> None:
    analysis = analyse(normalise(build(RESIDUAL)))
    names = [d.name for d in analysis.dimensions]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("pattern", ["w0", "m0", "a0", "h0", "r0", "?0", "m[0]"])
def test_keep_pins_by_parameter_node_and_tensor(pattern: str) -> None:
    analysis = analyse(normalise(chain(6, 4)), AnalysisOptions([pattern]))
    first, second, _ = analysis.dimensions
    assert first.reason == f"pinned by --keep '{pattern}'"
    assert second.prunable


def test_keep_takes_several_patterns() -> None:
    analysis = analyse(normalise(chain(6, 4)), AnalysisOptions(["m0", "h1"]))
    assert not analysis.prunable


def test_keep_of_a_parameter_pins_what_it_produces_not_what_it_reads() -> None:
    analysis = analyse(normalise(chain(6, 4)), AnalysisOptions(["w1"]))
    assert [d.name for d in analysis.prunable] == ["w0"]


def test_keep_of_nothing_known_is_refused_with_a_hint() -> None:
    with pytest.raises(UsageError, match=r"--keep 'wo' matches no parameter, node or tensor .*did you mean"):
        analyse(normalise(chain(6)), AnalysisOptions(["wo"]))


def test_reasons_name_the_node_and_read_as_a_sentence() -> None:
    analysis = analysis_of(
        """g (float[N,5] x) => (float[N,3] y) <float[5,8] w0, float[8,3] w1>
        { a = MatMul(x, w0) [norm] b = Softmax<axis=-1>(a) y = MatMul(b, w1) }"""
    )
    assert analysis.dimensions[0].reason == "Softmax 'norm' needs every position of the axis"


def test_parameters_and_macs_of_a_chain() -> None:
    analysis = chained(6, 4)
    assert analysis.params == 5 * 6 + 6 * 4 + 4 * 3
    assert analysis.macs == 5 * 6 + 6 * 4 + 4 * 3
    assert analysis.prunable_params == 5 * 6 + 6 * 4 + 4 * 3


def test_macs_of_convolutions() -> None:
    analysis = analysis_of(GROUPED)
    assert analysis.macs == 36 * (8 * 3 + 8 * 4 * 9 + 2 * 8)


@pytest.mark.parametrize("text", [RESIDUAL, GROUPED])
def test_kept_elements_and_macs_are_those_of_the_compact_model(text: str) -> None:
    analysis = analyse(normalise(build(text)))
    choice = choose(analysis, score(analysis, "random", 0), 0.5)
    small = compact(analysis, choice.drop)
    kept = kept_elements(analysis, ~choice.drop)
    sizes = {t.name: int(np.prod(t.dims)) for t in small.graph.initializer}
    assert {name: count for name, count in kept.items() if name in sizes} == {
        name: count for name, count in sizes.items() if name in kept
    }
    assert 0 < analyse(normalise(small)).macs < analysis.macs


def test_the_model_is_not_modified() -> None:
    model = normalise(build(RESIDUAL))
    before = model.SerializeToString(deterministic=True)
    analysis = analyse(model)
    compact(analysis, choose(analysis, score(analysis, "random", 0), 0.5).drop)
    assert model.SerializeToString(deterministic=True) == before
    onnx.checker.check_model(model, full_check=True)


def test_numbers_that_tell_sets_apart_are_those_of_splitmix64() -> None:
    assert scattered(3).tolist() == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert np.unique(scattered(10_000)).size == 10_000
