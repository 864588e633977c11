"""What several ranks train is what one process trains with as many shards."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from onnx_oto import data
from onnx_oto.data import augment
from onnx_oto.errors import DivergedError, PeersError, UsageError
from onnx_oto.gradients import GradientSession, TrainingSpec, choose_backend, prepare
from onnx_oto.gradients.session import building
from onnx_oto.losses import CrossEntropy, weighted
from onnx_oto.optim import Dense, Sgd
from onnx_oto.peers.portions import Portion
from onnx_oto.peers.seam import ALONE, Peers
from onnx_oto.training import ClipNorm, Keeper, Places, Recipe, Selection, load_checkpoint, train

from .threads import ThreadPeers, together

BATCH = 10
TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N,1,8,8] image) => (float[N,3] logits)
<float r = {0.3}> {
    a = Conv<pads = [1,1,1,1]>(image, w1)
    b = BatchNormalization<momentum = 0.8>(a, s1, b1, m1, v1)
    c = Relu(b)
    h = GlobalAveragePool(c)
    i = Flatten(h)
    j = Dropout(i, r)
    logits = Gemm<transB = 1>(j, w4, b4)
}
"""
SHAPES = {"w1": (8, 1, 3, 3), "s1": (8,), "b1": (8,), "m1": (8,), "v1": (8,), "w4": (3, 8), "b4": (3,)}
TRAINED = ("w1", "s1", "b1", "w4", "b4")
LOSS = CrossEntropy(ignore=-1)


