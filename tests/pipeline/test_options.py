"""Options that make no sense are refused where they are made."""

from __future__ import annotations

import pytest

from onnx_oto.errors import UsageError
from onnx_oto.pipeline.options import TrainOptions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsity": 1.0}, "sparsity is 1.0: give a number from 0 to below 1"),
        ({"sparsity": float("nan")}, "sparsity is nan: give a number"),
        ({"epochs": 0}, "epochs is 0: give at least 1"),
        ({"batch": -3}, "batch is -3"),
        ({"round_to": 0}, "round-to is 0"),
        ({"shards": -1}, "shards is -1: it cannot be negative"),
        ({"crop": -1}, "crop is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"warm_up": 1.5}, "warm-up is 1.5: give a share from 0 to 1"),
        ({"min_keep": -0.5}, "min-keep is -0.5"),
        ({"direction": "north"}, "direction is 'north': choose one of sgd, adam"),
    ],
)
def test_refused(options, message):
    with pytest.raises(UsageError, match=message):
        TrainOptions(**options)


def test_options_are_plain_json():
    options = TrainOptions(keep=("a*",), mean=(0.5,))
    assert options.as_json()["keep"] == ["a*"]
    assert options.as_json()["mean"] == [0.5]
    assert options.prunes
    assert not TrainOptions(optimizer="dense").prunes
