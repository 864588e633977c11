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
