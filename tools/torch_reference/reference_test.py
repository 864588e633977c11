"""Run with `pytest tools/torch_reference`: the comparison tells right from wrong, without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from torch_reference import ours
from torch_reference.distinct import distinct
from torch_reference.measure import combined, compare, locate
from torch_reference.steps import EXACT, MOMENTUM, SAMPLES, SINGLE, STEPS, WAYS, Way
from torch_reference.table import page, troubles

Arrays = dict[str, Any]

LINEAR = """
<ir_version: 8, opset_import: ["": 17]>
g (float[N, 4] x) => (float[N, 3, 2] y) <float[4, 6] w, float[6] b, int64[3] shape = {0, 3, 2}>
{ h = MatMul(x, w)  s = Add(h, b)  y = Reshape(s, shape) }
"""


def test_numbers_become_distinct_and_hardly_move() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([np.float32([0, 0, -1, -1, 1, 1]), rng.integers(-9, 9, 500).astype(np.float32)])
    changed = distinct(values)
    assert len(np.unique(changed)) == len(values)
    assert np.abs(changed - values).max() < 1e-4


def test_numbers_are_found_transposed_split_and_copied() -> None:
    rng = np.random.default_rng(0)
    w, b = rng.standard_normal((4, 6)).astype(np.float32), rng.standard_normal(6).astype(np.float32)
    places = locate({"t": w.T[:3], "b": b, "again": b, "other": np.ones(2)}, {"w": w, "b": b})
    assert places.found["t"].tolist() == np.arange(24).reshape(4, 6).T[:3].ravel().tolist()
    assert places.found["other"].tolist() == [-1, -1]
    assert places.covered.tolist() == [1, 1, 1, 0, 0, 0] * 4 + [2] * 6
    assert places.parameter(23) == "w"
    assert places.parameter(24) == "b"


def theirs(w: Any, b: Any, x: Any, t: Any, kind: str, label: str) -> Arrays:
    """Return what PyTorch would: loss, gradients, and parameters after the steps of every way (mean squared error)."""
    x, t = x.astype(kind), t.astype(kind).reshape(len(x), 6)

    def gradients(w: Any, b: Any) -> tuple[Any, Any, Any]:
        error = x @ w + b - t
        return (error**2).mean(), x.T @ error * 2 / error.size, error.sum(0) * 2 / error.size

    w, b = w.astype(kind), b.astype(kind)
    loss, dw, db = gradients(w, b)
    result: Arrays = {f"loss|{label}": loss, f"gradient|w|{label}": dw, f"gradient|b|{label}": db}
    for name, way in WAYS.items():
        pair, state = [w.copy(), b.copy()], [[np.zeros_like(p), np.zeros_like(p)] for p in (w, b)]
        for step in range(1, STEPS + 1):
            decays = way.weight_decay, way.weight_decay if way.everything else 0.0
            for p, g, slots, decay in zip(pair, gradients(*pair)[1:], state, decays, strict=True):
                take(p, g, slots, step, way, decay)
        result.update({f"{name}|w|{label}": pair[0], f"{name}|b|{label}": pair[1]})
    return result


def take(p: Any, g: Any, slots: list[Any], step: int, way: Way, decay: float) -> None:
    """Take one step in place, as torch.optim documents it."""
    if way.direction == "adamw":
        p *= 1 - way.lr * decay
    else:
        g = g + decay * p
    if way.direction == "sgd":
        slots[0][...] = MOMENTUM * slots[0] + g
        p -= way.lr * slots[0]
        return
    slots[0][...] = 0.9 * slots[0] + 0.1 * g
    slots[1][...] = 0.999 * slots[1] + 0.001 * g * g
    p -= way.lr * slots[0] / (1 - 0.9**step) / (np.sqrt(slots[1] / (1 - 0.999**step)) + 1e-8)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Arrays, Arrays]:
    """Return what the product and what a numpy twin of PyTorch make of one linear model."""
    folder: Path = tmp_path_factory.mktemp("linear")
    rng = np.random.default_rng(0)
    w, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((4, 6), 6))
    model = onnx.parser.parse_model(LINEAR)
    model.graph.initializer.extend([numpy_helper.from_array(w, "w"), numpy_helper.from_array(b, "b")])
    del model.graph.value_info[:]
    onnx.save(model, folder / "model.onnx")
    x = rng.standard_normal((SAMPLES, 4)).astype(np.float32)
    t = rng.standard_normal((SAMPLES, 3, 2)).astype(np.float32)
    np.savez(folder / "batch-0.npz", input=x, target=t)
    facts = {"loss": "mse", "samples": SAMPLES, "batches": 1, "stepped": 1}
    (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
    ours.main(str(folder))
    with np.load(folder / "ours-0.npz") as arrays:
        mine = dict(arrays)
    twin = {"start|w": w, "start|b": b, "decayed|w": np.True_, "decayed|b": np.False_}
    twin.update(theirs(w, b, x, t, "float64", EXACT))
    twin.update(theirs(w, b, x, t, "float32", SINGLE))
    return mine, twin


def judged(*pairs: tuple[Arrays, Arrays]) -> list[str]:
    batches = [compare(mine, twin, ["w", "b"]) for mine, twin in pairs]
    return troubles({"model": "linear", "params": 30, **combined(batches)})


def test_the_product_steps_as_the_formulas_of_torch(both: tuple[Arrays, Arrays]) -> None:
    assert judged(both) == []


@pytest.mark.parametrize("kind", ["loss", "gradient|w", *(f"{way}|b" for way in WAYS)])
def test_an_error_in_the_fifth_digit_is_seen(both: tuple[Arrays, Arrays], kind: str) -> None:
    mine, twin = both
    wrong = {key: value * np.float32(1 + 5e-5) for key, value in mine.items() if key == kind}
    assert len(wrong) == 1
    assert judged(({**mine, **wrong}, twin)) != []


def test_what_is_not_trained_is_named_however_small(both: tuple[Arrays, Arrays]) -> None:
    mine, twin = both
    missing = {key: value for key, value in mine.items() if "|b" not in key}
    assert "not trained: b" in judged((missing, twin))


def test_what_is_trained_twice_or_is_foreign_is_named(both: tuple[Arrays, Arrays]) -> None:
    mine, twin = both
    copy = {key.replace("|b", "|c"): value for key, value in mine.items() if "|b" in key}
    assert any("copies" in word for word in judged(({**mine, **copy}, twin)))
    ones = {key: np.ones_like(value) for key, value in copy.items()}
    assert any("no parameter of PyTorch: c" in word for word in judged(({**mine, **ones}, twin)))


def test_one_bad_batch_of_three_is_chance_and_two_are_a_fault(both: tuple[Arrays, Arrays]) -> None:
    mine, twin = both
    bad = ({**mine, "gradient|w": mine["gradient|w"] * 1.01}, twin)
    assert judged(both, bad, both) == []
    assert any("gradients" in word for word in judged(bad, both, bad))
    worse = {**twin, f"gradient|w|{SINGLE}": twin[f"gradient|w|{EXACT}"] * 1.02}
    assert judged((bad[0], worse), (bad[0], worse), both) == []
    assert any("gradients" in word for word in judged((bad[0], worse), bad, bad)), "the largest of theirs"


def test_decay_of_other_parameters_is_named(both: tuple[Arrays, Arrays]) -> None:
    mine, twin = both
    assert "decayed by one side alone: b" in judged((mine, {**twin, "decayed|b": np.True_}))
    swapped = {**mine, "AdamW|b": mine["AdamW, decay of all|b"]}
    assert any("AdamW" in word for word in judged((swapped, twin)))


@pytest.mark.parametrize(
    ("kind", "said"), [("statistic", "running statistics"), ("later", "statistics after")]
)
def test_statistics_count_by_how_far_they_moved(both: tuple[Arrays, Arrays], kind: str, said: str) -> None:
    mine, twin = both
    start, exact = np.full(3, 100.0, np.float32), np.full(3, 100.001)
    key = "bn.running_var"
    twin = {**twin, f"start|{key}": start}
    twin.update({f"{kind}|{key}|{label}": exact for label in (EXACT, SINGLE)})
    right = {"start|v": start, f"{kind}|v": exact}
    assert judged(({**mine, **right}, twin)) == []
    assert any(said in word for word in judged(({**mine, **right, f"{kind}|v": start}, twin)))
    assert any("not held" in word for word in judged(({**mine, "start|v": start}, twin)))


def test_a_page_has_a_row_for_a_side_that_failed() -> None:
    text = page([{"model": "m", "error": "ours: UnsupportedError: no gradient for LSTM"}])
    assert "Of 1 models, 0" in text
    assert "| m |" in text
    assert "no gradient for LSTM" in text


def test_steps_on_noise_do_not_count(both: tuple[Arrays, Arrays]) -> None:
    mine, twin = both
    noisy = {**twin, f"gradient|b|{SINGLE}": twin[f"gradient|b|{EXACT}"] * 1.2}
    wrong = {**mine, "Adam|b": mine["Adam|b"] + np.float32(1e-3)}
    assert any("Adam" in word for word in judged((wrong, twin)))
    assert not any("Adam" in word for word in judged((wrong, noisy)))


def test_many_steps_with_kinks_judge_nothing_and_those_of_the_smooth_form_do(
    both: tuple[Arrays, Arrays],
) -> None:
    mine, twin = both
    facts = combined([compare({**mine, "SGD|w": mine["SGD|w"] * 1.1}, twin, ["w", "b"])])
    assert troubles({"model": "m", "params": 30, "kinks": ["relu"], **facts}) == []
    assert any("SGD" in word for word in troubles({"model": "m", "params": 30, "kinks": [], **facts}))
    assert any(
        "SGD" in word for word in troubles({"model": "m+smooth", "params": 30, "kinks": ["relu"], **facts})
    )