@pytest.fixture(autouse=True)
def no_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let sessions be built on several threads: the process that tries graphs first takes one job at a time."""
    monkeypatch.setattr(building, "require_survival", lambda *_: None)


def model() -> onnx.ModelProto:
    made, rng = parser.parse_model(TEXT), np.random.default_rng(0)
    for name, shape in SHAPES.items():
        array = rng.standard_normal(shape)
        array = 0.5 + np.abs(array) if name[0] in "vs" else array
        made.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    return made


def samples(*, mixup: float = 0.0) -> data.Dataset:
    """Return images of which some have no label, changed at random, and test images that fill no batch."""
    rng, tables = np.random.default_rng(1), {}
    for split, count in (("train", 45), ("test", 23)):
        x = rng.integers(0, 256, (count, 1, 8, 8)).astype(np.uint8)
        y = rng.integers(0, 3, count)
        y[::4] = -1 if not mixup else 0
        tables[split] = data.Table(split, {"image": x}, {"y": y})
    opening = data.Tables(tables["train"], tables["test"])
    targets = prepared(ALONE, "shard", 2).targets
    found = opening.fit(
        {"image": data.Input((1, 8, 8), np.dtype(np.float32))},
        targets,
        augment=augment.Augment(flip=True, crop=1),
    )
    return data.weigh(found, targets, mixup=mixup) if mixup else found


def prepared(peers: Peers, statistics: str, shards: int, **more: Any) -> Any:
    spec = TrainingSpec(
        TRAINED, LOSS, BATCH, shards, target_shapes={"y": ()}, statistics=statistics, portion=peers.portion
    )
    return prepare(model(), replace(spec, **more), choose_backend("auto"))


@dataclass(frozen=True)
class Trained:
    """What came of a run."""

    params: np.ndarray
    buffers: dict[str, np.ndarray]
    losses: tuple[float, ...]
    scores: tuple[float | None, ...]
    rows: np.ndarray | None


def trained(peers: Peers, shards: int, recipe: Recipe, dataset: data.Dataset, **seams: Any) -> Trained:
    """Train, and return what came of it."""
    session = prepared(peers, "shard", shards, loss=recipe.loss).build(peers=peers)
    try:
        optimizer = Dense(Sgd(momentum=0.9), session.params.size)
        seams = {name: make(session, peers) for name, make in seams.items()}
        history = train(session, optimizer, dataset, recipe, peers=peers, **seams)
        ends = history.epochs
        return Trained(
            session.params.copy(),
            {name: value.copy() for name, value in session.buffers.items()},
            tuple(each.loss for each in ends),
            tuple(score for each in ends for score in (each.value, each.test_loss)),
            session.rows,
        )
    finally:
        session.close()


RECIPE = Recipe(3, BATCH, lambda step: 0.1, LOSS, seed=5, evaluation_batch=4)
CASES = {
    "labels that are ignored": RECIPE,
    "a step of two batches": replace(RECIPE, accumulate=2),
    "a gradient that is clipped": replace(RECIPE, transforms=(ClipNorm(0.05),)),
}


@pytest.mark.parametrize("recipe", CASES.values(), ids=CASES)
def test_two_ranks_give_the_bits_of_two_shards(recipe: Recipe) -> None:
    dataset = samples()
    alone = trained(ALONE, 2, recipe, dataset)
    first, second = together(2, lambda peers: trained(peers, 2, recipe, dataset))
    for found in (first, second):
        np.testing.assert_array_equal(found.params, alone.params)
        assert found.losses == alone.losses
        assert found.scores == alone.scores
        for name, value in alone.buffers.items():
            np.testing.assert_array_equal(found.buffers[name], value)
    assert first.rows is not None
    assert second.rows is not None
    assert [*first.rows, *second.rows] == list(range(BATCH))
    assert alone.rows is None


def test_mixed_samples_are_mixed_alike() -> None:
    dataset, recipe = samples(mixup=0.4), replace(RECIPE, loss=weighted(LOSS, mixed=True))
    alone = trained(ALONE, 2, recipe, dataset)
    for found in together(2, lambda peers: trained(peers, 2, recipe, dataset)):
        np.testing.assert_allclose(found.params, alone.params, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("ranks", "shards"), [(3, 3), (2, 5), (4, 4)])
def test_sums_in_another_order_are_as_good(ranks: int, shards: int) -> None:
    dataset = samples()
    alone = trained(ALONE, shards, RECIPE, dataset)
    found = together(ranks, lambda peers: trained(peers, shards, RECIPE, dataset))
    for each in found:
        np.testing.assert_array_equal(each.params, found[0].params)
        np.testing.assert_allclose(each.params, alone.params, rtol=0, atol=1e-6)
        np.testing.assert_allclose(each.buffers["v1"], alone.buffers["v1"], rtol=1e-6)


def test_one_that_wishes_to_stop_stops_all(tmp_path: Path) -> None:
    def work(peers: ThreadPeers) -> int:
        asked = iter([False, False, peers.rank == 1, True])
        keeper = Keeper(Places(tmp_path / "state.npz"), writes=peers.rank == 0)
        trained(peers, 2, RECIPE, samples(), stop=lambda *_: lambda: next(asked), keeper=lambda *_: keeper)
        return load_checkpoint(tmp_path / "state.npz").progress.step if peers.rank == 0 else 2

    assert together(2, work) == [2, 2]


def test_all_diverge_together() -> None:
    recipe = replace(RECIPE, lr=lambda step: 1e30)
    with pytest.raises(DivergedError, match="diverged"):
        together(2, lambda peers: trained(peers, 2, recipe, samples()))


def test_other_bits_are_noticed() -> None:
    """A rank whose processor rounds otherwise."""

    def off(session: GradientSession, peers: Peers) -> Selection:
        session.params[:1] += 1e-7 * peers.rank
        return Selection()

    with pytest.raises(PeersError, match="rank 1 does not hold the same parameters as rank 0"):
        together(2, lambda peers: trained(peers, 2, RECIPE, samples(), selection=off))


@pytest.mark.parametrize(
    ("ranks", "shards", "statistics", "message"),
    [
        (BATCH + 1, 0, "shard", "11 ranks share batches of 10"),
        (3, 2, "shard", "shards is 2, and 3 ranks share them"),
        (2, 2, "batch", "--statistics shard"),
    ],
)
def test_what_cannot_be_shared(ranks: int, shards: int, statistics: str, message: str) -> None:
    class Many:
        portion = Portion(0, ranks, 1)

    with pytest.raises(UsageError, match=message):
        _ = prepared(Many(), statistics, shards).refusals  # type: ignore[arg-type]
