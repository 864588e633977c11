"""Budgets of a verb: counted for a file, kept by the compact model itself, and told."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from contract.builder import build
from contract.random_check import random_model
from contract.rows import Row
from contract.test_ops import ROWS
from optim.progressive import ProgressiveOptions

from onnx_oto.errors import UnsupportedError, UsageError
from onnx_oto.model.files.saving import save
from onnx_oto.optim import OPTIMIZERS
from onnx_oto.pipeline.budgeting import Kept, Plan, budgets_of, measured, plan, rounding_of, within
from onnx_oto.pipeline.opening import Opened, open_model
from onnx_oto.pipeline.options import PruneOptions, TrainOptions
from onnx_oto.pipeline.prune import prune
from onnx_oto.pipeline.train import train
from onnx_oto.zigs import analyse, choose, score
from onnx_oto.zigs.budgets import OutOfReach
from onnx_oto.zigs.cost import count_macs

SHIFTED = """g (float[N,6] x) => (float[N,3] y) <float[6,16] w0, float[16,12] w1, float[12,3] w2>
{ a = MatMul(x, w0) s = Sigmoid(a) h = MatMul(s, w1) r = Relu(h) y = MatMul(r, w2) }"""
"""What a lane of w0 gives is one half where its group is zero: the compact model has a bias for it."""

NORMED = """g (float[N,4,16] x) => (float[N,4,3] y)
<float[16,24] w0, float[24] s, float[24] p, float[24,24] w1, float[24,3] w2>
{ h = MatMul(x, w0) n = LayerNormalization<axis=-1>(h, s, p) a = MatMul(n, w1) r = Relu(a) y = MatMul(r, w2) }"""
"""The compact model pads the input of the norm with zeros, and its scale and shift again."""


@pytest.fixture
def opened(tmp_path: Path):
    def of(model: onnx.ModelProto) -> Opened:
        onnx.save(model, tmp_path / "model.onnx")
        return open_model(tmp_path / "model.onnx", PruneOptions())

    return of


def kept_by(opened: Opened, options: PruneOptions, seed: int = 0) -> Kept:
    analysis = opened.analysis
    scores = score(analysis, "random", seed)
    budgets = budgets_of(opened, options)
    rounding = rounding_of(analysis, options, budgets, options.scope)

    def choosing(budgets):
        return choose(
            analysis, scores, options.share, budgets=budgets, scope=options.scope, round_to=rounding
        )

    return within(opened, budgets, choosing)


def test_the_budgets_of_the_full_model_are_what_it_is(opened) -> None:
    model = opened(build(NORMED))
    nothing = np.zeros(model.analysis.lanes.count, bool)
    params, macs, size = budgets_of(model, PruneOptions(params=0.5, macs="1k", bytes=0.25))
    assert (params.full, macs.full) == (model.analysis.params, count_macs(model.analysis).count)
    assert (params.cost(nothing), macs.cost(nothing)) == (params.full, macs.full)
    assert (params.most, macs.most, size.most) == (params.full / 2, 1000, model.file_bytes / 4)
    assert size.full == model.file_bytes == pytest.approx(size.cost(nothing), abs=200)
    assert budgets_of(model, PruneOptions(sparsity=0.5)) == ()


@pytest.mark.parametrize("scope", ["dimension", "global"])
@pytest.mark.parametrize("share", [0.3, 0.4, 0.6, 0.8, 0.95])
def test_what_surgery_adds_is_within_the_budget(opened, scope: str, share: float) -> None:
    model = opened(build(SHIFTED))
    kept = kept_by(model, PruneOptions(params=share, scope=scope, round_to=1))
    small = analyse(kept.result.model)
    assert small.params == kept.costs["params"] <= share * model.analysis.params
    assert small.params > kept.budgets[0].terms.at(~kept.choice.drop)  # it adds something


@pytest.mark.parametrize("scope", ["dimension", "global"])
@pytest.mark.parametrize("share", [0.3, 0.4, 0.6, 0.8, 0.95])
def test_what_a_norm_pads_again_is_counted(opened, scope: str, share: float) -> None:
    model = opened(build(NORMED))
    kept = kept_by(model, PruneOptions(params=share, scope=scope, round_to=1))
    small = analyse(kept.result.model)
    assert small.params == kept.budgets[0].terms.at(~kept.choice.drop) <= share * model.analysis.params


@pytest.mark.parametrize("row", ROWS[::4], ids=lambda row: row.id)
def test_the_compact_model_of_every_operator_keeps_its_budgets(opened, row: Row) -> None:
    try:
        model = opened(row.model())
    except UnsupportedError:
        return
    if not model.analysis.prunable:
        return
    for seed, asked in enumerate(({"params": 0.6}, {"macs": 0.5, "params": 0.8}, {"bytes": 0.9})):
        require_kept(model, PruneOptions(scope=("dimension", "global")[seed % 2], **asked), seed)


@pytest.mark.parametrize("seed", range(30))
def test_the_compact_model_of_a_random_one_keeps_its_budgets(opened, seed: int) -> None:
    rng = np.random.default_rng(600 + seed)
    model = opened(random_model(lambda n: int(rng.integers(n)), 3 + seed % 12, seed=seed))
    if not model.analysis.prunable:
        return
    for number in range(3):
        names = rng.permutation(["params", "macs", "bytes"])[: int(rng.integers(1, 4))]
        asked = {str(name): float(rng.uniform(0.3, 1)) for name in names}
        options = PruneOptions(
            scope=("dimension", "global")[number % 2], round_to=(1, "auto", 2)[number], **asked
        )
        require_kept(model, options, seed)


def test_the_least_that_is_told_can_be_asked_for(opened) -> None:
    """It is 116 of 200 parameters, and 0.58 * 200 is less than that in floating point."""
    rng = np.random.default_rng(1140)
    model = opened(random_model(lambda n: int(rng.integers(n)), 7, seed=640))
    require_kept(model, PruneOptions(params=0.02, round_to=2), 640)


def require_kept(model: Opened, options: PruneOptions, seed: int) -> None:
    """Assert that budgets are kept by the compact model, or that what is said to be possible is."""
    budgets = budgets_of(model, options)
    try:
        kept = kept_by(model, options, seed)
    except OutOfReach as error:
        found = re.search(r"give --(\w+) ([\d.]+) or more$", str(error))
        if found is not None:
            others = {"scope": options.scope, "round_to": options.round_to}
            kept_by(model, PruneOptions(**{found[1]: float(found[2])}, **others), seed)
        return
    costs = measured(model, kept.result.model, budgets)
    assert costs == kept.costs
    assert set(costs) == {each.name for each in budgets}
    for each in budgets:
        assert costs[each.name] <= each.most


def test_bytes_are_those_of_the_file(opened, tmp_path: Path) -> None:
    model = opened(build(NORMED))
    kept = kept_by(model, PruneOptions(bytes=0.6, round_to=1))
    assert save(kept.result.model, tmp_path / "small.onnx") == kept.costs["bytes"] <= 0.6 * model.file_bytes


def test_a_model_without_products_keeps_every_budget_of_them(opened) -> None:
    """Channels of a table that is looked up, and scaled."""
    text = """g (int64[N] x) => (float[N,1] y) <float[7,6] table, float[6] w, int64[1] on = {1}>
    { a = Gather(table, x) b = Mul(a, w) y = ReduceSum(b, on) }"""
    model = opened(build(text))
    assert count_macs(model.analysis).count == 0
    kept = kept_by(model, PruneOptions(macs=0.5, params=0.7, round_to=1))
    assert kept.costs == {"macs": 0.0, "params": 32.0}
    assert kept_by(model, PruneOptions(macs=0.5)).choice.dropped == 0


# --- what is said ---------------------------------------------------------------------------------------------


def plan_of(opened: Opened, options: PruneOptions) -> Plan:
    kept = kept_by(opened, options)
    budgets = budgets_of(opened, options)
    return plan(
        opened,
        kept.choice,
        kept.budgets,
        rounding_of(opened.analysis, options, budgets, options.scope),
    )


def sentences(opened: Opened, options: PruneOptions) -> list[str]:
    made = plan_of(opened, options)
    return [*made.sentences(), *made.warnings()]


CHAIN = """g (float[N,5] x) => (float[N,3] y) <float[5,12] w0, float[12,10] w1, float[10,3] w2>
{ a = MatMul(x, w0) b = Relu(a) c = MatMul(b, w1) d = Relu(c) y = MatMul(d, w2) }"""


def test_what_will_go_is_told(opened) -> None:
    model = opened(build(CHAIN))
    first, second, third = sentences(model, PruneOptions(macs=0.5, params="0.15k", round_to=1))
    assert re.fullmatch(
        r"plan: \d+ of 22 groups go \(\d+\.\d%\); [\d.]+% of the parameters \(\d+\) and [\d.]+% of the MACs "
        r"\(\d+\) stay",
        first,
    )
    assert re.fullmatch(r"budget: [\d.]+% of the parameters \(\d+\) of at most 150", second)
    assert re.fullmatch(r"budget: [\d.]+% of the MACs \(\d+\) of at most 105", third)


def test_a_plan_of_random_groups_says_that_they_are_random(opened) -> None:
    model = opened(build(CHAIN))

    def drawn(options: PruneOptions) -> str:
        return next(replace(plan_of(model, options), drawn=True).sentences())

    assert re.fullmatch(
        r"plan: as many groups go as the budget needs; drawn at random \d+ of 22 groups go \(\d+\.\d%\) and leave "
        r"[\d.]+% of the parameters \(\d+\) and [\d.]+% of the MACs \(\d+\)",
        drawn(PruneOptions(macs=0.5, round_to=1)),
    )
    assert re.fullmatch(
        r"plan: 11 of 22 groups go \(50.0%\); drawn at random they leave [\d.]+% of the parameters .*",
        drawn(PruneOptions(sparsity=0.5, round_to=1)),
    )


def test_what_keeps_a_number_of_groups_from_being_met_is_told(opened) -> None:
    model = opened(build(CHAIN))
    rounded = sentences(model, PruneOptions(sparsity=0.5, round_to=8))
    assert (
        "asked for were 11 groups; 6 is the nearest that constraints and widths in multiples of 8 allow"
        in rounded
    )
    more = sentences(model, PruneOptions(sparsity=0.4, macs=0.3, round_to=1, scope="global"))
    assert any(
        re.fullmatch(
            r"asked for were 9 groups; \d+ is the nearest that constraints and --macs 0.3 allow", line
        )
        for line in more
    )


@pytest.mark.parametrize("sparsity", [0.3, 0.5])
@pytest.mark.parametrize("sizes", [(36, 50), (40, 92)])
def test_widths_do_not_spoil_that_the_same_share_goes(
    sizes: tuple[int, ...], sparsity: float, opened
) -> None:
    """A number of groups that wide steps meet only where one dimension loses all and another nothing is not met so."""
    shapes = list(zip((16, *sizes), (*sizes, 8), strict=True))
    weights = ", ".join(f"float[{a},{b}] w{n}" for n, (a, b) in enumerate(shapes))
    lines = [f"h{n} = MatMul(r{n}, w{n}) r{n + 1} = Relu(h{n})" for n in range(len(sizes))]
    text = f"r0 = Identity(x) {' '.join(lines)} y = MatMul(r{len(sizes)}, w{len(sizes)})"
    model = opened(build(f"g (float[N,16] x) => (float[N,8] y) <{weights}> {{ {text} }}"))
    drop = kept_by(model, PruneOptions(sparsity=sparsity)).choice.drop
    for each in model.analysis.prunable:
        assert abs(drop[each.lanes].mean() - sparsity) < 0.2, (each.size, int(drop[each.lanes].sum()))


def test_a_budget_that_asks_for_nothing_is_told(opened) -> None:
    assert "nothing is removed: the model keeps every budget as it is" in sentences(
        opened(build(CHAIN)), PruneOptions(macs="1M")
    )


def test_prune_keeps_a_share_of_every_dimension_where_that_is_asked_for(tmp_path) -> None:
    onnx.save(build(CHAIN), tmp_path / "m.onnx")
    options = PruneOptions(macs=0.3, round_to=1, scope="global", min_keep=0.3)
    kept = prune(tmp_path / "m.onnx", tmp_path / "c.onnx", options).plan.choice
    analysis = open_model(tmp_path / "m.onnx").analysis
    for dimension in analysis.prunable:
        assert (~kept.drop[dimension.lanes]).sum() >= 0.3 * dimension.size


# --- whole runs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"macs": 0.01}, r"--macs 0.01 cannot be reached: .* stay when all goes .*; give --macs [\d.]+ or more"),
        ({"macs": 0.2, "round_to": 4}, "widths that are multiples of 4 keep them: give --round-to 1"),
        ({"sparsity": 0.05, "macs": 0.3}, "--sparsity 0.05 and --macs 0.3 contradict"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_any_file_is_written(model, tmp_path, options, told) -> None:
    with pytest.raises(UsageError, match=told):
        prune(model, tmp_path / "small.onnx", PruneOptions(**options))
    assert not (tmp_path / "small.onnx").exists()


def test_training_is_refused_before_it_begins(model, data, tmp_path) -> None:
    for options, told in (
        ({"macs": 0.01, "min_keep": 0.0}, "--macs 0.01 cannot be reached"),
        ({"params": 0.1, "min_keep": 0.5}, "--min-keep 0.5 keeps them: lower it"),
    ):
        with pytest.raises(UsageError, match=told):
            train(model, data, tmp_path / "run", TrainOptions(round_to=1, **options))
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.parametrize("optimizer", ["dhspg", "progressive", "hesso", "proximal"])
@pytest.mark.parametrize(
    "asked", [{"macs": 0.4}, {"params": 0.5, "macs": 0.6, "scope": "dimension"}, {"bytes": 0.8}]
)
def test_training_keeps_its_budgets(model, data, tmp_path, monkeypatch, asked, optimizer) -> None:
    """Chosen at once, or in stages with what is gone."""
    monkeypatch.setitem(OPTIMIZERS, "progressive", ProgressiveOptions)
    options = TrainOptions(epochs=8, batch=16, lr=0.05, round_to=1, optimizer=optimizer, **asked)
    full = analyse(open_model(model, PruneOptions()).model)
    result = train(model, data, tmp_path / "run", options)
    costs = result.costs()
    assert {each.name for each, _ in costs} == {"params", "macs", "bytes"} & set(asked)
    assert all(cost <= each.most < each.full for each, cost in costs)
    small = analyse(onnx.load(tmp_path / "run" / "compact.onnx"))
    assert small.params <= asked.get("params", 1) * full.params
    assert count_macs(small).count <= asked.get("macs", 1) * count_macs(full).count


def test_the_same_command_twice_gives_the_same_bytes(model, tmp_path) -> None:
    options = PruneOptions(macs=0.5, params=0.6, scope="global", by="random", seed=3)
    for name in ("a", "b"):
        prune(model, tmp_path / f"{name}.onnx", options)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_a_budget_of_one_is_the_model_as_it_is(model, tmp_path) -> None:
    result = prune(model, tmp_path / "small.onnx", PruneOptions(macs=1.0))
    assert result.summary.removed == 0
