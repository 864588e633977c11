"""Every verb does its work, and prints exactly one JSON object with the promised names."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnx_oto import __version__
from onnx_oto.cli.commands import cli as commands
from onnx_oto.runtime.comparing import compare

CUT = {
    "dimensions",
    "schema",
    "params",
    "macs",
    "bytes",
    "lanes",
    "latency_ms",
    "verify",
    "warnings",
    "seconds",
}
COMPACTED = CUT | {"notes"}
PLANNED = {"sparsity", "budgets", "round_to", "zeros"}
PRUNED = COMPACTED | PLANNED | {"original"}
TRAINED = CUT | PLANNED | {"metric", "metrics", "run", "kept", "waited", "whole_images"}
LATENCY = {
    "full", "compact", "full_interval", "compact_interval", "ratio_interval", "runs", "runtime", "threads", "batch",
    "at",
}  # fmt: skip
VERDICT = {"passed", "max_abs", "max_rel", "samples", "runtime", "sizes", "skipped"}


def only_json(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def require_cut(found: dict[str, Any], names: set[str]) -> None:
    assert set(found) == names
    assert found["schema"] == 1
    for figure in ("params", "macs", "bytes"):
        assert {"before", "after"} <= set(found[figure])
        assert 0 < found[figure]["after"] <= found[figure]["before"]
    assert set(found["lanes"]) == {"prunable", "removed"}
    assert set(found["latency_ms"]) == LATENCY
    assert all(warning.startswith("the compact model is slower") for warning in found["warnings"])
    assert set(found["verify"]) == VERDICT
    assert found["verify"]["passed"] is True


def test_inspect(cli, model):
    found = only_json(cli("inspect", model, "--json"))
    assert {"schema", "params", "macs", "prunable_params", "dimensions", "permutations"} <= set(found)
    assert found["schema"] == 1
    learned = [t for t in onnx.load(model).graph.initializer if t.name not in ("m1", "v1")]
    assert found["params"] == sum(int(np.prod(t.dims)) for t in learned)
    # one of 8 and one of 12 channels stay: w1, s1, b1, w2, b2, w3, b3, w4 and the bias of the output
    assert found["removable_params"] == found["params"] - (9 + 1 + 1 + 9 + 1 + 9 + 1 + 3 + 3)
    for dimension in found["dimensions"]:
        assert set(dimension) == {"name", "size", "prunable", "reason", "constraints", "uses"}
        assert all(set(use) >= {"param", "axis", "role"} for use in dimension["uses"])
        assert (dimension["reason"] is None) == dimension["prunable"]
    prunable = {d["name"]: d["size"] for d in found["dimensions"] if d["prunable"]}
    assert sorted(prunable.values()) == [8, 12]


def test_weights_that_are_not_finite_are_said(cli, model, tmp_path):
    """In a channel that goes they do no harm; where they make every output NaN, nothing is proved."""
    full = onnx.load(model)
    weights = {tensor.name: tensor for tensor in full.graph.initializer}
    for name, place in (("b3", (5,)), ("w4", (0,))):
        value = numpy_helper.to_array(weights[name]).copy()
        value[place] = np.nan if name == "w4" else -np.inf
        weights[name].CopyFrom(numpy_helper.from_array(value, name))
    onnx.save(full, tmp_path / "odd.onnx")
    note = "values that are NaN or infinite: 1 of 'b3', 12 of 'w4'"
    done = cli("inspect", tmp_path / "odd.onnx")
    assert done.returncode == 0
    assert done.stderr.startswith(f"note: the model has {note}")
    assert only_json(cli("inspect", tmp_path / "odd.onnx", "--json"))["notes"][0].startswith(note)
    done = cli("prune", tmp_path / "odd.onnx", "-o", tmp_path / "small.onnx")
    assert (done.returncode, done.stderr.count("note: ")) == (0, 1)
    weights["w1"].CopyFrom(numpy_helper.from_array(np.full((8, 1, 3, 3), np.nan, np.float32), "w1"))
    onnx.save(full, tmp_path / "odd.onnx")
    done = cli("prune", tmp_path / "odd.onnx", "-o", tmp_path / "small.onnx")
    assert done.returncode == 4
    assert "72 of 'w1'" in done.stderr.splitlines()[-1]


def test_inspect_for_people(cli, model):
    done = cli("inspect", model, "--why", "w4")
    assert done.returncode == 0
    assert "part of the model's output 'logits'" in done.stdout
    assert "dimensions are prunable" in done.stdout


def test_inspect_shows_a_curve(cli, model, data):
    found = only_json(cli("inspect", model, "--curve", "--data", data, "--samples", 24, "--json"))
    assert [row["sparsity"]["target"] for row in found["curve"]] == [share / 10 for share in range(10)]
    assert {row["samples"] for row in found["curve"]} == {24}
    assert set(found["end"]) == {"sparsity", "removed", "params", "reasons"}
    done = cli("inspect", model, "--curve", "--data", data)
    header, *lines = done.stdout.splitlines()[1:]
    assert header.split() == ["share", "groups", "parameters", "MACs", "bytes", "loss", "accuracy"]
    assert lines[9].startswith("  0.9  ")
    assert lines[-1].startswith("at most ")
    assert sum(line.startswith("share 0") for line in done.stderr.splitlines()) == 10


def test_inspect_names_quantized_weights(cli, models, write):
    text = (
        '<ir_version: 8, opset_import: ["" : 17]>\n'
        "g (uint8[N,4] x) => (float[N,2] y) { c = MatMulInteger(x, q) v = Cast<to=1>(c) a = Mul(v, s) r = Relu(a) "
        "b = MatMul(r, w1) d = Relu(b) y = MatMul(d, w2) }"
    )
    made = models(text, {"s": (6,), "w1": (6, 8), "w2": (8, 2)})
    made.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((4, 6), np.int8), "q"))
    source = write(made)
    assert only_json(cli("inspect", source, "--json"))["quantized"] == ["q"]
    assert "'q': quantized, so the channels that belong to it stay" in cli("inspect", source).stdout


SHUFFLE = (
    '<ir_version: 8, opset_import: ["" : 17]>\n'
    "g (float[2,3,6,6] x) => (float[2,4,6,6] y) { a = Conv(x, w1) b = Conv<group=2>(a, w2) [cut] c = Reshape(b, wide) "
    "d = Transpose<perm=[0,2,1,3,4]>(c) [back] e = Reshape(d, flat) y = Conv<group=GROUPS>(e, w3) }"
)


def test_inspect_says_where_a_permutation_stays(cli, models, tmp_path):
    """Between convolutions in groups it does; before a whole one it is folded, and there is nothing to say."""
    for groups, stays in ((2, 1), (1, 0)):
        weights = {"w1": (8, 3, 1, 1), "w2": (8, 4, 1, 1), "w3": (4, 8 // groups, 1, 1)}
        made = models(SHUFFLE.replace("GROUPS", str(groups)), weights)
        for name, sizes in (("wide", [2, 2, 4, 6, 6]), ("flat", [2, 8, 6, 6])):
            made.graph.initializer.append(onnx.numpy_helper.from_array(np.array(sizes, np.int64), name))
        onnx.save(made, tmp_path / "shuffle.onnx")
        found = only_json(cli("inspect", tmp_path / "shuffle.onnx", "--json"))["permutations"]
        assert [(each["node"], each["axis"], each["size"]) for each in found] == [("back", 1, 8)] * stays
        assert all("has them in groups" in each["reason"] for each in found)
        screen = cli("inspect", tmp_path / "shuffle.onnx").stdout
        assert ("a permutation of 8 channels stays as a Gather at 'back': behind it, Conv" in screen) == bool(
            stays
        )


def test_prune(cli, model, tmp_path):
    output, zeroed = tmp_path / "compact.onnx", tmp_path / "zeroed.onnx"
    done = cli("prune", model, "-o", output, "--sparsity", 0.5, "--save-zeroed", zeroed, "--json")
    found = only_json(done)
    require_cut(found, PRUNED)
    assert set(found["original"]) == {"max_abs", "max_rel"}
    assert found["original"]["max_rel"] > 0.01
    assert found["verify"]["sizes"] == [{"N": 3}, {"N": 1}]
    assert found["lanes"] == {"prunable": 20, "removed": 10}
    assert found["bytes"] == {"before": model.stat().st_size, "after": output.stat().st_size}
    verdict = compare(onnx.load(zeroed), onnx.load(output), seed=9)
    assert verdict.passed


def test_prune_under_budgets(cli, model, tmp_path):
    """At or under in the written model; with a further one, both; run twice, the same bytes."""
    for name, options in {
        "macs": ("--macs", 0.5),
        "both": ("--params", "0.8k", "--macs", 0.6, "--global"),
        "bytes": ("--bytes", "2.5kB", "--sparsity", 0.2, "--global", "--round-to", 1),
    }.items():
        output = tmp_path / f"{name}.onnx"
        found = only_json(cli("prune", model, "-o", output, *options, "--json"))
        for each, told in found["budgets"].items():
            assert found[each]["after"] <= told["most"]
        assert found["bytes"]["after"] == output.stat().st_size
        again = cli("prune", model, "-o", tmp_path / "again.onnx", *options)
        assert again.returncode == 0
        assert "budget" in again.stdout + again.stderr
        assert (tmp_path / "again.onnx").read_bytes() == output.read_bytes()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--macs", 0.001), "--macs 0.001 cannot be reached: "),
        (("--params", "5"), "a bare number is the share that is kept: give a share above 0 and up to 1"),
        (("--params", 0), "a bare number is the share that is kept"),
        (("--macs", "-1"), "give a share above 0 and up to 1, such as 0.5, or a quantity such as 300M"),
        (("--macs", "2MB"), "or a quantity such as 300M"),
        (("--bytes", "2M"), "or a quantity such as 2MB"),
        (("--macs", "many"), "or a quantity such as 300M"),
        (
            ("--macs", "0.3", "--sparsity", "0.05", "--round-to", "1"),
            "--sparsity 0.05 and --macs 0.3 contradict: ",
        ),
        (("--round-to", "0"), "round-to"),
        (("--round-to", "often"), "give a whole number, or auto"),
    ],
)
def test_budgets_that_cannot_be_are_refused(refused, model, tmp_path, options, told):
    assert told in refused(2, "prune", model, "-o", tmp_path / "small.onnx", *options)
    assert not list(tmp_path.iterdir())


def test_prune_keeps_what_it_is_told_to(cli, model, tmp_path):
    output = tmp_path / "compact.onnx"
    found = only_json(cli("prune", model, "-o", output, "--keep", "w3", "--json"))
    assert found["lanes"] == {"prunable": 8, "removed": 4}
    weights = {t.name: tuple(t.dims) for t in onnx.load(output).graph.initializer}
    assert weights["w3"] == (12, 4, 3, 3)


ATTENTION = (
    '<ir_version: 8, opset_import: ["" : 17]>\n'
    "g (float[2,6,5] x) => (float[2,6,3] y) { q = MatMul(x, wq) k = MatMul(x, wk) v = MatMul(x, wv) "
    "q4 = Reshape(q, cut) k4 = Reshape(k, cut) v4 = Reshape(v, cut) qh = Transpose<perm=[0,2,1,3]>(q4) "
    "kh = Transpose<perm=[0,2,3,1]>(k4) vh = Transpose<perm=[0,2,1,3]>(v4) s = MatMul(qh, kh) "
    "p = Softmax<axis=-1>(s) o = MatMul(p, vh) t = Transpose<perm=[0,2,1,3]>(o) f = Reshape(t, flat) "
    "y = MatMul(f, wo) }"
)


def test_heads_stay_with_head_dims(cli, models, tmp_path):
    """Without it whole heads go; with it every head loses positions, and zeros inside heads are found again."""
    weights = {"wq": (5, 12), "wk": (5, 12), "wv": (5, 12), "wo": (12, 3)}
    made = models(ATTENTION, weights)
    for name, sizes in (("cut", [2, 6, 4, 3]), ("flat", [2, 6, 12])):
        made.graph.initializer.append(onnx.numpy_helper.from_array(np.array(sizes, np.int64), name))
    source, zeroed = tmp_path / "attention.onnx", tmp_path / "zeroed.onnx"
    onnx.save(made, source)

    def lanes(*arguments):
        return only_json(cli(*arguments, "-o", tmp_path / "out.onnx", "--json"))["lanes"]

    assert lanes("prune", source) == {"prunable": 4, "removed": 2}
    found = lanes("prune", source, "--head-dims", "--sparsity", 0.6, "--save-zeroed", zeroed)
    assert found == {"prunable": 24, "removed": 12}  # 14 are asked for; 4 go at a time
    assert lanes("compact", zeroed, "--head-dims") == found
    assert only_json(cli("inspect", source, "--head-dims", "--json"))["lanes"] == 24


def test_prune_for_people(cli, model, tmp_path):
    done = cli("prune", model, "-o", tmp_path / "compact.onnx")
    assert done.returncode == 0
    assert "full and compact agree" in done.stdout
    assert "in ONNX Runtime 1." in done.stdout
    assert "at N=3; N=1" in done.stdout
    assert "not fine-tuned: outputs are off the original model's by" in done.stdout
    assert f"{model.stat().st_size:,} bytes" in done.stdout
    assert "\nlatency in ONNX Runtime 1." in done.stdout
    assert "batch 1\n" in done.stdout
    done = cli("prune", model, "-o", tmp_path / "compact.onnx", "--no-latency")
    assert done.returncode == 0
    assert "latency" not in done.stdout


def test_compact_and_verify(cli, model, tmp_path):
    zeroed, first, second = (tmp_path / f"{name}.onnx" for name in ("zeroed", "first", "second"))
    cli("prune", model, "-o", first, "--save-zeroed", zeroed)
    require_cut(found := only_json(cli("compact", zeroed, "-o", second, "--json")), COMPACTED)
    assert found["lanes"]["removed"] == 10
    verdict = only_json(cli("verify", first, second, "--json"))
    assert set(verdict) == VERDICT
    assert verdict["passed"] is True
    done = cli("verify", model, second, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["passed"] is False


def test_verify_on_given_inputs(cli, model, tmp_path):
    np.savez(tmp_path / "inputs.npz", image=np.ones((5, 1, 8, 8), np.float32))
    found = only_json(cli("verify", model, model, "--inputs", tmp_path / "inputs.npz", "--json"))
    assert found.pop("runtime").startswith("ONNX Runtime ")
    assert found == {
        "passed": True, "max_abs": 0.0, "max_rel": 0.0, "samples": 5, "sizes": [{"N": 5}], "skipped": 0,
    }  # fmt: skip


@pytest.fixture(scope="module")
def run(cli, model, data, tmp_path_factory) -> tuple[dict[str, Any], Path, str]:
    """Train once for the tests below: the JSON, the folder, what stood on stderr."""
    folder = tmp_path_factory.mktemp("run") / "a" / "b"
    done = cli(
        "train", model, "--data", data, "--run", folder, "--sparsity", 0.6, "--epochs", 20,
        "--batch", 16, "--lr", 0.02, "--json",
    )  # fmt: skip
    return only_json(done), folder, done.stderr


def test_train_reports_what_was_promised(run):
    found, folder, _ = run
    require_cut(found, TRAINED)
    assert set(found["metric"]) == {"name", "original", "full", "compact"}
    assert found["metric"]["name"] == "accuracy"
    assert found["latency_ms"]["batch"] == 1
    assert found["sparsity"] == {"target": 0.6, "achieved": 0.6}
    assert found["bytes"]["after"] == (folder / "compact.onnx").stat().st_size
    assert isinstance(found["seconds"], float)


def test_train_reaches_its_target_exactly_and_learns(run):
    found, folder, _ = run
    assert found["lanes"] == {"prunable": 20, "removed": 12}
    assert found["metric"]["full"] == found["metric"]["compact"] >= 0.9
    weights = {
        t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(folder / "trained.onnx").graph.initializer
    }
    # Channels of the residual block: filter of w1, scale and shift, filter and bias of w2; of the last: w3, b3.
    first = [not any(weights[n][k].any() for n in ("w1", "s1", "b1", "w2", "b2")) for k in range(8)]
    second = [not any(weights[n][k].any() for n in ("w3", "b3")) for k in range(12)]
    assert sum(first) + sum(second) == 12
    compact = {t.name: tuple(t.dims) for t in onnx.load(folder / "compact.onnx").graph.initializer}
    assert compact["w3"][:2] == (12 - sum(second), 8 - sum(first))


def test_train_leaves_its_files(run):
    found, folder, progress = run
    assert {path.name for path in folder.iterdir()} == {
        "trained.onnx", "compact.onnx", "metrics.jsonl", "checkpoint.npz", "checkpoint-before.npz",
        "result.json", ".onnx-oto.json",
        "run.toml", "report.html",
    }  # fmt: skip
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    epochs = [line for line in lines if line["kind"] == "epoch"]
    assert [line["epoch"] for line in epochs] == list(range(1, 21))
    assert epochs[-1]["zeroed"] == epochs[-1]["target"] == 12
    result = json.loads((folder / "result.json").read_text())
    assert {key: result[key] for key in found} == found
    assert result["options"]["sparsity"] == 0.6
    assert "scaled from 0..255 to [0, 1]" in progress
    assert "epoch 20: loss" in progress


def test_an_earlier_run_is_not_replaced_unasked(cli, refused, run, model, data):
    _, folder, _ = run
    arguments = ["train", model, "--data", data, "--run", folder, "--epochs", 1, "--batch", 16]
    assert "give another folder, or --overwrite" in refused(2, *arguments)
    assert (folder / "result.json").exists()


def test_dense_training_cuts_nothing(cli, model, data, tmp_path):
    found = only_json(cli(
        "train", model, "--data", data, "--run", tmp_path, "--optimizer", "dense", "--epochs", 1, "--json",
    ))  # fmt: skip
    assert found["lanes"]["removed"] == 0
    assert found["params"]["before"] == found["params"]["after"]


def test_demo(cli, tmp_path):
    found = only_json(cli("demo", "--epochs", 1, "--run", tmp_path, "--json"))
    require_cut(found, TRAINED)
    assert found["sparsity"] == {"target": 0.6, "achieved": 0.6}
    assert found["metric"]["full"] == found["metric"]["compact"] > 0.3


def test_version_and_help(cli):
    assert __version__ in cli("--version").stdout
    text = cli("--help").stdout
    assert all(name in text for name in commands.commands)
