"""Options are settings: every field is one, a file gives what flags do not, and Python takes the same."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_oto.cli.setting_option import SettingOption
from onnx_oto.cli.verb import Place, Verb, verb
from onnx_oto.cli.verbs import VERBS
from onnx_oto.errors import UsageError
from onnx_oto.pipeline.doctor_options import DoctorOptions
from onnx_oto.pipeline.folder import claim
from onnx_oto.pipeline.options import (
    BenchOptions,
    CompactOptions,
    DemoOptions,
    InspectOptions,
    PruneOptions,
    TrainOptions,
    VerifyOptions,
)
from onnx_oto.pipeline.recording import Record
from onnx_oto.pipeline.report_options import ReportOptions
from onnx_oto.pipeline.resume_options import ResumeOptions
from onnx_oto.settings import Setting, Settings, setting, settings_of
from onnx_oto.settings.base import flat
from onnx_oto.settings.checks import share
from onnx_oto.settings.declare import About
from onnx_oto.settings.files import written
from onnx_oto.settings.kinds import kind_of
from onnx_oto.settings.topics import TOPICS

ROOT = Path(__file__).resolve().parents[2]
OPTIONS: dict[str, type[Settings]] = {
    "bench": BenchOptions,
    "compact": CompactOptions,
    "demo": DemoOptions,
    "doctor": DoctorOptions,
    "inspect": InspectOptions,
    "prune": PruneOptions,
    "report": ReportOptions,
    "resume": ResumeOptions,
    "train": TrainOptions,
    "verify": VerifyOptions,
}


def parsed(name: str, *arguments: Any) -> Any:
    """Return the settings that a command of this name is called with."""
    got: list[Any] = []

    def take(options: Any, **rest: Any) -> None:
        """Take them."""
        got.append((options, rest))

    places = [Place("model"), Place("out", "Where.")] if name == "train" else []
    made = verb(name, OPTIONS[name], *places)(take)
    given = ["m.onnx", "--out", "o"] if name == "train" and not {"m.onnx", "--config"} & {*arguments} else []
    with made.make_context(name, [*given, *map(str, arguments)]) as context:
        made.invoke(context)
    return got[0][0] if name != "train" or given else got[0]


def config(folder: Path, text: str) -> Path:
    path = folder / "my.toml"
    path.write_text(text)
    return path


# --- declared once ----------------------------------------------------------------------------------------------------
def test_every_command_has_its_settings_here() -> None:
    assert sorted(OPTIONS) == sorted(VERBS)


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_every_field_is_an_option_with_its_help_and_stands_in_the_docs(name: str) -> None:
    command = VERBS[name].load()
    parameters = command.get_params(click.Context(command))
    options = {each.name: each for each in parameters if isinstance(each, SettingOption)}
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    section = " ".join(page.partition(f"## onnx-oto {name}\n")[2].partition("\n## ")[0].split())
    for each in flat(settings_of(OPTIONS[name])):
        assert options[each.name].setting == each
        assert f"--{each.key}" in options[each.name].opts
        assert f"--{each.key}" in section
        assert " ".join(each.help.split()) in section.replace("- ", "-")  # lines are broken at hyphens too


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_help_has_every_option_once_under_the_heading_of_its_topic(name: str) -> None:
    command = VERBS[name].load()
    text = command.get_help(click.Context(command, info_name=name))
    *headings, last = re.findall(r"^(\S.*):$", text, re.MULTILINE)
    assert headings == [topic for topic in TOPICS if topic in headings]
    assert last in ("Example", "Examples")
    for each in flat(settings_of(OPTIONS[name])):
        under = text.partition(f"\n{each.topic}:\n")[2].partition("\n\n")[0]
        found = re.compile(rf"^  (-\w, )?--{re.escape(each.key)}( |$)", re.MULTILINE)
        assert len(found.findall(under)) == len(found.findall(text)) == 1, each.key


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_examples_are_command_lines_that_are_taken(name: str) -> None:
    command = VERBS[name].load()
    assert isinstance(command, Verb)
    text = command.get_help(click.Context(command, info_name=name))
    assert command.examples
    for each in command.examples:
        assert f"\n  {each}\n" in f"{text}\n"
        program, own, *arguments = shlex.split(each)
        assert (program, own) == ("onnx-oto", name)
        if "--config" not in arguments:  # which would be read
            made = command.make_context(name, arguments)
            assert not made.args


def test_options_are_where_a_person_looks_for_them() -> None:
    topics = {each.key: each.topic for each in flat(settings_of(TrainOptions))}
    assert {
        key: topics[key] for key in ("macs", "scope", "mean", "batch", "momentum", "plan-shrink", "keep")
    } == {
        "macs": "What is removed",
        "scope": "What is removed",
        "mean": "Data",
        "batch": "Batches",
        "momentum": "The step",
        "plan-shrink": "The plan",
        "keep": "What stays",
    }


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_what_is_hidden_stays_hidden(name: str) -> None:
    command = VERBS[name].load()
    text = command.get_help(click.Context(command, info_name=name))
    assert "--no-" not in text.replace("--no-NAME", "")
    assert "stands_for" not in text
    assert "--global" not in text


# --- the hidden flags -------------------------------------------------------------------------------------------------
def test_a_former_switch_stands_for_a_value() -> None:
    assert parsed("prune", "--global") == PruneOptions(scope="global")
    assert parsed("prune", "--global", "--scope", "global") == PruneOptions(scope="global")
    with pytest.raises(click.UsageError, match="--global is --scope global, and --scope dimension was given"):
        parsed("prune", "--global", "--scope", "dimension")


# --- a file -----------------------------------------------------------------------------------------------------------
def test_flags_come_before_the_file_and_the_file_before_defaults(tmp_path: Path) -> None:
    text = (
        "[prune]\nsparsity = 0.3\nround-to = 8\nfixed-norms = true\nscope = 'dimension'\nkeep = ['a', 'b']\n"
    )
    path = config(tmp_path, text)
    file = {"round_to": 8, "scope": "dimension", "keep": ["a", "b"]}
    assert parsed("prune", "--config", path) == PruneOptions(sparsity=0.3, fixed_norms=True, **file)
    given = ("--sparsity", "0.4", "--no-fixed-norms", "--config", path)
    assert parsed("prune", *given) == PruneOptions(sparsity=0.4, **file)
    assert parsed("prune", "--config", path, "--keep", "c").keep == ("c",)
    assert parsed("prune", "--config", path, "--global").scope == "global"


def test_paths_may_come_from_the_file_too(tmp_path: Path) -> None:
    path = config(tmp_path, "[train]\nmodel = 'a.onnx'\nout = 'runs'\n")
    options, places = parsed("train", "--config", path)
    assert options == TrainOptions()
    assert places == {"as_json": False, "model": tmp_path / "a.onnx", "out": tmp_path / "runs"}
    assert parsed("train", "m.onnx", "--config", path)[1]["model"] == Path("m.onnx")


def test_what_no_one_gives_is_missing(tmp_path: Path) -> None:
    with pytest.raises(click.MissingParameter) as caught:
        parsed("train", "--config", config(tmp_path, "[train]\nout = 'runs'\n"))
    assert "MODEL" in caught.value.format_message()


def test_the_file_of_settings_is_not_an_output(tmp_path: Path) -> None:
    path = config(tmp_path, "[prune]\n")
    with pytest.raises(UsageError, match=r"my.toml' is the file of settings: give another name"):
        parsed("prune", "--config", path, "--kept", path)


def test_a_mistake_in_the_file_is_one_line(refused: Callable[..., str], model: Path, tmp_path: Path) -> None:
    path = config(tmp_path, "[inspect]\nkeeep = 'a'\n")
    line = refused(2, "inspect", model, "--config", path, "--json")
    assert f"'{path}', table [inspect]: there is no setting 'keeep': did you mean 'keep'?" in line
    assert "cannot read the settings" in refused(8, "inspect", model, "--config", tmp_path / "none")


# --- the same words ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "flag", "text", "value"),
    [
        ("train", "epochs", "0", 0),
        ("train", "sparsity", "1.5", 1.5),
        ("train", "lr", "0", 0.0),
        ("train", "mean", "nan", float("nan")),
        ("train", "loss", "hinge", "hinge"),
        ("prune", "by", "taste", "taste"),
        ("prune", "scope", "all", "all"),
        ("prune", "limit-memory", "8 apples", "8 apples"),
    ],
)
def test_a_value_is_refused_in_the_same_words_everywhere(
    tmp_path: Path, name: str, flag: str, text: str, value: Any
) -> None:
    with pytest.raises(UsageError) as by_keyword:
        OPTIONS[name](**{flag.replace("-", "_"): value})
    with pytest.raises(click.UsageError) as by_flag:
        parsed(name, f"--{flag}", text)
    path = tmp_path / "my.toml"
    path.write_bytes(written(name, {flag: value}, tmp_path))
    with pytest.raises(UsageError) as by_file:
        parsed(name, "--config", path)
    assert by_flag.value.message == str(by_keyword.value)
    assert str(by_file.value) == f"'{path}', table [{name}]: {by_keyword.value}"


# --- the same object --------------------------------------------------------------------------------------------------
def values() -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy for some of the fields of `TrainOptions`."""
    number = st.floats(1e-6, 1e6)
    text = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=5)
    some = {
        "sparsity": st.floats(0, 0.99),
        "epochs": st.integers(1, 10**6),
        "lr": number,
        "flip": st.booleans(),
        "head_dims": st.booleans(),
        "keep": st.lists(text, min_size=1, max_size=3).map(tuple),
        "mean": st.lists(number, min_size=1, max_size=3).map(tuple),
        "direction": st.sampled_from(["sgd", "adam", "adamw"]),
        "scope": st.sampled_from(["global", "dimension"]),
        "limit_memory": st.floats(1, 1e12).map(float),
        "inputs": st.sampled_from([Path("a.npz"), Path("b/c.npz")]),
    }
    return st.fixed_dictionaries({}, optional=some)


