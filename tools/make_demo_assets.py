"""Make the demo's data and model: a subset of Fashion-MNIST and an untrained residual CNN, both seeded.

    python tools/make_demo_assets.py data --source fashion_mnist.npz
    python tools/make_demo_assets.py model
    python tools/make_demo_assets.py model --arch resnet20 -o fashion_resnet20.onnx

`--source` is an npz with the complete set: x_train, y_train, x_test, y_test (uint8 images [N, 28, 28]).
The subset keeps the first 1,000 training and 200 test images of every class after a seeded shuffle, in file
order. To stay below 4 MB, grey levels are rounded down to even numbers (128 levels) and the npz members are
compressed with LZMA, which `numpy.load` reads like any other npz.
"""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

import click
import numpy as np
import onnx
from models import residual

from onnx_oto.model import save

ROOT = Path(__file__).resolve().parent.parent
ASSETS = ROOT / "onnx_oto" / "assets"
SAMPLES = ROOT / "samples"
LIMIT = 4_000_000
CLASSES = 10
# Channels per stage, basic blocks per stage.
ARCHITECTURES = {"resnet8": ((20, 40, 80), 1), "resnet20": ((16, 32, 64), 3)}


@click.group(help="Make the demo's data and model.")
def main() -> None:
    """Group of the two commands."""


@main.command()
@click.option("--source", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "output", default=ASSETS / "fashion_mnist_subset.npz", type=click.Path(path_type=Path))
@click.option("--train", "train_count", default=10_000, show_default=True)
@click.option("--test", "test_count", default=2_000, show_default=True)
@click.option("--seed", default=0, show_default=True)
def data(source: Path, output: Path, train_count: int, test_count: int, seed: int) -> None:
    """Write the class-balanced subset."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, np.ndarray] = {}
    with np.load(source, allow_pickle=False) as full:
        for split, count in (("train", train_count), ("test", test_count)):
            images, labels = full[f"x_{split}"], full[f"y_{split}"]
            keep = balanced(labels, count, rng)
            arrays[f"x_{split}"] = images[keep] & np.uint8(0xFE)
            arrays[f"y_{split}"] = labels[keep]
    size = write_npz(output, arrays)
    print(f"{output}: {train_count} + {test_count} images, {size / 1e6:.2f} MB", file=sys.stderr)
    if size > LIMIT:
        raise click.ClickException(f"{output} has {size} bytes, more than {LIMIT}")


@main.command()
@click.option("--arch", default="resnet8", type=click.Choice(sorted(ARCHITECTURES)), show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option(
    "-o", "output", multiple=True, type=click.Path(path_type=Path), help="[default: the demo's places]"
)
def model(arch: str, seed: int, output: tuple[Path, ...]) -> None:
    """Write the untrained model."""
    made = fashion_model(arch, seed)
    for path in output or (ASSETS / "fashion_resnet.onnx", SAMPLES / "fashion_resnet.onnx"):
        save(made, path)
        print(f"{path}: {arch}, seed {seed}", file=sys.stderr)


def balanced(labels: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return `count` sorted indices, the same number of every class."""
    share = count // CLASSES
    chosen = [rng.permutation(np.flatnonzero(labels == label))[:share] for label in range(CLASSES)]
    return np.sort(np.concatenate(chosen))


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> int:
    """Write an npz with LZMA members and no timestamps, so that equal input gives equal bytes; return its size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, array, allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy")
            entry.compress_type = zipfile.ZIP_LZMA
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, buffer.getvalue())
    return path.stat().st_size


def fashion_model(arch: str, seed: int) -> onnx.ModelProto:
    """Return an untrained (He-initialised) residual CNN: image [N, 1, 28, 28] -> logits [N, 10]."""
    stages, blocks = ARCHITECTURES[arch]
    made = residual(stages=stages, blocks=blocks, image=(1, 28, 28), classes=CLASSES, seed=seed)
    made.producer_name = "onnx-oto"
    made.graph.name = f"fashion_{arch}"
    made.doc_string = f"Untrained {arch} for 28x28 grey images in [0, 1], seed {seed}"
    return made


if __name__ == "__main__":
    main()
