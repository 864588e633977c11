"""Run with `pytest tools/paper_six`: the networks are those of the papers, are cut exactly, and train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnx_oto
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.settings.base import flat, gathered, settings_of
from onnx_oto.settings.files import read_settings, written
from paper_six.form import Form
from paper_six.networks import NETWORKS
from paper_six.recipes import DENSE, SPARSE, arm, recipes, settings
from paper_six.small import SMALL

IMAGENET, CIFAR = Form(), Form(3, 32, 10)
LAST = {"carn": "exit", "carn_m": "exit", "densenet121": "classifier", "stacked_unets": "linear"}
LAST |= {"vgg16": "classifier.6", "vgg16_bn": "classifier.6", "convnext_t": "classifier.2"}
LAST |= {"resnet20": "linear", "resnet56": "linear"}


def tiny(network: str) -> Form:
    """An eighth of the widths, images as small as the depth allows; CARN-M has 4 groups of 2."""
    return Form(3, 0, 0, 0.125) if network.startswith("carn") else Form(1, 16, 3, 0.125)


def count(model: onnx.ModelProto) -> int:
    """What PyTorch calls parameters."""
    own = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT]
    fixed = ("running_mean", "running_var", "_mean", "dropout.ratio")
    return sum(int(np.prod(t.dims)) for t in own if not t.name.endswith(fixed))


@pytest.mark.parametrize(
    ("network", "form", "parameters"),
    [
        ("resnet18", CIFAR, 11_173_962),
        ("resnet18", IMAGENET, 11_689_512),
        ("resnet50", CIFAR, 23_520_842),  # so in OTO's tutorial 03
        ("resnet50", IMAGENET, 25_557_032),
        ("resnet20", CIFAR, 269_722),
        ("resnet56", CIFAR, 853_018),
        ("vgg16_bn", CIFAR, 15_253_578),  # so in OTO's tutorial 04
        ("vgg16", CIFAR, 15_245_130),
        ("densenet121", IMAGENET, 7_978_856),
        ("convnext_t", IMAGENET, 28_589_128),
        ("carn", Form(3, 0, 0), 964_163),  # and 24 in the layers for the mean, in OTO's tutorial for CARN
        ("stacked_unets", IMAGENET, 6_910_248),  # 6.9 million in the paper
    ],
)
def test_sizes_are_the_published_ones(network: str, form: Form, parameters: int) -> None:
    assert count(NETWORKS[network](form, 0)) == parameters


@pytest.mark.parametrize("network", NETWORKS)
def test_all_but_the_outputs_can_be_cut_exactly(network: str, tmp_path: Path) -> None:
    model = NETWORKS[network](tiny(network), 0)
    frozen = [d.name for d in onnx_oto.inspect(model).dimensions if d.reason]
    assert frozen == [f"{LAST.get(network, 'fc')}.weight"]
    result = onnx_oto.prune(model, tmp_path / "half.onnx", sparsity=0.5, round_to=1, skip_latency=True)
    found = result.as_json()
    assert found["verify"]["passed"]
    assert found["lanes"]["removed"] == pytest.approx(found["lanes"]["prunable"] / 2, abs=4)
    assert found["params"]["after"] < 0.4 * found["params"]["before"]


@pytest.mark.parametrize("network", NETWORKS)
def test_a_few_steps_of_the_recipe_train_and_end_exactly(network: str, tmp_path: Path) -> None:
    small = SMALL[network]
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, samples in (("train", 32), ("test", 8)):
        if network.startswith("carn"):
            arrays[f"x_{split}"] = rng.integers(0, 256, (samples, 3, 8, 8), dtype=np.uint8)
            arrays[f"y_{split}"] = rng.integers(0, 256, (samples, 3, 16, 16), dtype=np.uint8)
        else:
            arrays[f"x_{split}"] = rng.integers(0, 256, (samples, 1, 16, 16), dtype=np.uint8)
            arrays[f"y_{split}"] = rng.integers(0, 3, samples)
    np.savez(tmp_path / "noise.npz", **arrays)
    without = ("patch", "patches-per-image", "mean", "std")
    content = {key: value for key, value in arm(small.settings, SPARSE).items() if key not in without}
    given = {key.replace("-", "_"): value for key, value in (content | {"epochs": 2, "batch": 8}).items()}
    model = NETWORKS[network](tiny(network), 0)
    trained = onnx_oto.train(
        model, tmp_path / "noise.npz", tmp_path / "run", **given, shards=1, round_to=1, skip_latency=True
    )
    found = trained.as_json()
    assert found["verify"]["passed"]
    assert found["sparsity"]["achieved"] == pytest.approx(0.5, abs=0.01)
    assert found["metric"]["full"] == pytest.approx(found["metric"]["compact"], abs=1e-4)


def accepted(content: dict[str, Any], folder: Path) -> TrainOptions:
    """What `onnx-oto train --config` makes of settings."""
    file = folder / "my.toml"
    file.write_bytes(written("train", content, folder))
    known = settings_of(TrainOptions)
    values = read_settings(file, "train", flat(known), ["train"])
    options = TrainOptions(**gathered(known, values))
    assert options.method
    return options


@pytest.mark.parametrize("optimizer", [DENSE, SPARSE])
@pytest.mark.parametrize("recipe", recipes())
def test_recipes_are_accepted(recipe: str, optimizer: str, tmp_path: Path) -> None:
    options = accepted(arm(settings(recipe), optimizer), tmp_path)
    assert options.optimizer == optimizer


@pytest.mark.parametrize("network", SMALL)
def test_reduced_runs_are_accepted_and_follow_a_recipe_of_the_network(network: str, tmp_path: Path) -> None:
    small = SMALL[network]
    assert recipes()[small.recipe][0] == network
    assert small.form.width >= 0.25
    for optimizer in (DENSE, SPARSE):
        accepted(arm(small.settings, optimizer), tmp_path)


def test_every_network_has_a_recipe_and_a_reduced_run() -> None:
    assert {network for network, _ in recipes().values()} == set(NETWORKS) == set(SMALL)
    assert {data for _, data in recipes().values()} == {
        *("cifar10", "cifar100", "fashion_mnist", "svhn", "div2k", "imagenet"),
    }


def test_the_seed_alone_decides_the_weights() -> None:
    first, again, other = (NETWORKS["resnet20"](CIFAR, seed).SerializeToString() for seed in (1, 1, 2))
    assert first == again
    assert first != other