def flags(given: dict[str, Any]) -> Iterator[str]:
    """Yield the arguments that give these values."""
    for name, value in given.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            yield flag if value else f"--no-{flag[2:]}"
        elif name == "keep":
            yield from (f"{flag}={item}" for item in value)
        elif name == "mean":
            yield f"{flag}={','.join(map(repr, value))}"
        elif name == "limit_memory":
            yield f"{flag}={value:.30f}".rstrip("0").rstrip(".")
        else:
            yield f"{flag}={value}"


@given(values())
def test_flags_a_file_and_keywords_give_the_same_settings(
    tmp_path_factory: pytest.TempPathFactory, given: dict[str, Any]
) -> None:
    folder = tmp_path_factory.mktemp("config")
    by_keyword = TrainOptions(**given)
    assert parsed("train", *flags(given)) == by_keyword
    seen = {key: folder / value if isinstance(value, Path) else value for key, value in given.items()}
    (folder / "run.toml").write_bytes(written("train", {**seen, "model": "m", "out": "o"}, folder))
    by_file, _ = parsed("train", "--config", folder / "run.toml")
    assert by_file == TrainOptions(**seen)


# --- settings that registries give ------------------------------------------------------------------------------------
def _momentum() -> list[Setting]:
    """Return what a registry would state, when somebody asks."""
    return [
        Setting("momentum", kind_of(float | None), About("Momentum.", check=share)),
        Setting("amsgrad", kind_of(bool | None), About("Whether.")),
    ]


