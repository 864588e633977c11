"""`train --from` and `--batch-norm`: what a run says of the model that was brought, and what overrides it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tomllib

SHORT = ("--epochs", 2, "--batch", 16, "--shards", 1, "--skip-latency", "--sparsity", 0.3)


@pytest.fixture(scope="module")
def trained(cli, model, data, tmp_path_factory) -> Path:
    """Return the path of the small network after some training."""
    run = tmp_path_factory.mktemp("trained") / "run"
    done = cli(
        "train", model, "--data", data, "--run", run, "--epochs", 20, "--batch", 16, "--shards", 1,
        "--optimizer", "dense", "--lr", 0.05, "--skip-latency", "--from", "scratch",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "the model comes" not in done.stderr + done.stdout
    return run / "trained.onnx"


def told(done) -> list[str]:
    assert done.returncode == 0, done.stderr
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("the model comes ")]


def settings(run: Path) -> dict:
    return tomllib.loads((run / "run.toml").read_text())["train"]


def test_a_new_model_trains_as_ever(cli, model, data, tmp_path):
    (line,) = told(cli("train", model, "--data", data, "--run", tmp_path / "a", *SHORT))
    assert line.startswith("the model comes from scratch: ")
    assert "by chance on 96 training samples" in line
    assert (
        "; learning rate 0.1, schedule cosine, warm-up 5%, groups are chosen after 5% of the steps and shrink over 30%"
        in line
    )
    kept = settings(tmp_path / "a")
    assert (kept["from"], kept["lr"], kept["warm-up"], kept["plan-observe"]) == ("scratch", 0.1, 0.05, 0.05)


def test_a_trained_model_is_known_and_run_toml_repeats_it_without_asking(cli, trained, data, tmp_path):
    (line,) = told(cli("train", trained, "--data", data, "--run", tmp_path / "a", *SHORT))
    assert line.startswith("the model comes trained: accuracy ")
    kept = settings(tmp_path / "a")
    assert kept["from"] == "trained"
    assert f"; learning rate {kept['lr']:g}, " in line
    assert kept["lr"] < 0.1
    assert line.endswith(", groups go before the first step, and what reads them is fitted anew")
    assert kept["optimizer"] == "refit"
    again = cli("train", "--config", tmp_path / "a" / "run.toml", "--run", tmp_path / "b")
    assert told(again) == []
    assert settings(tmp_path / "b") == kept
    one, two = ((tmp_path / name / "compact.onnx").read_bytes() for name in "ab")
    assert one == two


def test_what_is_given_wins(cli, trained, data, tmp_path):
    (line,) = told(
        cli(
            "train",
            trained,
            "--data",
            data,
            "--run",
            tmp_path / "a",
            *SHORT,
            "--lr",
            0.07,
            "--plan-observe",
            0.3,
        )
    )
    assert line.startswith("the model comes trained: ")
    assert "learning rate" not in line
    assert "groups are chosen" not in line
    kept = settings(tmp_path / "a")
    assert (kept["lr"], kept["plan-observe"], kept["from"]) == (0.07, 0.3, "trained")
    assert (
        told(cli("train", trained, "--data", data, "--run", tmp_path / "b", *SHORT, "--from", "scratch"))
        == []
    )
    assert settings(tmp_path / "b")["lr"] == 0.1


def test_without_labels_the_outputs_are_asked(cli, trained, model, data_arrays, tmp_path):
    np.savez(tmp_path / "plain.npz", **data_arrays(y_train=None, y_test=None))
    for name, path in (("new", model), ("old", trained)):
        (line,) = told(cli("train", path, "--data", tmp_path / "plain.npz", "--run", tmp_path / name, *SHORT))
        assert "% of the variance of its outputs is between samples, " in line
        assert settings(tmp_path / name)["from"] == ("trained" if name == "old" else "scratch")


def test_another_word_is_refused(refused, model, data, tmp_path):
    line = refused(2, "train", model, "--data", data, "--run", tmp_path / "a", "--from", "somewhere")
    assert "from is 'somewhere': choose one of auto, scratch, trained" in line
    line = refused(2, "train", model, "--data", data, "--run", tmp_path / "a", "--batch-norm", "folded")
    assert "batch-norm is 'folded': choose one of as-is, put-back" in line


def test_norms_are_put_back_and_folded_again(cli, model, data, tmp_path):
    done = cli("train", model, "--data", data, "--run", tmp_path / "a", *SHORT, "--batch-norm", "put-back")
    assert done.returncode == 0, done.stderr
    text = done.stdout + done.stderr
    assert "a BatchNormalization is put back behind 'Conv_3' and 1 more layer for training" in text
    assert "the norms put back are folded in again: largest difference " in text
    assert settings(tmp_path / "a")["batch-norm"] == "put-back"
