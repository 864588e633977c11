"""Why a model is not as fast as it is small: times by hand, whose parts are known."""

from __future__ import annotations

import pytest

from onnx_oto.pipeline.gap import Gap, Steps, Work, gap

FULL = Work(10.0, {"Conv": 8.0, "Add": 1.0}, 1000)


def test_as_its_macs_tell():
    found = gap(FULL, Work(5.0, {"Conv": 4.0, "Add": 0.5}, 500), 2.0)
    assert found.ms == pytest.approx(0.0)
    assert found.parts == {}
    assert list(found.sentences()) == ["2.00x as fast with 2.00x fewer MACs: as its MACs tell"]


def test_every_part_is_told_with_what_makes_it():
    """Half of the MACs: Conv should take 4 and takes 5, Add 0.5 and takes 1, the rest 0.5 and takes 1."""
    found = gap(FULL, Work(7.0, {"Conv": 5.0, "Add": 1.0}, 500, (30, 33)), 10 / 7, Steps(4, 16))
    assert found.ms == pytest.approx(2.0)
    assert found.parts == pytest.approx({"multiplying": 1.0, "moving": 0.5, "outside": 0.5})
    line, steps = found.sentences()
    assert line.startswith(
        "1.43x as fast with 2.00x fewer MACs; it takes 2 ms longer than those tell, 50% of it in Conv,"
    )
    assert "25% of it in Add, which multiply nothing" in line
    assert "25% of it outside of operators" in line
    assert "2 of 2 convolutions have widths that are no multiple of 4" in steps
    assert "--round-to 16" in steps


def test_small_parts_are_left_out_and_names_are_few():
    moved = dict.fromkeys(("Add", "Mul", "Relu", "Pad"), 1.0)
    found = gap(Work(8.0, {"Conv": 8.0}, 1000), Work(8.2, {"Conv": 4.2, **moved}, 500), 0.98)
    (line,) = found.sentences()
    assert "Add, Mul and Pad" in line
    assert "Conv" not in line
    assert "Relu" not in line


@pytest.mark.parametrize(
    ("other", "speed_up", "said"),
    [
        (Work(4.0, {"Conv": 3.5}, 500), 2.5, "2.50x as fast with 2.00x fewer MACs: more than its MACs tell"),
        (Work(10.0, {"Conv": 9.0}, 1000), 1.0, "1.00x as fast with 1.00x fewer MACs"),
        (Work(20.0, {"Conv": 19.0}, 2000), 0.5, "0.50x as fast with 2.00x more MACs"),
        (Work(1.0, {}, 0), 10.0, "10.00x as fast with 1.00x fewer MACs: more than its MACs tell"),
    ],
)
def test_others(other, speed_up, said):
    assert next(gap(FULL, other, speed_up).sentences()).startswith(said)


@pytest.mark.parametrize(
    ("steps", "widths", "said"),
    [
        (Steps(4, 16), (32, 48), ""),
        (Steps(4, 16), (32, 40), "1 of 2 convolutions have widths between two steps of 16"),
        (Steps(4, 16), (8, 12), ""),
        (Steps(1, 1), (7, 9), ""),
        (Steps(8, 8), (9, 16, 4), "2 of 3 convolutions have widths that are no multiple of 8"),
    ],
)
def test_widths_off_the_steps(steps, widths, said):
    told = steps.told(widths)
    assert told.startswith(said)
    assert bool(told) == bool(said)


def test_a_gap_without_parts_says_no_reason():
    assert list(Gap(1.0, 2.0, 3.0).sentences()) == [
        "1.00x as fast with 2.00x fewer MACs; it takes 3 ms longer than those tell"
    ]
