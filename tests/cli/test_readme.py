"""README.md names every command, what it links to is there, and what pages for users show runs."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import numpy as np
import onnx
import pytest
from PIL import Image

from onnx_oto.cli.verbs import VERBS
from tests.cli.warm import run

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    "README.md",
    *(
        f"docs/{name}.md"
        for name in ("settings", "training", "recipes", "budgets", "data", "images", "refit")
    ),
)
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_table_of_commands_is_complete():
    section = TEXT.partition("## Commands")[2].partition("\n## ")[0]
    assert sorted(re.findall(r"^\| `onnx-oto (\w+)", section, re.MULTILINE)) == sorted(VERBS)


def test_links_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)", TEXT)
    assert "docs/design.md" in links
    missing = [link for link in links if not link.startswith("https://") and not (ROOT / link).exists()]
    assert missing == []


# What the recipes of pages are about: the next token, a mask, an image of twice the size, text, flowers.
RECIPES = {
    "tokens": (
        """ <ir_version: 8, opset_import: ["" : 17]>
        tokens (int64[N,6] ids) => (float[N,6,10] logits) {
            e = Gather(table, ids)
            n = LayerNormalization(e, s1, b1)
            u = MatMul(n, w1)
            g = Relu(u)
            d = MatMul(g, w2)
            r = Add(d, e)
            logits = MatMul(r, w3)
        }""",
        {"table": (10, 8), "s1": (8,), "b1": (8,), "w1": (8, 16), "w2": (16, 8), "w3": (8, 10)},
    ),
    "words": (
        """ <ir_version: 8, opset_import: ["" : 17]>
        words (int64[N,L] ids) => (float[N,L,10] logits) {
            e = Gather(table, ids)
            u = MatMul(e, w1)
            g = Relu(u)
            logits = MatMul(g, w2)
        }""",
        {"table": (10, 8), "w1": (8, 16), "w2": (16, 10)},
    ),
    "segment": (
        """ <ir_version: 8, opset_import: ["" : 17]>
        segment (float[N,3,8,8] image) => (float[N,2,8,8] logits) {
            a = Conv<pads = [1,1,1,1]>(image, w1, b1)
            b = Relu(a)
            logits = Conv(b, w2, b2)
        }""",
        {"w1": (8, 3, 3, 3), "b1": (8,), "w2": (2, 8, 1, 1), "b2": (2,)},
    ),
    "reviews": (
        """ <ir_version: 8, opset_import: ["" : 17]>
        reviews (int64[N,T] input_ids, float[N,T] attention_mask) => (float[N,2] logits)
        <int64[1] last = {2}, int64[1] words = {1}> {
            e = Gather(table, input_ids)
            m = Unsqueeze(attention_mask, last)
            k = Mul(e, m)
            s = ReduceSum<keepdims = 0>(k, words)
            h = Gemm(s, w1, b1)
            r = Relu(h)
            logits = MatMul(r, w2)
        }""",
        {"table": (8, 8), "w1": (8, 12), "b1": (12,), "w2": (12, 2)},
    ),
    "enlarge": (
        """ <ir_version: 8, opset_import: ["" : 17]>
        enlarge (float[N,3,8,8] small) => (float[N,3,16,16] large) {
            a = Conv<pads = [1,1,1,1]>(small, w1, b1)
            b = Relu(a)
            c = Conv<pads = [1,1,1,1]>(b, w2, b2)
            large = DepthToSpace<blocksize = 2, mode = "CRD">(c)
        }""",
        {"w1": (8, 3, 3, 3), "b1": (8,), "w2": (12, 8, 3, 3), "b2": (12,)},
    ),
    "classify": (
        """ <ir_version: 8, opset_import: ["" : 17]>
        classify (float[N,3,16,16] image) => (float[N,3] scores) {
            a = Conv<strides = [2,2]>(image, w1, b1)
            b = Relu(a)
            c = GlobalAveragePool(b)
            d = Flatten(c)
            scores = Gemm(d, w2, b2)
        }""",
        {"w1": (8, 3, 3, 3), "b1": (8,), "w2": (8, 3), "b2": (3,)},
    ),
    "detect": (
        """ <ir_version: 8, opset_import: ["" : 17]>
        detect (float[N,3,16,16] image) => (float[N,49,7] found) <int64[3] rows = {0, 7, 49}> {
            a = Conv<strides = [2,2]>(image, w1, b1)
            b = Relu(a)
            boxes = Conv(b, w2, b2)
            c = Conv(b, w3, b3)
            scores = Sigmoid(c)
            d = Concat<axis = 1>(boxes, scores)
            e = Reshape(d, rows)
            found = Transpose<perm = [0,2,1]>(e)
        }""",
        {"w1": (16, 3, 3, 3), "b1": (16,), "w2": (4, 16, 1, 1), "b2": (4,), "w3": (3, 16, 1, 1), "b3": (3,)},
    ),
    "mlp": (
        """ <ir_version: 8, opset_import: ["" : 17]>
        mlp (float[N,3] x) => (float[N,3] scores) {
            a = Gemm(x, w1, b1)
            b = Relu(a)
            scores = Gemm(b, w2, b2)
        }""",
        {"w1": (3, 16), "b1": (16,), "w2": (16, 3), "b2": (3,)},
    ),
}


def samples() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield a small set of samples and targets for each recipe."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 10, (48, 6))
    following = np.roll(ids, -1, axis=1)
    following[:, -1] = -100
    yield "tokens", ids, following
    ends = rng.integers(2, 24, 48)[:, None]
    words = np.where(np.arange(24) < ends, rng.integers(1, 10, (48, 24)), 0)
    yield "words", words, words
    images = rng.integers(0, 256, (48, 8, 8, 3), np.uint8)
    masks = (images[..., 0] > 127).astype(np.uint8)
    masks[:, 0] = 255
    yield "segment", images, masks
    large = rng.random((48, 3, 16, 16), np.float32)
    yield "enlarge", large.reshape(48, 3, 8, 2, 8, 2).mean((3, 5)), large


def bring(folder: Path) -> None:
    """Write what README.md trains on: images without labels, a folder for each class, a table."""
    rng = np.random.default_rng(0)
    for place in ("photos", "fruit/apple", "fruit/pear", "fruit/plum"):
        (folder / place).mkdir(parents=True)
        for number in range(24):
            pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / place / f"{number}.jpg")
    rows = [
        f"{a:.3f},{b:.3f},{c:.3f},{'xyz'[number % 3]}" for number, (a, b, c) in enumerate(rng.random((60, 3)))
    ]
    (folder / "table.csv").write_text("\n".join(["width,height,depth,kind", *rows]))


def parameters(command: click.Command) -> list[click.Parameter]:
    return command.get_params(click.Context(command))


def test_options_in_examples_exist():
    known = {option for entry in VERBS.values() for p in parameters(entry.load()) for option in p.opts}
    for line in re.findall(r"^onnx-oto .*", TEXT, re.MULTILINE):
        used = set(re.findall(r"(?<=\s)--?[a-z-]+", line.partition("#")[0]))
        assert used <= known


@pytest.mark.parametrize("page", ["docs/training.md", "docs/data.md"])
def test_options_that_training_is_told_with_exist(page: str) -> None:
    """In words too: these pages speak of more options than their commands use."""
    text = (ROOT / page).read_text(encoding="utf-8")
    known = {option for entry in VERBS.values() for p in parameters(entry.load()) for option in p.opts}
    assert set(re.findall(r"(?<=[`\s])--[a-z][a-z0-9-]*", text)) <= known


def snippets(text: str) -> Iterator[tuple[list[str], str]]:
    """Yield what a page tells to run: arguments, of lines of ours in a block without a language, or Python."""
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if language == "python":
            yield [], block
        elif not language:
            lines = [line for line in block.splitlines() if line.startswith("onnx-oto ")]
            yield from ((shlex.split(line, comments=True)[1:], "") for line in lines)


@pytest.mark.parametrize("page", PAGES)
def test_what_is_shown_runs(
    page: str, model: Path, data: Path, models: Callable[..., onnx.ModelProto], tmp_path: Path
) -> None:
    shutil.copy(model, tmp_path / "model.onnx")
    shutil.copy(data, tmp_path / "data.npz")
    for name, x, y in samples():
        np.savez(tmp_path / f"{name}.npz", x_train=x, y_train=y, x_test=x[:16], y_test=y[:16])
    bring(tmp_path)
    for name, recipe in RECIPES.items():
        onnx.save(models(*recipe), tmp_path / f"{name}.onnx")
    found = list(snippets((ROOT / page).read_text(encoding="utf-8")))
    assert any(arguments for arguments, _ in found)
    for arguments, code in found:
        shorter = ["--epochs", "1"] if arguments == ["demo"] else []  # tools/demo is for all of its epochs
        done = run(*arguments, *shorter, code=code, at=tmp_path)
        assert done.returncode == 0, f"{code or arguments}: {done.stderr}"


def test_the_file_that_is_shown_is_one(tmp_path: Path) -> None:
    (block,) = re.findall(
        r"^```toml\n(.*?)^```$", (ROOT / "docs/settings.md").read_text(), re.MULTILINE | re.DOTALL
    )
    (tmp_path / "my.toml").write_text(block)
    for verb in ("train", "prune"):
        context = click.Context(VERBS[verb].load())
        (config,) = (each for each in parameters(context.command) if each.name == "config")
        config.process_value(context, str(tmp_path / "my.toml"))
        assert context.default_map is not None
        assert context.default_map["model"] == tmp_path / "model.onnx"
