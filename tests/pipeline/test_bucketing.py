"""Training on sequences of different lengths: the same loss and gradient as at the full length, whatever is cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import tokenizers
from onnx import numpy_helper, parser

from onnx_oto.errors import UsageError
from onnx_oto.pipeline.inspecting import inspect
from onnx_oto.pipeline.options import InspectOptions, TrainOptions
from onnx_oto.pipeline.preparing import make_ready
from onnx_oto.pipeline.resume import resume
from onnx_oto.pipeline.train import train
from onnx_oto.training import Stepped

# Every place sees itself and two places before it: what is cut off behind changes nothing.
TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
tokens (int64[N,{length}] ids) => ({kind}[N,{length},10] logits) {{
    e = Gather(w1, ids)
    t = Transpose<perm = [0,2,1]>(e)
    c = Conv<kernel_shape = [3], pads = [2,0]>(t, w2)
    u = Transpose<perm = [0,2,1]>(c)
    r = Relu(u)
    logits = MatMul(r, w3)
}}
"""
FULL, PAD = 40, 0


def saved(folder: Path, length: str = "L") -> Path:
    model = parser.parse_model(TEXT.format(length=length, kind="float"))
    rng = np.random.default_rng(0)
    for name, shape in {"w1": (11, 8), "w2": (16, 8, 3), "w3": (16, 10)}.items():
        weight = (rng.standard_normal(shape) * 0.4).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(weight, name))
    onnx.save(model, folder / "tokens.onnx")
    return folder / "tokens.onnx"


def sequences(folder: Path, dtype: type = np.int64) -> Path:
    """Return data in which the label of a place is the token before it, and of what is filled up another one."""
    rng = np.random.default_rng(1)
    arrays = {}
    for split, count in (("train", 160), ("test", 40)):
        lengths = np.where(rng.random(count) < 0.7, rng.integers(2, 8, count), rng.integers(8, 31, count))
        ids = np.where(np.arange(FULL) < lengths[:, None], rng.integers(1, 11, (count, FULL)), PAD)
        labels = np.concatenate([np.zeros((count, 1), int), ids[:, :-1] % 10], axis=1)
        arrays |= {f"x_{split}": ids, f"y_{split}": np.where(ids == PAD, 7, labels).astype(dtype)}
    np.savez(folder / "tokens.npz", **arrays)
    return folder / "tokens.npz"


OPTIONS = TrainOptions(pad_value=PAD, batch=16, epochs=8, direction="adamw", lr=0.02, seed=1, sparsity=0.3)


@pytest.mark.parametrize("shards", [1, 2])
def test_what_is_cut_off_adds_nothing(tmp_path: Path, shards: int) -> None:
    """Loss and gradient of batches at their sizes and at the largest one: float32 sums in another order, 1e-5."""
    said: list[str] = []
    options = TrainOptions(pad_value=PAD, batch=16, shards=shards)
    ready = make_ready(saved(tmp_path), sequences(tmp_path), options, said.append)
    assert "ids: filled up with 0, 2 to 30 long; batches of similar lengths, cut to 8, 16, 32" in said
    session = ready.preparation.build(ready.others)
    seen = set()
    lengths = ready.dataset.lengths
    assert lengths is not None
    for rows in (np.flatnonzero(lengths < 8)[:16], np.flatnonzero(lengths < 16)[-16:], np.arange(16)):
        batch = ready.dataset.train.batch(rows, np.random.default_rng(0))
        size = batch.inputs["ids"].shape[1]
        seen.add(size)
        loss = session.step(batch.inputs, batch.targets)
        gradient = session.grads.copy()
        more = [(0, 0), (0, 32 - size)]
        labels = np.pad(batch.targets["y"], more, constant_values=-100)
        again = session.step({"ids": np.pad(batch.inputs["ids"], more)}, {"y": labels})
        assert loss == pytest.approx(again, rel=1e-5)
        np.testing.assert_allclose(gradient, session.grads, atol=1e-5)
        assert np.abs(gradient).max() > 1e-3
        filled = np.pad(batch.inputs["ids"], more)
        short, long = (np.asarray(session.predict({"ids": each})) for each in (batch.inputs["ids"], filled))
        np.testing.assert_allclose(short, long[:, :size], atol=1e-5)
    session.close()
    assert seen == {8, 16, 32}


def test_a_run_learns_and_its_metrics_count_what_is_there(tmp_path: Path) -> None:
    result = train(saved(tmp_path), sequences(tmp_path), tmp_path / "run", OPTIONS)
    assert result.gain is not None
    full, small = result.gain.scores
    assert full.value == small.value > 0.8
    last = result.history.epochs[-1]
    assert last.value == pytest.approx(full.value, abs=0.01)
    with np.load(tmp_path / "tokens.npz") as data:
        share = (data["x_test"] != PAD).mean()
    assert 0 < share < 0.5  # else padding would not have mattered


