"""Options that make no sense are refused where they are made."""

from __future__ import annotations

import math

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
        ({"round_to": 10**20}, "round-to is 1(0+): give at most 2147483647"),
        ({"threads": 9_999_999}, "threads is 9999999: give at most 1024"),
        ({"shards": -1}, "shards is -1: it cannot be negative"),
        ({"crop": -1}, "crop is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"zoom": 0.0}, "zoom is 0.0: give a share above 0 and up to 1"),
        ({"zoom": 1.5}, "zoom is 1.5: give a share above 0"),
        ({"cutout": -1}, "cutout is -1: it cannot be negative"),
        ({"brightness": 1.5}, "brightness is 1.5: give a share from 0 to 1"),
        ({"mixup": -0.1}, "mixup is -0.1: it cannot be negative"),
        ({"mixup": math.nan}, "mixup is nan: give a number of at least 0"),
        ({"class_weights": "even"}, "class-weights is 'even': give a number, or several .* or balanced"),
        ({"class_weights": (1, -1)}, "class-weights is 1,-1: give a number of at least 0 for every class"),
        ({"class_weights": (0, 0)}, "class-weights is 0,0: give a number of at least 0 .*, not all 0"),
        ({"ema": 1.0}, "ema is 1.0: give a number above 0 and below 1, such as 0.999"),
        ({"patience": 0}, "patience is 0: give at least 1"),
        ({"loaders": 0}, "loaders is 0: give at least 1"),
        ({"loaders": 1000}, "loaders is 1000: give at most 64"),
        ({"warm_up": 1.5}, "warm-up is 1.5: give a share from 0 to 1"),
        ({"milestones": (0.5, 0.5)}, "milestones is 0.5, 0.5: give shares between 0 and 1, each larger than"),
        ({"milestones": (0.5, 1.0)}, "milestones is 0.5, 1.0: give shares between 0 and 1"),
        ({"milestones": (math.nan,)}, "milestones is nan: give shares between 0 and 1"),
        ({"lr_factor": 0.0}, "lr-factor is 0.0: give a share above 0 and up to 1"),
        (
            {"schedule": "cosine", "milestones": (0.5,)},
            "milestones is for the step schedule: give --schedule step",
        ),
        ({"schedule": "constant", "lr_factor": 0.5}, "lr-factor is for the step schedule"),
        ({"min_keep": -0.5}, "min-keep is -0.5"),
        ({"direction": "north"}, "direction is 'north': choose one of sgd, adam"),
        ({"optimizer": "sgd"}, "optimizer is 'sgd': choose one of auto, dense, dhspg"),
        ({"lr": 0.0}, "lr is 0.0: give a positive number"),
        ({"weight_decay": -1.0}, "weight-decay is -1.0"),
        ({"accumulate": 0}, "accumulate is 0: give at least 1"),
        ({"clip_norm": 0.0}, "clip-norm is 0.0: give a positive number"),
        ({"skip_bad_steps": -1}, "skip-bad-steps is -1: it cannot be negative"),
        ({"direction": "adam", "optimizer_options": {"momentum": 0.9}}, "--momentum is an option of sgd"),
        (
            {"optimizer": "dense", "macs": 0.5},
            "macs is for optimizers that remove groups, and dense only trains",
        ),
        ({"optimizer_options": {"plan_shrink": 0.99}}, "shrink 0.99 and finish 0.05 are shares"),
    ],
)
def test_refused(options, message):
    with pytest.raises(UsageError, match=message):
        TrainOptions(**options)


@pytest.mark.parametrize(
    ("direction", "rate", "decay"), [("sgd", 0.1, 5e-4), ("adam", 1e-3, 0.0), ("adamw", 1e-3, 1e-2)]
)
def test_rates_and_decays_are_those_of_the_direction_unless_given(direction, rate, decay):
    options = TrainOptions(direction=direction)
    assert options.learning_rate == options.resolved().lr == rate
    assert options.method.direction.weight_decay == options.resolved().weight_decay == decay
    given = TrainOptions(direction=direction, lr=0.5, weight_decay=0.25)
    assert (given.learning_rate, given.method.direction.weight_decay) == (0.5, 0.25)


def test_what_is_stored_gives_the_same_method_again():
    options = TrainOptions(direction="adam", optimizer_options={"beta1": 0.8, "saliency": "taylor"})
    stored = options.resolved().as_json()
    assert stored["optimizer_options"]["beta1"] == 0.8
    assert stored["optimizer_options"]["plan_finish"] == 0.05
    names = ("direction", "lr", "weight_decay", "optimizer_options")
    again = TrainOptions(**{name: stored[name] for name in names})
    assert (again.method, again.learning_rate) == (
        options.resolved().method,
        options.learning_rate,
    )


def test_options_are_plain_json():
    options = TrainOptions(keep=("a*",), mean=(0.5,))
    assert options.as_json()["keep"] == ["a*"]
    assert options.as_json()["mean"] == [0.5]
    assert options.prunes
    assert not TrainOptions(optimizer="dense").prunes
