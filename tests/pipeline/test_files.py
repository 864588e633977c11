"""Sizes of files, and outputs that must not replace what they come from."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnx_oto.errors import UnsupportedError, UsageError
from onnx_oto.model import load, save, stored_bytes
from onnx_oto.pipeline.opening import open_model, reasons
from onnx_oto.pipeline.options import PruneOptions
from onnx_oto.pipeline.prune import compact_zeros, prune
from onnx_oto.zigs import AnalysisOptions


def test_file_sizes_are_those_on_disk(model, tmp_path):
    result = prune(model, tmp_path / "out.onnx", PruneOptions(sparsity=0.5))
    assert result.summary.size.before == model.stat().st_size
    assert result.summary.size.after == (tmp_path / "out.onnx").stat().st_size


def test_external_data_count(tmp_path, model):
    proto = onnx.load(model)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((64, 64), np.float32), "large"))
    written = save(proto, tmp_path / "external.onnx", external_above=1000)
    both = (tmp_path / "external.onnx").stat().st_size + (tmp_path / "external.onnx.data").stat().st_size
    assert written == both
    assert stored_bytes(tmp_path / "external.onnx", load(tmp_path / "external.onnx")) == both
    assert save(proto, tmp_path / "one.onnx") == (tmp_path / "one.onnx").stat().st_size


def test_outputs_may_not_be_one_file(model, tmp_path):
    with pytest.raises(UsageError, match="would overwrite another output"):
        prune(model, tmp_path / "out.onnx", PruneOptions(save_zeroed=tmp_path / "." / "out.onnx"))
    with pytest.raises(UsageError, match="would overwrite the input model"):
        compact_zeros(model, model)


def test_reasons_say_the_most_common_first(tmp_path, model):
    opened = open_model(model, AnalysisOptions(["w1", "w2"]))
    found = reasons(opened)
    assert found[0] == "pinned by --keep 'w1'"
    with pytest.raises(
        UnsupportedError, match=r"nothing in 'model.onnx' can be pruned: pinned by --keep 'w1'"
    ):
        prune(model, tmp_path / "out.onnx", PruneOptions(keep=["w1", "w2"]))
