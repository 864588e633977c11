"""Every metric against a kept library or its formula, however the samples are split into batches."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from sklearn import metrics as sk

from onnx_oto.errors import DataError, UsageError
from onnx_oto.losses import LOSSES, Judged, Loss
from onnx_oto.losses import make as make_loss
from onnx_oto.metrics import METRICS, Metric, make, metrics_for

Array = np.ndarray[Any, Any]
CLASSES = 7
TOLERANCE = 1e-12  # relative: both sides are float64 sums in another order


@dataclass(frozen=True)
class Case:
    """A metric for a loss, with outputs and targets by seed, and what the library says of them."""

    id: str
    metric: str
    loss: str
    data: Callable[[np.random.Generator], tuple[Array, Array]]
    expected: Callable[[Array, Array], float]
    tolerance: float = TOLERANCE


def classified(
    *shape: int, ignored: int | None = None
) -> Callable[[np.random.Generator], tuple[Array, Array]]:
    """Return scores [12, CLASSES, *shape] and labels; one class is never meant nor predicted, one is never meant."""

    def draw(rng: np.random.Generator) -> tuple[Array, Array]:
        scores = rng.standard_normal((12, CLASSES, *shape))
        scores[:, 2] = -9.0
        labels = rng.choice([0, 1, 3, 4, 5], (12, *shape))
        if ignored is not None:
            labels[rng.random(labels.shape) < 0.3] = ignored
            labels[0] = ignored
        return scores, labels

    return draw


def numbers(*shape: int) -> Callable[[np.random.Generator], tuple[Array, Array]]:
    """Return images or vectors in [0, 1] and noisy copies."""

    def draw(rng: np.random.Generator) -> tuple[Array, Array]:
        target = rng.random((12, *shape))
        return target + 0.1 * rng.standard_normal(target.shape), target.astype(np.float32)

    return draw


def questions(*shape: int) -> Callable[[np.random.Generator], tuple[Array, Array]]:
    def draw(rng: np.random.Generator) -> tuple[Array, Array]:
        return rng.standard_normal((12, *shape)), rng.integers(0, 2, (12, *shape)).astype(np.float32)

    return draw


def taught(rng: np.random.Generator) -> tuple[Array, Array]:
    """Return scores and those of a teacher, who mostly agrees."""
    scores = rng.standard_normal((12, CLASSES))
    return scores, (scores + rng.standard_normal(scores.shape)).astype(np.float32)


def flat(scores: Array, labels: Array, ignored: int = -100) -> tuple[Array, Array]:
    """Return scores [M, K] and labels [M] that count."""
    rows, labels = np.moveaxis(scores, 1, -1).reshape(-1, scores.shape[1]), labels.reshape(-1)
    return rows[labels != ignored], labels[labels != ignored]


def by_label(
    judge: Callable[..., float], ignored: int = -100, **options: Any
) -> Callable[[Array, Array], float]:
    def expected(scores: Array, labels: Array) -> float:
        rows, truth = flat(scores, labels, ignored)
        return float(judge(truth, rows.argmax(axis=1), **options))

    return expected


def top_5(scores: Array, labels: Array) -> float:
    rows, truth = flat(scores, labels)
    return float(sk.top_k_accuracy_score(truth, rows, k=5, labels=range(CLASSES)))


def perplexity(scores: Array, labels: Array) -> float:
    rows, truth = flat(scores, labels)
    chance = np.exp(rows) / np.exp(rows).sum(axis=1, keepdims=True)
    return math.exp(sk.log_loss(truth, chance, labels=range(CLASSES)))


def each_image(judge: Callable[..., float], **options: Any) -> Callable[[Array, Array], float]:
    def expected(found: Array, target: Array) -> float:
        pairs = zip(found, target.astype(np.float64), strict=True)
        return float(np.mean([judge(true, guess, **options) for guess, true in pairs]))

    return expected


GAUSSIAN = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "channel_axis": 0}
CASES = [
    Case("accuracy", "accuracy", "cross-entropy", classified(), by_label(sk.accuracy_score)),
    Case(
        "accuracy, questions",
        "accuracy",
        "bce-with-logits",
        questions(4, 2),
        lambda z, t: float(sk.accuracy_score(t.ravel(), z.ravel() > 0)),
    ),
    Case("top-1", "top-1", "cross-entropy", classified(3), by_label(sk.accuracy_score)),
    Case("top-5", "top-5", "cross-entropy", classified(ignored=-100), top_5),
    Case(
        "tokens", "token-accuracy", "cross-entropy", classified(9, ignored=-100), by_label(sk.accuracy_score)
    ),
    Case(
        "mean-iou", "mean-iou", "cross-entropy", classified(3, 4), by_label(sk.jaccard_score, average="macro")
    ),
    Case(
        "mean-iou, 255",
        "miou",
        "cross-entropy:ignore=255",
        classified(3, 4, ignored=255),
        by_label(sk.jaccard_score, 255, average="macro"),
    ),
    Case(
        "mean-iou, a class ignored",
        "mean-iou",
        "cross-entropy:ignore=3",
        classified(3),
        by_label(sk.jaccard_score, 3, average="macro"),
    ),
    Case("f1", "f1", "cross-entropy", classified(ignored=-100), by_label(sk.f1_score, average="macro")),
    Case(
        "f1, one question",
        "f1",
        "bce-with-logits",
        questions(),
        lambda z, t: float(sk.f1_score(t, z > 0)),
    ),
    Case(
        "f1, questions",
        "f1",
        "bce-with-logits",
        questions(4),
        lambda z, t: float(sk.f1_score(t, z > 0, average="macro", zero_division=np.nan)),
    ),
    Case(
        "f1, pixels",
        "f1",
        "bce-with-logits",
        questions(1, 3, 4),
        lambda z, t: float(sk.f1_score(t.ravel(), z.ravel() > 0)),
    ),
    Case("perplexity", "perplexity", "cross-entropy", classified(2, ignored=-100), perplexity),
    Case("perplexity, smooth", "perplexity", "cross-entropy:smoothing=0.2", classified(2), perplexity),
    Case("mae", "mae", "mse", numbers(3), lambda p, t: float(sk.mean_absolute_error(t, p))),
    Case("r2", "r2", "mse", numbers(3), lambda p, t: float(sk.r2_score(t, p))),
    Case("r2, one number", "r2", "l1", numbers(), lambda p, t: float(sk.r2_score(t, p))),
    Case("psnr", "psnr", "mse", numbers(3, 8, 8), each_image(peak_signal_noise_ratio, data_range=1.0)),
    Case(
        "psnr, range",
        "psnr:range=255",
        "smooth-l1",
        numbers(3, 8, 8),
        each_image(peak_signal_noise_ratio, data_range=255),
    ),
    Case(
        "ssim",
        "ssim",
        "l1",
        numbers(2, 16, 13),
        each_image(structural_similarity, data_range=1.0, **GAUSSIAN),
    ),
    Case(
        "ssim, range",
        "ssim:range=2",
        "mse",
        numbers(1, 11, 12),
        each_image(structural_similarity, data_range=2.0, **GAUSSIAN),
    ),
    Case(
        "relative-error",
        "relative-error",
        "mse",
        numbers(3),
        lambda p, t: float(
            np.linalg.norm((p - t).ravel(), 1) / np.linalg.norm(t.astype(np.float64).ravel(), 1)
        ),
    ),
    Case(
        "agreement",
        "agreement",
        "distill:temperature=3",
        taught,
        lambda s, t: float(sk.accuracy_score(t.argmax(axis=1), s.argmax(axis=1))),
    ),
    Case("loss", "loss", "mse", numbers(3), lambda p, t: float(sk.mean_squared_error(t, p))),
    Case(
        "loss of labels",
        "loss",
        "cross-entropy",
        classified(2, ignored=-100),
        lambda s, y: math.log(perplexity(s, y)),
    ),
]


def found(metric: Metric, loss: Loss, output: Array, target: Array, sizes: list[int]) -> float:
    """Return the metric over batches of these sizes."""
    tally, start = metric.start(), 0
    for size in sizes:
        part = slice(start, start + size)
        (name,) = loss.targets([(size, *output.shape[1:])])
        tally.add(loss.judge([output[part]], {name: target[part]}, size))
        start += size
    assert start == len(output)
    return tally.value


def test_every_metric_has_a_case() -> None:
    assert set(METRICS) <= {make(case.metric).name for case in CASES}
    for name in METRICS:
        assert make(name).name == name
        assert make(name).better in ("higher", "lower")
        assert (make(name).point or 1) > 0
        assert make(name).text


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), cuts=st.sets(st.integers(1, 11), max_size=11))
def test_it_agrees_with_the_library_however_the_batches_are_cut(
    case: Case, seed: int, cuts: set[int]
) -> None:
    output, target = case.data(np.random.default_rng(seed))
    expected = case.expected(output, target)
    edges = [0, *sorted(cuts), 12]
    sizes = [stop - start for start, stop in itertools.pairwise(edges)]
    loss = make_loss(case.loss)
    assert found(make(case.metric), loss, output, target, sizes) == pytest.approx(
        expected, rel=case.tolerance
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_better_is_what_a_better_prediction_gets(case: Case) -> None:
    output, target = case.data(np.random.default_rng(3))
    if target.dtype.kind == "i":
        known = np.where((target >= CLASSES) | (target < 0), 0, target)
        right = np.moveaxis(np.eye(CLASSES)[known], -1, 1) * 9
        output = -right
    else:
        right = (2 * target - 1.0) * 9 if case.loss == "bce-with-logits" else target + 1e-3
    loss, metric = make_loss(case.loss), make(case.metric)
    worse, better = (found(metric, loss, guess, target, [12]) for guess in (output, right))
    assert better > worse if metric.better == "higher" else better < worse


@pytest.mark.parametrize("name", METRICS)
def test_an_empty_tally_is_not_a_number(name: str) -> None:
    assert math.isnan(make(name).start().value)


def test_equal_scores_go_to_the_first_class() -> None:
    loss = make_loss("cross-entropy")
    scores, labels = np.zeros((3, 8)), np.array([0, 4, 5])
    assert found(make("top-5"), loss, scores, labels, [3]) == pytest.approx(2 / 3)
    assert found(make("accuracy"), loss, scores, labels, [3]) == pytest.approx(1 / 3)


def test_scores_that_are_not_numbers_are_never_right() -> None:
    scores = np.full((2, 8), np.nan)
    judged = Judged(np.zeros(2), np.ones(2), scores, np.array([3, 7]))
    for name in ("accuracy", "top-5"):
        tally = make(name).start()
        tally.add(judged)
        assert tally.value == 0.0


def test_questions_that_nobody_answers_with_yes() -> None:
    loss = make_loss("bce-with-logits")
    no, target = -np.ones((4, 2)), np.zeros((4, 2), np.float32)
    assert found(make("f1"), loss, no, target, [4]) == 0.0
    target[0, 0] = 1.0
    assert found(make("f1"), loss, np.where(target > 0, 1.0, -1.0), target, [4]) == 1.0


def test_images_that_are_met_exactly() -> None:
    loss, image = make_loss("mse"), np.random.default_rng(0).random((2, 1, 11, 11)).astype(np.float32)
    assert found(make("psnr"), loss, image, image, [2]) == math.inf
    assert found(make("ssim"), loss, image, image, [2]) == pytest.approx(1.0)


def test_a_number_that_never_changes_does_not_break_r2() -> None:
    target = np.array([[1.0, 2.0], [3.0, 2.0], [5.0, 2.0]], np.float32)
    guess = target + np.array([[0.0, 1.0]])
    expected = sk.r2_score(target, guess)
    assert found(make("r2"), make_loss("mse"), guess, target, [1, 2]) == pytest.approx(expected)
    assert found(make("r2"), make_loss("mse"), target, target, [3]) == 1.0


def test_r2_keeps_its_digits_far_from_zero() -> None:
    rng = np.random.default_rng(1)
    target = rng.standard_normal((12, 2)) + 1e7
    guess = target + 0.3 * rng.standard_normal((12, 2))
    assert found(make("r2"), make_loss("mse"), guess, target, [5, 7]) == pytest.approx(
        sk.r2_score(target, guess), rel=1e-6
    )


@pytest.mark.parametrize("shape", [(3, 10, 32), (16,)])
def test_ssim_needs_images_that_hold_its_window(shape: tuple[int, ...]) -> None:
    image = np.zeros((2, *shape), np.float32)
    with pytest.raises(DataError, match=r"ssim: images have shape .* at least 11 pixels"):
        found(make("ssim"), make_loss("mse"), image, image, [2])


@pytest.mark.parametrize(
    ("loss", "metrics", "names"),
    [
        ("cross-entropy", [], ["accuracy"]),
        ("mse", [], ["loss"]),
        ("bce-with-logits", [], ["loss"]),
        ("output", [], ["loss"]),
        ("cross-entropy", ["top-1", "miou", "loss"], ["accuracy", "mean-iou", "loss"]),
        ("mse", ["psnr:range=2"], ["psnr"]),
    ],
)
def test_metrics_of_a_loss(loss: str, metrics: list[str], names: list[str]) -> None:
    assert [metric.name for metric in metrics_for(make_loss(loss), metrics)] == names


@pytest.mark.parametrize("loss", LOSSES)
def test_the_default_of_every_loss_suits_it(loss: str) -> None:
    assert len(metrics_for(make_loss(loss))) == 1


@pytest.mark.parametrize(
    ("loss", "metrics", "message"),
    [
        ("mse", ["accuracy"], "metric 'accuracy' cannot be computed for the loss 'mse': choose from mae, r2"),
        (
            "cross-entropy",
            ["ssim"],
            "choose from accuracy, top-5, token-accuracy, mean-iou, f1, perplexity, loss",
        ),
        ("output", ["mae"], "cannot be computed for the loss 'output': choose from loss"),
        ("cross-entropy", ["top-1", "accuracy"], "metric 'accuracy' is asked for twice"),
        ("mse", ["vmaf"], "unknown metric 'vmaf': choose one of accuracy"),
        ("mse", ["mae:range=1"], "metric 'mae' has no option 'range': it has none"),
        ("mse", ["psnr:range=0"], "range of psnr is 0: give a positive number"),
    ],
)
def test_metrics_that_do_not_suit(loss: str, metrics: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        metrics_for(make_loss(loss), metrics)
