"""Settings check themselves, say the same of the same mistake, and hold one form of what means the same."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from onnx_oto.errors import UsageError
from onnx_oto.pipeline.options import (
    CompactOptions,
    DemoOptions,
    InspectOptions,
    PruneOptions,
    TrainOptions,
    VerifyOptions,
)
from onnx_oto.settings import AnalysisOptions, Settings, setting, settings_of
from onnx_oto.settings.base import named

EVERY = (
    AnalysisOptions, CompactOptions, DemoOptions, InspectOptions, PruneOptions, TrainOptions, VerifyOptions,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Base(Settings):
    patterns: Sequence[str] = setting((), "Patterns.")


@dataclass(frozen=True, kw_only=True)
class Sample(Base):
    count: int = setting(1, "How many.")
    rate: float | None = setting(None, "How fast.")
    on: bool = setting(False, "Whether.")
    name: str = setting("a", "Which.")
    place: str | os.PathLike[str] | None = setting(None, "Where.")
    means: tuple[float, ...] = setting((), "Numbers.")
    mode: Literal["fast", "slow"] = setting("fast", "How.")


@pytest.mark.parametrize("kind", EVERY)
def test_every_field_has_a_help_that_is_a_sentence(kind: type[Settings]) -> None:
    for each in settings_of(kind):
        assert each.help[:1].isupper()
        assert each.help.endswith(".")
        assert "\n" not in each.help
    assert {each.name for each in settings_of(kind)} == {each.name for each in fields(kind)}


@pytest.mark.parametrize("kind", EVERY)
def test_defaults_pass_their_own_checks_and_are_what_the_fields_say(kind: type[Settings]) -> None:
    assert {each.name: getattr(kind(), each.name) for each in settings_of(kind)} == {
        each.name: each.default for each in settings_of(kind)
    }


def test_own_fields_come_before_those_of_bases() -> None:
    assert [each.name for each in settings_of(Sample)][-1] == "patterns"


@pytest.mark.parametrize(
    ("given", "held"),
    [
        ({"patterns": ["a", "b"]}, ("a", "b")),
        ({"patterns": "a*"}, ("a*",)),
        ({"count": np.int64(3)}, 3),
        ({"rate": 1}, 1.0),
        ({"rate": np.float32(0.5)}, 0.5),
        ({"rate": None}, None),
        ({"place": "x/y"}, Path("x/y")),
        ({"means": [1, 0.5]}, (1.0, 0.5)),
        ({"means": 2}, (2.0,)),
        ({"mode": "slow"}, "slow"),
    ],
)
def test_what_means_the_same_is_held_in_one_form(given: dict[str, object], held: object) -> None:
    (name,) = given
    found = getattr(Sample(**given), name)
    assert (found, type(found)) == (held, type(held))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"count": 1.0}, "count is 1.0: give a whole number"),
        ({"count": True}, "count is True: give a whole number"),
        ({"count": "1"}, "count is '1': give a whole number"),
        ({"count": None}, "count is None: give a whole number"),
        ({"rate": "fast"}, "rate is 'fast': give a number"),
        ({"rate": True}, "rate is True: give a number"),
        ({"on": 1}, "on is 1: give true or false"),
        ({"name": 3}, "name is 3: give a text"),
        ({"place": 3}, "place is 3: give a path"),
        ({"place": ""}, "place is '': give a path"),
        ({"means": "1,2"}, "means is '1,2': give a number, or several such as 1,2,3"),
        ({"mode": "quick"}, "mode is 'quick': choose one of fast, slow"),
        ({"patterns": ["a", 1]}, "patterns is"),
        ({"patterns": 1}, "patterns is 1: give a list of which each is a text"),
    ],
)
def test_what_is_of_another_kind_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Sample(**given)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "value"),
    [("count 7", 7), ("rate 1e-3", 0.001), ("means 0.49,0.48", (0.49, 0.48)), ("place a b", Path("a b"))],
)
def test_a_text_of_the_command_line_means_a_value(text: str, value: object) -> None:
    name, _, text = text.partition(" ")
    (known,) = (each for each in settings_of(Sample) if each.name == name)
    assert known.of_text(text) == value


def test_an_annotation_without_a_kind_names_where_to_add_it() -> None:
    @dataclass(frozen=True)
    class Odd(Settings):
        odd: complex = setting(1j, "Odd.")

    with pytest.raises(
        TypeError, match="complex'> is no type of a setting: add it to onnx_oto/settings/kinds"
    ):
        Odd()


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("sparsty", "there is no setting 'sparsty': did you mean 'sparsity'?"),
        ("weight-decy", "there is no setting 'weight-decy': did you mean 'weight-decay'?"),
        ("polish", "there is no setting 'polish'"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(key: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        named({key: 1}, settings_of(TrainOptions))
    assert str(caught.value) == message


def test_a_name_may_be_written_with_either_line_but_not_with_both() -> None:
    known = settings_of(TrainOptions)
    assert named({"weight-decay": 1}, known) == named({"weight_decay": 1}, known) == {"weight_decay": 1}
    with pytest.raises(UsageError, match="'weight_decay' is given twice"):
        named({"weight-decay": 1, "weight_decay": 2}, known)


# --- those of the verbs -----------------------------------------------------------------------------------------------
def test_no_setting_has_two_meanings() -> None:
    """What two verbs call alike is of one kind, with the same choices."""
    seen: dict[str, tuple[object, ...]] = {}
    for kind in EVERY:
        for each in settings_of(kind):
            what = (each.kind.wanted, each.kind.choices, each.about.metavar)
            assert seen.setdefault(each.name, what) == what, each.name


@pytest.mark.parametrize(("direction", "lr"), [("sgd", 0.1), ("adam", 1e-3), ("adamw", 1e-3)])
def test_the_learning_rate_follows_the_direction_unless_given(direction: str, lr: float) -> None:
    options = TrainOptions(direction=direction)
    assert options.lr is None
    assert options.learning_rate == options.resolved().lr == lr
    assert TrainOptions(direction=direction, lr=0.3).resolved().lr == 0.3


def test_memory_is_bytes_or_a_text_with_a_unit() -> None:
    assert CompactOptions(limit_memory="8GB") == CompactOptions(limit_memory=8e9)
    for wrong in ("8 apples", "0GB", ""):
        with pytest.raises(UsageError, match=r"limit-memory is .*: write a size of memory such as 8GB"):
            CompactOptions(limit_memory=wrong)
    for number in (0, -1, math.inf, math.nan):
        with pytest.raises(UsageError, match=r"limit-memory is .*: give a positive number"):
            CompactOptions(limit_memory=number)
