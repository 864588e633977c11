"""Settings in TOML: read with every mistake named, written so that they are read again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_oto.errors import StorageError, UsageError
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.settings import settings_of
from onnx_oto.settings.files import read_settings, written

KNOWN = settings_of(TrainOptions)
VERBS = ("prune", "train")


def read(path: Path, text: str | bytes) -> dict[str, Any]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_settings(path, "train", KNOWN, VERBS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sparsity = 0.6", "'sparsity' stands in no table: write it below the name of a command, [train]"),
        ("[trian]\n", "no command has the name of the table [trian]: did you mean 'train'?: they are prune, train"),
        ("[prune]\nsparsity = 0.1\n", "has no table [train]: there are prune"),
        ("", "has no table [train]: there are none"),
        ("[train]\nsparsty = 1\n", "table [train]: there is no setting 'sparsty': did you mean 'sparsity'?"),
        ("[train]\nepochs = '3'\n", "table [train]: epochs is '3': give a whole number"),
        ("[train]\nepochs = 3.0\n", "table [train]: epochs is 3.0: give a whole number"),
        ("[train]\nepochs = 0\n", "table [train]: epochs is 0: give at least 1"),
        ("[train]\nflip = 'yes'\n", "table [train]: flip is 'yes': give true or false"),
        ("[train]\nloss = 'hinge'\n", "table [train]: loss is 'hinge': choose one of cross-entropy"),
        ("[train]\nlr = 1979-05-27\n", "table [train]: lr is datetime.date(1979, 5, 27): give a number"),
        ("[train]\nmean = [0.1, 'x']\n", "table [train]: mean is"),
        ("[train.lr]\nbase = 1\n", "table [train]: lr is {'base': 1}: give a number"),
        ("[train]\nwarm_up = 0\nwarm-up = 0\n", "'warm-up' is given twice"),
        ("[train\n", "is no TOML: "),
        (b"[train]\nloss = '\xff'\n", "is no TOML: "),
        ("a = " + "[" * 5000, "is no TOML: "),
        ("#" * (1 << 20) + "\n", "is larger than 1 MiB"),
    ],
)  # fmt: skip
def test_a_mistake_names_the_file_and_what_is_wrong(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path / "x.toml", text)
    assert str(tmp_path / "x.toml") in str(caught.value)
    assert message in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot read the settings in '.*x\.toml': No such file"):
        read_settings(tmp_path / "x.toml", "train", KNOWN, VERBS)


def test_tables_of_other_commands_are_left_alone(tmp_path: Path) -> None:
    assert read(tmp_path / "x.toml", "[train]\nepochs = 3\n[prune]\nby = 'x'\n") == {"epochs": 3}


def test_keys_are_options_with_either_line(tmp_path: Path) -> None:
    text = "[train]\nweight-decay = 0\nround_to = 8\nlimit-memory = '8GB'\nkeep = 'w*'\nmean = 0.5\n"
    expected = {"weight_decay": 0.0, "round_to": 8, "limit_memory": 8e9, "keep": ("w*",), "mean": (0.5,)}
    assert read(tmp_path / "x.toml", text) == expected


def test_paths_are_those_seen_from_the_file(tmp_path: Path) -> None:
    found = read(tmp_path / "x.toml", "[train]\ninputs = 'a/b.npz'\n")
    assert found == {"inputs": tmp_path / "a" / "b.npz"}
    assert read(tmp_path / "x.toml", "[train]\ninputs = '/b.npz'\n") == {"inputs": Path("/b.npz")}


@pytest.mark.parametrize("linked", [False, True])
def test_what_was_written_in_a_folder_finds_its_files(tmp_path: Path, monkeypatch, linked: bool) -> None:
    """The folder may be a link to somewhere else, and be read from anywhere."""
    (tmp_path / "far" / "away").mkdir(parents=True)
    run = tmp_path / "run"
    run.symlink_to(tmp_path / "far" / "away") if linked else run.mkdir()
    (tmp_path / "in.npz").write_bytes(b"here")
    monkeypatch.chdir(tmp_path)
    (run / "run.toml").write_bytes(written("train", {"inputs": Path("in.npz"), "lr": None}, run, ["why"]))
    text = (run / "run.toml").read_text()
    assert text.startswith("# why\n[train]\n")
    assert str(tmp_path) not in text
    monkeypatch.chdir("/")
    found = read_settings(run / "run.toml", "train", KNOWN, VERBS)
    assert found.keys() == {"inputs"}
    assert found["inputs"].read_bytes() == b"here"


number = st.floats(1e-6, 1e6)
options = st.builds(
    TrainOptions,
    sparsity=st.floats(0, 0.99),
    epochs=st.integers(1, 10**6),
    lr=st.none() | number,
    flip=st.booleans(),
    keep=st.lists(st.text(max_size=5), max_size=3),
    mean=st.lists(number, max_size=3),
    direction=st.sampled_from(["sgd", "adam"]),
    model_output=st.none() | st.text(min_size=1, max_size=5),
    scope=st.sampled_from(["global", "dimension"]),
    limit_memory=st.none() | number,
)


@given(options)
def test_what_is_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, options: TrainOptions
) -> None:
    folder = tmp_path_factory.mktemp("written")
    values = {each.name: getattr(options, each.name) for each in KNOWN}
    content = written("train", values, folder)
    assert TrainOptions(**read(folder / "run.toml", content)) == options