def test_the_same_seed_gives_the_same_bytes_on_any_number_of_loaders(tmp_path: Path) -> None:
    model, data = saved(tmp_path), sequences(tmp_path)
    for name, loaders in (("a", 1), ("b", 3)):
        options = TrainOptions(
            pad_value=PAD, batch=16, epochs=2, direction="adamw", lr=0.02, shards=1, loaders=loaders
        )
        train(model, data, tmp_path / name, options)
    assert (tmp_path / "a" / "compact.onnx").read_bytes() == (tmp_path / "b" / "compact.onnx").read_bytes()


@pytest.mark.parametrize("stop_at", [4, 17])
def test_going_on_gives_the_same_bytes(tmp_path: Path, stop_at: int) -> None:
    """The order of batches is a function of seed and epoch, cut or not."""
    model, data = saved(tmp_path), sequences(tmp_path)
    options = TrainOptions(
        pad_value=PAD,
        batch=16,
        epochs=3,
        direction="adamw",
        lr=0.02,
        shards=1,
        val_share=0.1,
        skip_latency=True,
    )
    train(model, data, tmp_path / "whole", options)
    steps: list[object] = []

    class Watch:
        def notice(self, event: object) -> None:
            steps.extend([event] * isinstance(event, Stepped))

    train(model, data, tmp_path / "run", options, observer=Watch(), stop=lambda: len(steps) >= stop_at)
    assert len(steps) == stop_at
    resume(tmp_path / "run")
    for name in ("trained.onnx", "compact.onnx"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_model_of_one_length_is_not_cut_but_its_labels_are_ignored(tmp_path: Path) -> None:
    said: list[str] = []
    ready = make_ready(saved(tmp_path, str(FULL)), sequences(tmp_path), OPTIONS, said.append)
    assert f"ids: filled up with 0, 2 to 30 long; the model reads {FULL} and no other length" in said
    assert ready.others == ()
    assert ready.dataset.lengths is None
    batch = ready.dataset.train.batch(np.arange(8), None)
    assert batch.inputs["ids"].shape == (8, FULL)
    np.testing.assert_array_equal(batch.targets["y"] == -100, batch.inputs["ids"] == PAD)


MASKED = """
<ir_version: 8, opset_import: ["" : 17]>
masked (int64[N,L] attention_mask, int64[N,L] types, int64[N,L] ids) => (float[N,3] y)
<int64[1] last = {2}, int64[1] words = {1}> {
    e = Gather(w1, ids)
    t = Gather(w4, types)
    s = Add(e, t)
    f = Cast<to = 1>(attention_mask)
    m = Unsqueeze(f, last)
    k = Mul(s, m)
    p = ReduceSum<keepdims = 0>(k, words)
    h = MatMul(p, w2)
    r = Relu(h)
    y = MatMul(r, w3)
}
"""


def test_masks_and_types_are_cut_with_the_tokens_and_do_not_hide_how_long_they_are(tmp_path: Path) -> None:
    """The padding is a number that no mask holds; types, which are 0 or 1, and the mask come first."""
    model = parser.parse_model(MASKED)
    rng = np.random.default_rng(0)
    for name, shape in {"w1": (11, 8), "w4": (2, 8), "w2": (8, 16), "w3": (16, 3)}.items():
        weight = (rng.standard_normal(shape) * 0.4).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(weight, name))
    onnx.save(model, tmp_path / "masked.onnx")
    arrays = {}
    for split, count in (("train", 96), ("test", 32)):
        lengths = rng.integers(2, 20, count)
        there = np.arange(FULL) < lengths[:, None]
        ids = np.where(there, rng.integers(0, 10, (count, FULL)), 10)
        arrays |= {f"x_{split}__attention_mask": there.astype(np.int64), f"x_{split}__types": ids * 0}
        arrays |= {f"x_{split}__ids": ids, f"y_{split}": np.arange(count) % 3}
    np.savez(tmp_path / "masked.npz", **arrays)
    said: list[str] = []
    options = TrainOptions(pad_value=10, batch=16, epochs=1, shards=1)
    ready = make_ready(tmp_path / "masked.onnx", tmp_path / "masked.npz", options, said.append)
    assert any(line.startswith("ids: filled up with 10, 2 to 19 long; batches of similar") for line in said)
    batch = ready.dataset.train.batch(np.arange(16), None)
    widths = {array.shape[1] for array in batch.inputs.values()}
    assert len(widths) == 1
    assert widths.pop() <= 24
    assert batch.targets["y"].shape == (16,)
    train(tmp_path / "masked.onnx", tmp_path / "masked.npz", tmp_path / "run", options)