@dataclass(frozen=True, kw_only=True)
class Method(Settings):
    loss: tuple[str, ...] = setting(
        (),
        "Losses.",
        choices=lambda: ["mse", "huber"],
        has_options=True,
        more=lambda: "mse: squares.",
    )
    own: Mapping[str, Any] = setting({}, "Of the method.", entries=_momentum)


def method(folder: Path, *arguments: str, text: str = "") -> Method:
    got: list[Method] = []
    command = verb("train", Method)(lambda options, *, as_json: got.append(options))
    if text:
        arguments = (*arguments, "--config", str(config(folder, text)))
    with command.make_context("train", [*arguments]) as context:
        command.invoke(context)
    return got[0]


def test_entries_of_a_mapping_are_options_and_keys(tmp_path: Path) -> None:
    assert method(tmp_path) == Method(own={})
    expected = Method(own={"momentum": 0.5, "amsgrad": False}, loss=("huber:delta=2", "mse"))
    flags = ("--momentum", "0.5", "--no-amsgrad", "--loss", "huber:delta=2", "--loss", "mse")
    assert method(tmp_path, *flags) == expected
    text = "[train]\nmomentum = 0.5\namsgrad = true\nloss = ['huber:delta=2', 'mse']\n"
    assert method(tmp_path, "--no-amsgrad", text=text) == expected
    with pytest.raises(UsageError, match=r"momentum is 1.5: give a share"):
        Method(own={"momentum": 1.5})
    with pytest.raises(UsageError, match=r"there is no setting 'momentun': did you mean 'momentum'"):
        Method(own={"momentun": 1})
    with pytest.raises(click.UsageError, match="loss is 'hinge:x=1': choose one of mse, huber"):
        method(tmp_path, "--loss", "hinge:x=1")


def test_entries_lie_in_the_file_as_they_are_read(tmp_path: Path) -> None:
    options = Method(own={"momentum": 0.5}, loss=("mse",))
    with claim(tmp_path / "run", verb="train") as folder:
        Record("train", options).write(folder)
        text = (tmp_path / "run" / "run.toml").read_text()
    assert "momentum = 0.5" in text
    assert method(tmp_path, text=text) == options


def test_help_tells_what_registries_say() -> None:
    command = verb("train", Method)(lambda options, *, as_json: None)
    text = " ".join(command.get_help(click.Context(command)).split())
    assert "--loss [mse|huber] Losses. mse: squares." in text
    assert "--momentum FLOAT Momentum." in text
    assert "--own" not in text
