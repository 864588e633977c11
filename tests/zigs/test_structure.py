"""What was learned stands out of what was drawn."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_oto.zigs.structure import shuffled, structure


def drawn(shape, kind: str, rng: np.random.Generator) -> np.ndarray:
    if kind == "orthogonal":
        flat = rng.standard_normal((shape[0], int(np.prod(shape[1:]))))
        u, _, v = np.linalg.svd(flat, full_matrices=False)
        return (u @ v).reshape(shape)
    if kind == "scaled":  # as folding a norm makes them
        return rng.standard_normal(shape) * np.exp(rng.standard_normal((shape[0], *[1] * (len(shape) - 1))))
    return {"normal": rng.standard_normal, "uniform": rng.random}[kind](shape) - (
        0.5 if kind == "uniform" else 0
    )


@pytest.mark.parametrize("kind", ["normal", "uniform", "orthogonal", "scaled"])
@pytest.mark.parametrize("seed", range(5))
def test_fresh_weights_have_none(kind, seed):
    rng = np.random.default_rng(seed)
    shapes = [(16, 3, 3, 3), (32, 16, 3, 3), (32, 32), (10, 32)]
    assert structure([drawn(shape, kind, rng) for shape in shapes], rng) < 0


@pytest.mark.parametrize("seed", range(5))
def test_weights_that_share_a_direction_have_some_in_any_scale(seed):
    rng = np.random.default_rng(seed)
    weights = []
    for shape in [(16, 3, 3, 3), (32, 16, 3, 3), (300, 700)]:
        flat = rng.standard_normal((shape[0], int(np.prod(shape[1:]))))
        flat += 0.6 * np.outer(rng.standard_normal(len(flat)), rng.standard_normal(flat.shape[1]))
        weights.append((flat * np.exp(rng.standard_normal((len(flat), 1)))).reshape(shape))
    assert structure(weights, rng) > 0.02
    assert structure([shuffled(weight, rng) for weight in weights], rng) < 0


def test_what_is_too_small_or_empty_says_nothing():
    rng = np.random.default_rng(0)
    assert structure([], rng) is None
    assert structure([np.ones(500), np.ones((3, 300)), np.zeros((20, 20))], rng) is None


def test_it_is_the_same_for_the_same_seed_and_leaves_weights_alone():
    weight = np.random.default_rng(1).standard_normal((40, 50)).astype(np.float32)
    before = weight.copy()
    one, two = (structure([weight], np.random.default_rng(2)) for _ in range(2))
    assert one == two
    assert np.array_equal(weight, before)
