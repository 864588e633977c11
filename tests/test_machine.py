"""What a process does with its machine while it analyses."""

from __future__ import annotations

import gc

import pytest

from onnx_oto.machine import without_collecting


@without_collecting()
def collects() -> bool:
    """Return whether garbage is collected inside."""
    return gc.isenabled()


def test_garbage_is_left_alone_for_a_while_and_collected_again() -> None:
    assert gc.isenabled()
    assert not collects()
    assert not collects()
    assert gc.isenabled()


def test_garbage_is_collected_again_after_an_error() -> None:
    with pytest.raises(ValueError, match="gone"), without_collecting():
        raise ValueError("gone")
    assert gc.isenabled()


def test_who_switched_collecting_off_finds_it_off() -> None:
    gc.disable()
    try:
        assert not collects()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_what_was_made_meanwhile_counts_as_old() -> None:
    made: list[list[int]] = []
    gc.collect()
    with without_collecting():
        made.extend([i] for i in range(5000))
    young = {id(each) for generation in (0, 1) for each in gc.get_objects(generation)}
    assert young.isdisjoint(map(id, made))
    assert gc.get_freeze_count() == 0
