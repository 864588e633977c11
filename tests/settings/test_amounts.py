"""Amounts: a share without a unit, a quantity with one; and settings that are a number or a text."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from onnx_oto.errors import UsageError
from onnx_oto.pipeline.options import PruneOptions, TrainOptions
from onnx_oto.settings import Settings, setting, settings_of
from onnx_oto.settings.amounts import EXAMPLES, UNITS, amount, amount_limits, quantity
from onnx_oto.settings.kinds import kind_of


@pytest.mark.parametrize(
    ("name", "text", "read"),
    [
        ("params", "0.5", 0.5), ("params", " 1 ", 1.0), ("params", ".5", 0.5), ("params", "5e-1", 0.5),
        ("params", "5M", "5M"), ("params", "5 m", "5 m"), ("macs", "1.5G", "1.5G"), ("macs", "2b", "2b"),
        ("bytes", "2MB", "2MB"), ("bytes", "2 MiB", "2 MiB"), ("bytes", "700b", "700b"), ("latency", "3.5ms", "3.5ms"),
        ("latency", "500µs", "500µs"),
    ],
)  # fmt: skip
def test_what_is_read(name: str, text: str, read: object) -> None:
    assert amount(name)(text) == read


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("macs", "2MB"), ("macs", "300 apples"), ("macs", "M"), ("macs", "-3M"), ("macs", "-0.5"), ("macs", ""),
        ("macs", "1,5M"), ("macs", "nan"), ("macs", "inf"), ("macs", "3ms"), ("bytes", "2M"), ("bytes", "2k"),
        ("latency", "3m"), ("params", "50%"), ("params", "1 2M"), ("params", "0x10"),
    ],
)  # fmt: skip
def test_what_is_no_amount_is_refused_with_an_example(name: str, text: str) -> None:
    with pytest.raises(
        ValueError,
        match=f"give a share above 0 and up to 1, such as 0.5, or a quantity such as {EXAMPLES[name]}",
    ):
        amount(name)(text)


@pytest.mark.parametrize(
    ("name", "text", "count"),
    [
        ("params", "5M", 5e6), ("params", "5m", 5e6), ("params", "1.5k", 1500), ("macs", "2B", 2e9),
        ("macs", "1T", 1e12),
        ("bytes", "2b", 2), ("bytes", "2kB", 2000), ("bytes", "2KiB", 2048), ("bytes", "1GiB", 2**30),
        ("bytes", "3gb", 3e9),
        ("latency", "2s", 2000), ("latency", "250us", 0.25), ("latency", "250µs", 0.25), ("macs", "1e3k", 1e6),
    ],
)  # fmt: skip
def test_quantities(name: str, text: str, count: float) -> None:
    assert quantity(name, text) == count


@pytest.mark.parametrize("name", sorted(UNITS))
def test_the_example_is_one(name: str) -> None:
    assert amount(name)(EXAMPLES[name]) == EXAMPLES[name]
    assert quantity(name, EXAMPLES[name]) > 0


@pytest.mark.parametrize(
    ("value", "is_allowed"), [(1.0, 1), (1e-9, 1), (0.0, 0), (1.01, 0), (300, 0), (float("nan"), 0)]
)
def test_a_share_is_above_0_and_up_to_1(value: float, is_allowed: int) -> None:
    told = amount_limits("macs")(value)
    assert (told is None) == bool(is_allowed)
    assert told is None or told.startswith("a bare number is the share that is kept: give a share")


def test_a_quantity_is_above_0() -> None:
    assert amount_limits("macs")("1k") is None
    assert amount_limits("macs")("0M") is not None
    assert amount_limits("macs")("0.5") is None
    assert amount_limits("macs")("5MB") is not None


@pytest.mark.parametrize("options", [PruneOptions, TrainOptions])
@pytest.mark.parametrize("name", ["params", "macs", "bytes"])
def test_settings_hold_a_share_or_a_quantity(options: type[PruneOptions | TrainOptions], name: str) -> None:
    for given, held in ((0.5, 0.5), (1, 1.0), ("0.5", 0.5), (EXAMPLES[name], EXAMPLES[name]), (None, None)):
        assert getattr(options(**{name: given}), name) == held
    for wrong in (0, 2, -0.5, "0", "2", True, "2 apples", [0.5], float("nan")):
        with pytest.raises(UsageError, match=name):
            options(**{name: wrong})


def test_budgets_take_the_place_of_the_default_share() -> None:
    assert PruneOptions().share == 0.5
    assert PruneOptions(sparsity=0.2).share == 0.2
    assert PruneOptions(macs=0.5).share is None
    assert PruneOptions(macs=0.5, sparsity=0.2).share == 0.2
    assert PruneOptions(macs=0.5, bytes="2MB").budgets == {"macs": 0.5, "bytes": "2MB"}
    assert TrainOptions(params="5M").resolved().sparsity is None
    assert TrainOptions().resolved().sparsity == 0.5


@pytest.mark.parametrize("value", ["auto", 1, 8])
def test_widths_are_a_number_or_auto(value: object) -> None:
    assert PruneOptions(round_to=value).round_to == value  # type: ignore[arg-type]
    assert PruneOptions(round_to=str(value)).round_to == value  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0, -4, 1.5, "often", "0", "1.5", True, None, ""])
def test_other_widths_are_refused(value: object) -> None:
    with pytest.raises(UsageError, match=r"round.to"):
        PruneOptions(round_to=value)  # type: ignore[arg-type]


# --- a number or a text ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Mixed(Settings):
    either: float | str | None = setting(None, "A number or a text.")
    count: int | Literal["many", "few"] = setting(1, "A number or one of two words.")


def of_text(name: str, text: str) -> Any:
    return next(each for each in settings_of(Mixed) if each.name == name).of_text(text)


def test_what_is_no_number_is_the_text() -> None:
    assert of_text("either", "2") == 2.0
    assert of_text("either", "2MB") == "2MB"
    assert of_text("count", "3") == 3
    assert of_text("count", "many") == "many"
    with pytest.raises(UsageError, match="give a whole number or many or few"):
        of_text("count", "some")


def test_values_of_python_keep_their_kind() -> None:
    assert Mixed(either="2").either == "2"
    assert Mixed(either=2).either == 2.0
    assert Mixed(count="few").count == "few"
    for wrong in ([1], True, {}):
        with pytest.raises(UsageError):
            Mixed(either=wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError):
        Mixed(count=1.5)  # type: ignore[arg-type]


def test_only_one_number_and_one_text_are_a_kind() -> None:
    assert kind_of(float | str | None).optional
    assert not kind_of(float | str).optional
    assert kind_of(float | str).metavar == "FLOAT"
    with pytest.raises(TypeError, match="is no type of a setting"):
        kind_of(float | str | bool)


def test_a_word_or_a_path() -> None:
    kind = kind_of(Literal["self", "none"] | str | os.PathLike[str] | None)
    assert (kind.optional, kind.is_path) == (True, True)
    assert kind.of_value(None) is None
    assert kind.of_text("self") == "self"
    assert kind.of_text("self.onnx") == kind.of_value(Path("self.onnx")) == Path("self.onnx")
    assert isinstance(kind.of_text("./none"), Path)
    with pytest.raises(ValueError):  # noqa: PT011
        kind.of_value(3)