def test_numbers_for_every_place_are_refused(tmp_path: Path) -> None:
    data = sequences(tmp_path, np.float32)
    with np.load(data) as stored:
        arrays = {k: np.stack([v] * 10, 2) if k.startswith("y") else v for k, v in stored.items()}
    np.savez(data, **arrays)
    options = TrainOptions(pad_value=PAD, batch=16, loss="mse")
    with pytest.raises(UsageError, match="pad-value: target 'y' holds numbers for every place"):
        make_ready(saved(tmp_path), data, options, lambda text: None)


def test_a_teacher_of_every_place_is_refused(tmp_path: Path) -> None:
    data = sequences(tmp_path, np.float32)
    with np.load(data) as stored:
        np.savez(data, **{k: v for k, v in stored.items() if k.startswith("x")})
    with pytest.raises(UsageError, match="pad-value: what the teacher says holds numbers for every place"):
        make_ready(saved(tmp_path), data, TrainOptions(pad_value=PAD, batch=16), lambda text: None)


def test_a_model_without_sequences_is_refused(model: Path, data: Path) -> None:
    with pytest.raises(
        UsageError, match="pad-value: no input reads sequences of integers or of an open length"
    ):
        make_ready(model, data, TrainOptions(pad_value=0), lambda text: None)


REVIEWS = """
<ir_version: 8, opset_import: ["" : 17]>
reviews (int64[N,L] ids) => (float[N,3] logits) <int64[1] along = {1}> {
    e = Gather(w1, ids)
    s = ReduceSum<keepdims = 0>(e, along)
    h = Gemm(s, w2)
    r = Relu(h)
    logits = MatMul(r, w3)
}
"""


def texts(folder: Path, *words: str) -> tuple[Path, Path, Path]:
    """Return a model of open length, lines of 1 to 30 words with labels, and the tokenizer of these words."""
    model = parser.parse_model(REVIEWS)
    rng = np.random.default_rng(0)
    for name, shape in {"w1": (9, 8), "w2": (8, 16), "w3": (16, 3)}.items():
        weight = (rng.standard_normal(shape) * 0.4).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(weight, name))
    onnx.save(model, folder / "reviews.onnx")
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: number for number, word in enumerate(words)}, words[0])
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    lines = [f"{i % 3}\t" + " ".join(rng.choice(words[:3], i % 30 + 1)) for i in range(120)]
    (folder / "reviews.txt").write_text("\n".join(lines) + "\n")
    return folder / "reviews.onnx", folder / "reviews.txt", folder / "tokenizer.json"


@pytest.mark.parametrize(("asked", "filled"), [("auto", 3), (3, 3), (7, 7)])
def test_text_is_filled_up_with_one_number(tmp_path: Path, asked: int | str, filled: int) -> None:
    """By its reader, and as batches are told by: the longest of each is cut to the next of few sizes."""
    model, source, tokenizer = texts(tmp_path, "red", "cat", "dog", "[PAD]")
    said: list[str] = []
    options = TrainOptions(pad_value=asked, batch=16, shards=1, tokenizer=tokenizer, optimizer="dense")  # type: ignore[arg-type]
    ready = make_ready(model, source, options, said.append)
    assert any(text.endswith(f"texts of 1 to 30 tokens, filled up with {filled}") for text in said)
    assert any(
        text.startswith(f"ids: filled up with {filled}, 1 to 30 long; batches of similar") for text in said
    )
    short = ready.dataset.train.batch(np.flatnonzero(ready.dataset.lengths <= 4), None).inputs["ids"]  # type: ignore[operator]
    assert short.shape[1] == 8
    assert (short[:, 4:] == filled).all()
    assert (short < 4).any()


def test_what_text_is_filled_up_with_is_not_guessed(tmp_path: Path, model: Path, data: Path) -> None:
    reviews, source, tokenizer = texts(tmp_path, "red", "cat", "dog")
    told = (
        "pad-value is auto, and the data do not say what their sequences are filled up with: give the number"
    )
    options = TrainOptions(pad_value="auto", batch=16, shards=1, tokenizer=tokenizer, optimizer="dense")
    with pytest.raises(UsageError, match=told):
        make_ready(reviews, source, options, lambda text: None)
    with pytest.raises(UsageError, match=told):
        make_ready(saved(tmp_path), sequences(tmp_path), TrainOptions(pad_value="auto"), lambda text: None)
    curve = InspectOptions(curve=True, data=sequences(tmp_path), pad_value=0)
    with pytest.raises(
        UsageError, match=r"pad-value is 0: here it says what text is filled up with, and .* no text"
    ):
        inspect(saved(tmp_path), curve)
