"""Compiled sweeps against numpy's: the same bits for single elements, the same sums but for their order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_oto.optim import groups, stepper, workers
from onnx_oto.optim.directions import Adam, AdamW, Direction, Sgd
from onnx_oto.optim.groups import GroupIndex, Stretch
from onnx_oto.optim.stepper import Stepper

DIRECTIONS: dict[str, Direction] = {
    "plain": Sgd(0.0, False, 0.0),
    "momentum": Sgd(0.9, False, 0.01),
    "nesterov": Sgd(0.8, True, 0.01),
    "adam": Adam(weight_decay=0.01),
    "adamw": AdamW(weight_decay=0.02),
}


@contextmanager
def without_compiler() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in (stepper, groups):
            patch.setattr(module, "compiles", lambda *arrays: False)
        yield


@st.composite
def buffers(draw: st.DrawFn) -> tuple[int, GroupIndex]:
    """Blocks of rows of any length, some labelled, with gaps between them."""
    count, at, blocks = draw(st.integers(1, 6)), 0, []
    for _ in range(draw(st.integers(0, 4))):
        at += draw(st.integers(0, 5))
        outer, size = draw(st.integers(1, 3)), draw(st.integers(1, 9))
        inner = draw(st.sampled_from([1, 1, 2, 9, 300, 5000]))
        labels = np.array(draw(st.lists(st.integers(-1, count - 1), min_size=size, max_size=size)), np.int32)
        blocks.append(Stretch(at, outer, size, inner, labels))
        at = blocks[-1].stop
    return at + draw(st.integers(0, 5)), GroupIndex(tuple(blocks), count)


@settings(max_examples=80, deadline=None)
@given(
    case=buffers(),
    name=st.sampled_from(sorted(DIRECTIONS)),
    threads=st.integers(1, 3),
    kind=st.sampled_from([np.float32, np.float64]),
    piece=st.sampled_from([64, workers.PIECE]),
)
def test_steps_have_the_same_bits(
    case: tuple[int, GroupIndex], name: str, threads: int, kind: type, piece: int
) -> None:
    """Plain steps, turns, and steps apart and together with factors for groups; anything decayed anywhere."""
    size, index = case
    rng = np.random.default_rng(size)
    x, *gradients = rng.standard_normal((4, size)).astype(kind)
    factor = rng.uniform(0, 1, index.count)
    decayed = [slice(low, low + 3) for low in range(1, size - 3, 7)]

    def run() -> list[np.ndarray]:
        mine, fresh = x.copy(), GroupIndex(index.blocks, index.count, threads)
        taking = Stepper(DIRECTIONS[name], size, threads, kind, decayed=decayed)
        given_up = [gradient.copy() for gradient in gradients]
        taking.plain(mine, given_up[0], 0.1)
        moments = taking.turn_apart(mine, given_up[1], 0.1, fresh)
        taking.descend_together(mine, given_up[1], 0.1, fresh, factor)
        taking.turn(mine, given_up[2])
        fresh.zero(given_up[2], np.arange(index.count) % 2 == 0)
        return [mine, *given_up, *taking.slots.values(), np.array(taking.taken), *moments]

    with pytest.MonkeyPatch.context() as patch:
        for module in (stepper, groups, workers):
            patch.setattr(module, "PIECE", piece)
        compiled = run()
        with without_compiler():
            plain = run()
    exact, sums = len(compiled) - 3, 1e-4 if kind is np.float32 else 1e-9
    for one, other in zip(compiled[:exact], plain[:exact], strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(compiled[exact:], plain[exact:], strict=True):
        np.testing.assert_allclose(one, other, rtol=sums, atol=sums * np.abs(other).max(initial=1.0))


def test_any_number_of_threads_has_the_same_sums() -> None:
    labels = np.arange(40, dtype=np.int32) % 7
    blocks = (
        Stretch(5, 3, 40, 700, labels),
        Stretch(90_000, 1, 40, 4000, labels),
        Stretch(260_000, 50, 40, 1, labels),
    )
    size = 270_000
    x, g = np.random.default_rng(0).standard_normal((2, size)).astype(np.float32)
    found = []
    for threads in (1, 2, 4):
        stepper = Stepper(Sgd(), size, threads)
        found.append(stepper.turn_apart(x.copy(), g.copy(), 0.1, GroupIndex(blocks, 7, threads)))
    for other in found[1:]:
        np.testing.assert_array_equal(np.array(other), np.array(found[0]))
    assert np.array(found[0]).all()


def test_a_direction_of_ones_own_needs_no_compiled_rule() -> None:
    class Sign:
        rate, weight_decay, decoupled, slots = 0.1, 0.0, False, ()

        def turn(self, x: np.ndarray, g: np.ndarray, slots: object, step: int, scratch: np.ndarray) -> None:
            np.sign(g, out=g)

    x = np.ones(5, np.float32)
    Stepper(Sign(), 5).plain(x, np.arange(-2, 3).astype(np.float32), 0.5)
    np.testing.assert_array_equal(x, [1.5, 1.5, 1, 0.5, 0.5])
