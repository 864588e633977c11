"""Options that directions and optimizers state themselves."""

from __future__ import annotations

from typing import Any

import pytest

from onnx_oto.errors import UsageError
from onnx_oto.optim import OPTIMIZERS, Adam, AdamW, Sgd, method, options
from onnx_oto.optim.dhspg import DhspgOptions
from onnx_oto.optim.saliency import SALIENCIES
from tests.optim.progressive import ProgressiveOptions


def test_what_is_registered_is_listed_with_its_owners() -> None:
    found = options()
    assert found["momentum"].defaults == {"sgd": 0.9}
    assert found["momentum"].flag == "--momentum"
    assert found["nesterov"].kind is bool
    assert found["beta1"].defaults == {"adam": 0.9, "adamw": 0.9}
    assert found["weight_decay"].defaults == {"sgd": 5e-4, "adam": 0.0, "adamw": 1e-2}
    assert found["regularizer"].kind is float
    assert found["saliency"].choices == tuple(SALIENCIES)
    assert found["plan_observe"].flag == "--plan-observe"
    assert all(each.text.endswith((".", "]")) for each in found.values())


def test_a_new_optimizer_is_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "stages" not in options()
    monkeypatch.setitem(OPTIMIZERS, "progressive", ProgressiveOptions)
    assert options()["stages"].kind is int
    made = method("progressive", "sgd", {"stages": 3, "momentum": 0.5})
    assert made.optimizer == ProgressiveOptions(3)
    assert made.values() == {"stages": 3, "momentum": 0.5, "nesterov": False, "weight_decay": 5e-4}


def test_options_go_to_whom_they_belong() -> None:
    made = method("dhspg", "adamw", {"beta2": 0.95, "saliency": "taylor", "plan_shrink": 0.2})
    assert made == (DhspgOptions(saliency="taylor", plan_shrink=0.2), AdamW(beta2=0.95))
    assert method("dense", "adam", {}).direction == Adam()
    assert method("dense", "sgd", {}).direction == Sgd()


@pytest.mark.parametrize(
    ("names", "given", "message"),
    [
        (("sgdx", "sgd"), {}, "optimizer 'sgdx': choose one of dense, dhspg"),
        (("dense", "north"), {}, "direction 'north': choose one of sgd, adam"),
        (("dhspg", "adam"), {"momentum": 0.9}, "--momentum is an option of sgd, not of dhspg or adam: leave"),
        (
            ("dense", "sgd"),
            {"saliency": "paper"},
            "--saliency is an option of dhspg, .*, not of dense or sgd",
        ),
        (
            ("dhspg", "sgd"),
            {"momentun": 0.9},
            "no option 'momentun' of dhspg or sgd; did you mean 'momentum'",
        ),
        (("dhspg", "sgd"), {"momentum": 1.0}, "momentum is 1.0: give a share from 0 to below 1"),
        (("dhspg", "adam"), {"beta2": -0.1}, "beta2 is -0.1"),
        (("dhspg", "adamw"), {"eps": 0.0}, "eps is 0.0: give a positive number"),
        (("dhspg", "adamw"), {"weight_decay": float("nan")}, "weight-decay is nan: give a number from 0"),
        (("dhspg", "sgd"), {"saliency": "luck"}, "saliency 'luck': choose one of magnitude"),
        (("dhspg", "sgd"), {"half_space_eps": 1.0}, "half-space-eps is"),
        (("dhspg", "sgd"), {"regularizer": -1.0}, "regularizer is -1.0"),
        (("dhspg", "sgd"), {"plan_observe": 0.9}, "observe 0.9, shrink 0.3 and finish 0.05 are shares"),
        (("dhspg", "sgd"), {"plan_finish": float("nan")}, "finish nan are shares"),
        (("dhspg", "sgd"), {"rounds": 0}, "rounds is 0: give at least 1"),
        (("hesso", "sgd"), {"rounds": 0}, "rounds is 0: give at least 1"),
        (("hesso", "sgd"), {"plan_finish": 0.1}, "--plan-finish is an option of dhspg, .*, not of hesso or"),
        (("hesso", "sgd"), {"plan_shrink": 1.1}, "shrink 1.1 and finish 0 are shares"),
        (("hspg", "sgd"), {"regularizer": float("inf")}, "regularizer is inf: give a positive number"),
        (("dhspg-published", "adam"), {"amplify": 0.5}, "amplify is 0.5: give a number from 1"),
        (("dhspg-published", "adam"), {"ceiling": float("nan")}, "ceiling is nan: give a number from 1"),
        (("proximal", "sgd"), {"plan_observe": 0.9}, "observe 0.9, shrink 0.3 and finish 0.05 are shares"),
        (("magnitude", "sgd"), {"plan_observe": 1.5}, "plan-observe is 1.5: give a share of the run"),
        (("one-shot", "sgd"), {"saliency": "luck"}, "saliency 'luck': choose one of magnitude"),
    ],
)
def test_refused(names: tuple[str, str], given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        method(*names, given)
