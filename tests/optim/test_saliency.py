"""Criteria on groups small enough to compute by hand."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_oto.optim.groups import GroupIndex, Moments, Stretch
from onnx_oto.optim.saliency import SALIENCIES, Average, cosine, magnitude, paper, taylor

# Groups: (3, 4) with gradient (-3, -4); (1, 0) with (2, 0); (0, 0) with (1, 1).
X = np.array([3.0, 4.0, 1.0, 0.0, 0.0, 0.0])
G = np.array([-3.0, -4.0, 2.0, 0.0, 1.0, 1.0])
INDEX = GroupIndex((Stretch(0, 1, 3, 2, np.arange(3, dtype=np.int32)),), 3)


def test_criteria_by_hand() -> None:
    moments = INDEX.moments(X, G)
    rms = np.sqrt([25 / 2, 1 / 2, 0])
    np.testing.assert_allclose(magnitude(moments, INDEX.sizes), rms)
    np.testing.assert_allclose(cosine(moments, INDEX.sizes), [1.0, -1.0, 0.0])
    np.testing.assert_allclose(taylor(moments, INDEX.sizes), [25.0, 2.0, 0.0])
    np.testing.assert_allclose(
        paper(moments, INDEX.sizes), [0.5 + 0.5, 0.5 * rms[1] / rms[0] + 0.0, 0.0 + 0.25]
    )


def test_magnitude_does_not_prefer_large_groups() -> None:
    """Sixteen ones are as important as four."""
    labels = np.array([0] * 16 + [1] * 4, np.int32)
    index = GroupIndex((Stretch(0, 1, 20, 1, labels),), 2)
    x = np.ones(20)
    scores = magnitude(index.moments(x, x), index.sizes)
    assert scores[0] == scores[1] == 1.0


def test_the_average_is_the_mean_and_survives_one_bad_batch() -> None:
    average = Average(taylor, np.array([1, 1]))
    for xy in ([1.0, 3.0], [3.0, -5.0], [np.nan, np.inf], [0.0, 0.0]):
        average.add(Moments(np.ones(2), np.array(xy), np.ones(2)))
    np.testing.assert_array_equal(average.scores(), [1.0, 2.0])


@pytest.mark.parametrize("name", SALIENCIES)
def test_scores_are_finite_for_zero_groups_and_empty_indices(name: str) -> None:
    zero = Moments(np.zeros(2), np.zeros(2), np.zeros(2))
    assert np.isfinite(SALIENCIES[name](zero, np.array([3, 0]))).all()
    none = Moments(np.zeros(0), np.zeros(0), np.zeros(0))
    assert SALIENCIES[name](none, np.zeros(0, np.int64)).shape == (0,)
