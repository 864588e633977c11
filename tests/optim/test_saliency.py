"""Criteria on groups small enough to compute by hand."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_oto.optim.groups import GroupIndex, Moments, Stretch
from onnx_oto.optim.saliency import (
    SALIENCIES,
    Average,
    Seen,
    cosine,
    magnitude,
    mixed,
    paper,
    scale,
    taylor,
    taylor2,
)

# Groups: (3, 4) with gradient (-3, -4); (1, 0) with (2, 0); (0, 0) with (1, 1).
X = np.array([3.0, 4.0, 1.0, 0.0, 0.0, 0.0])
G = np.array([-3.0, -4.0, 2.0, 0.0, 1.0, 1.0])
INDEX = GroupIndex((Stretch(0, 1, 3, 2, np.arange(3, dtype=np.int32)),), 3)


def seen(index: GroupIndex, x: np.ndarray, g: np.ndarray) -> Seen:
    return Seen(index.moments(x, g), index.sizes, index.norm_scales(x))


def test_criteria_by_hand() -> None:
    found = seen(INDEX, X, G)
    rms = np.sqrt([25 / 2, 1 / 2, 0])
    np.testing.assert_allclose(magnitude(found), rms)
    np.testing.assert_allclose(cosine(found), [1.0, -1.0, 0.0])
    np.testing.assert_allclose(taylor(found), [25.0, 2.0, 0.0])
    np.testing.assert_allclose(taylor2(found), [625.0, 4.0, 0.0])
    np.testing.assert_allclose(paper(found), [0.5 + 0.5, 0.5 * rms[1] / rms[0] + 0.0, 0.0 + 0.25])


def test_mixed_is_the_mean_of_five_of_one_scale() -> None:
    parts = np.array([[5, 1, 0], np.sqrt([25 / 2, 1 / 2, 0]), [2, 0, 1], [25, 2, 0], [625, 4, 0]], np.float64)
    expected = (parts / np.sqrt((parts**2).mean(1, keepdims=True))).mean(0)
    np.testing.assert_allclose(mixed(seen(INDEX, X, G)), expected)


def test_magnitude_does_not_prefer_large_groups() -> None:
    """Sixteen ones are as important as four."""
    labels = np.array([0] * 16 + [1] * 4, np.int32)
    index = GroupIndex((Stretch(0, 1, 20, 1, labels),), 2)
    x = np.ones(20)
    scores = magnitude(seen(index, x, x))
    assert scores[0] == scores[1] == 1.0


def test_scale_reads_the_scales_of_norms_and_elsewhere_the_magnitude() -> None:
    """Groups 0 and 1 have a filter of two and a scale, group 1 a second scale; groups 2 and 3 a filter alone."""
    labels = np.arange(4, dtype=np.int32)
    index = GroupIndex(
        (
            Stretch(0, 1, 4, 2, labels),
            Stretch(8, 1, 2, 1, labels[:2], is_scale=True),
            Stretch(10, 1, 1, 1, labels[1:2], is_scale=True),
        ),
        4,
    )
    x = np.array([100, 100, 0.1, 0.1, 3, 4, 6, 8, -1, 3, 3], np.float64)
    np.testing.assert_allclose(scale(seen(index, x, x)), np.array([1, 3, 2 / 3 * 2, 4 / 3 * 2]) / 2)
    half = index.subset(np.array([True, False, True, False]))
    np.testing.assert_array_equal(half.norm_scales(x), [1, np.nan, np.nan, np.nan])


def test_the_average_is_the_mean_and_survives_one_bad_batch() -> None:
    index = GroupIndex((Stretch(0, 1, 2, 1, np.arange(2, dtype=np.int32)),), 2)
    average = Average(taylor, index)
    for slope in ([1.0, 3.0], [3.0, -5.0], [np.nan, np.inf], [0.0, 0.0]):
        average.add(np.ones(2), np.array(slope))
    np.testing.assert_array_equal(average.scores(), [1.0, 2.0])
    average.begin()
    np.testing.assert_array_equal(average.scores(), [0.0, 0.0])


@pytest.mark.parametrize("name", SALIENCIES)
def test_scores_are_finite_for_zero_groups_and_empty_indices(name: str) -> None:
    zero = Seen(Moments(np.zeros(2), np.zeros(2), np.zeros(2)), np.array([3, 0]), np.array([0.0, np.nan]))
    assert np.isfinite(SALIENCIES[name](zero)).all()
    none = Seen(
        Moments(np.zeros(0), np.zeros(0), np.zeros(0)), np.zeros(0, np.int64), np.zeros(0, np.float64)
    )
    assert SALIENCIES[name](none).shape == (0,)
