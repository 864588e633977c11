"""A trained model, no labels: pruning while it is distilled, beside one cut and the same distillation afterwards.

    .venv/bin/python tools/distill_trained.py imagenet MODEL --images FILE --folder DIR [--seeds 0,1,2]
    .venv/bin/python tools/distill_trained.py fashion --data fashion_mnist.npz --folder DIR [--macs 0.5]

imagenet: packed images (tools/crops.py) with one label each, split by the seed into 400 for training and 100 that are
judged after every epoch, both without their labels, and 500 for the report. fashion: a ResNet-20 that is trained with
labels first, once for every seed, and then distilled without them.

All arms keep the same share of the multiply-accumulates and take the same steps with the original as their teacher:
`refit` is the default of `train` (groups go before the first step by what the images show, and what reads them is
fitted anew), `dhspg` drives groups to zero meanwhile, `one-shot` is cut by `prune` by the weights alone and then trains
only. Each arm that is done is a
line of JSON in DIR/results.jsonl and is not done again; one that takes longer than --minutes is stopped, and says so.
Prints mean and standard error of the top-1 share of right labels, of original and compact model.
"""

from __future__ import annotations

import argparse
import glob
import json
import re
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from crops import count, crops
from make_demo_assets import fashion_model

import onnx_oto
from onnx_oto.model import save

ARMS = ("refit", "dhspg", "one-shot")
MIDDLE, SPREAD = 127 / 255, 128 / 255
"""What EfficientNet-Lite0 wants of pixels in [0, 1]: (pixel - 127) / 128."""


@dataclass(frozen=True)
class Task:
    """A trained model and its data for one seed. report: uint8 images [n, ...] and labels; mean, std: as for train."""

    name: str
    seed: int
    model: Path
    data: Path
    report: tuple[np.ndarray, np.ndarray]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def top_1(self, model: Path) -> float:
        """Return the share of the images of the report that a model names rightly."""
        session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
        source = session.get_inputs()[0].name
        images, labels = self.report
        right = 0
        for start in range(0, len(images), 50):
            x = images[start : start + 50].astype(np.float32) / 255
            x = np.moveaxis(x, -1, 1) if x.ndim == 4 else x[:, None]
            if self.mean:
                x = (x - np.float32(self.mean[0])) / np.float32(self.std[0])
            scores = session.run(None, {source: x})[0]
            right += int((scores.argmax(axis=1) == labels[start : start + 50]).sum())
        return right / len(images)


def imagenet(options: argparse.Namespace) -> Iterator[Task]:
    """Yield a task for every seed: splits of the packed images."""
    labels = np.load(options.images)["y"]
    for seed in options.seeds:
        order = np.random.default_rng(seed).permutation(count(options.images))
        train, val, report = np.split(order, [options.train, options.train + options.val])
        place = options.folder / f"images-{seed}.npz"
        if not place.exists():
            np.savez(
                place,
                x_train=crops(options.images, train),
                x_val=crops(options.images, val),
                x_test=crops(options.images, val),
            )
        report = report[: options.report]
        judged = (crops(options.images, report), labels[report])
        yield Task("imagenet", seed, options.model, place, judged, (MIDDLE,), (SPREAD,))


def fashion(options: argparse.Namespace) -> Iterator[Task]:
    """Yield a task for every seed: a network that was trained with labels, and images without."""
    full = np.load(options.data)
    for seed in options.seeds:
        trained = options.folder / f"teacher-{seed}" / "trained.onnx"
        if not (trained.parent / "result.json").exists():
            start = options.folder / f"start-{seed}.onnx"
            save(fashion_model("resnet20", seed), start)
            onnx_oto.train(
                start, options.data, trained.parent, optimizer="dense", epochs=options.teacher_epochs, seed=seed,
                flip=True, crop=2, shards=options.shards, skip_latency=True, overwrite=True, say=say,
            )  # fmt: skip
        order = np.random.default_rng(seed).permutation(len(full["x_train"]))[: options.train + options.val]
        train, val = np.split(order, [options.train])
        place = options.folder / f"fashion-{seed}.npz"
        if not place.exists():
            x_val = full["x_train"][val]
            np.savez(place, x_train=full["x_train"][train], x_val=x_val, x_test=x_val)
        judged = (full["x_test"][: options.report], full["y_test"][: options.report])
        yield Task("fashion", seed, trained, place, judged)


def run(task: Task, arm: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return the line of one arm."""
    folder = options.folder / f"{task.name}-{arm}-{task.seed}"
    begin = time.monotonic()
    common: dict[str, Any] = {
        "teacher": task.model, "epochs": options.epochs, "batch": options.batch, "lr": options.lr,
        "direction": options.direction, "clip_norm": options.clip_norm,
        "weight_decay": options.weight_decay, "warm_up": options.warm_up,
        "teacher_temperature": options.temperature, "teacher_tensor": options.tensor,
        "flip": options.flip, "crop": options.crop, "seed": task.seed,
        "shards": options.shards, "fixed_statistics": options.fixed_statistics, "mean": task.mean, "std": task.std,
        "skip_latency": True, "overwrite": True, "say": say,
        "stop": lambda: time.monotonic() - begin > 60 * options.minutes,
    }  # fmt: skip
    line: dict[str, Any] = {"task": task.name, "arm": arm, "seed": task.seed}
    if arm != "one-shot":
        plan = {"optimizer": arm, "scope": options.scope, "from_": "trained"}
        if arm == "dhspg" and options.plan_shrink is not None:
            plan["plan_shrink"] = options.plan_shrink
        found = onnx_oto.train(task.model, task.data, folder, macs=options.macs, **plan, **common)
        macs = None if found.gain is None else found.gain.summary.macs.kept
    else:
        folder.mkdir(parents=True, exist_ok=True)
        cut = options.folder / f"{task.name}-cut-{task.seed}.onnx"
        kept = [glob.escape(name) for name in names(options.tensor)]
        pruned = onnx_oto.prune(
            task.model,
            cut,
            macs=options.macs,
            scope=options.scope,
            keep=kept,
            seed=task.seed,
            skip_latency=True,
        )
        macs = pruned.summary.macs.kept
        line["cut"] = task.top_1(cut)
        found = onnx_oto.train(cut, task.data, folder, optimizer="dense", from_="trained", **common)
    line |= {"seconds": round(time.monotonic() - begin, 1), "stopped": found.history.stopped, "macs": macs}
    if not found.history.stopped:
        line |= {"original": task.top_1(task.model), "compact": task.top_1(folder / "compact.onnx")}
    return line | {"settings": settings(options)}


def names(tensors: list[str]) -> list[str]:
    """Return the names of tensors that are given as NAME or NAME:WEIGHT: what `train` keeps, `prune` has to keep too.

    >>> names(["a", "b:0.5"])
    ['a', 'b']
    """
    return [re.sub(r":[0-9]*\.[0-9]+$", "", text) for text in tensors]


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """Return what decides a result, as JSON: lines of other settings do not count as done."""
    left_out = ("command", "folder", "seeds", "images", "data", "model", "minutes", "arms")
    return {name: value for name, value in vars(options).items() if name not in left_out}


def say(text: str) -> None:
    """Print a sentence about what is done."""
    print(f"  {text}", flush=True)


def table(lines: list[dict[str, Any]]) -> str:
    """Return mean and standard error over the seeds, a row for every arm."""
    rows = [
        "| arm | seeds | MACs | only cut | compact top-1 | original top-1 |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for arm in ARMS:
        own = [line for line in lines if line["arm"] == arm and not line["stopped"]]
        if own:
            kept = statistics.mean(line["macs"] for line in own)
            cut = spread([line["cut"] for line in own]) if "cut" in own[0] else ""
            both = [spread([line[who] for line in own]) for who in ("compact", "original")]
            rows.append(f"| {arm} | {len(own)} | {kept:.1%} | {cut} | {both[0]} | {both[1]} |")
        late = [line["seed"] for line in lines if line["arm"] == arm and line["stopped"]]
        if late:
            rows.append(f"| {arm} | seeds {late} took too long | | | | |")
    return "\n".join(rows)


def spread(values: list[float]) -> str:
    """Return mean and standard error.

    >>> spread([0.5, 0.7])
    '0.6000 +- 0.1000'
    """
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.4f} +- {error:.4f}"


def parsed() -> argparse.Namespace:
    """Return what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, macs, epochs, batch, sizes in (
        ("imagenet", 0.7, 30, 20, (400, 100, 500)),
        ("fashion", 0.5, 10, 64, (59_000, 1_000, 10_000)),
    ):
        each = commands.add_parser(name)
        if name == "imagenet":
            each.add_argument("model", type=Path)
            each.add_argument("--images", type=Path, required=True)
        else:
            each.add_argument("--data", type=Path, required=True)
            each.add_argument("--teacher-epochs", type=int, default=12)
        each.add_argument("--folder", type=Path, required=True)
        each.add_argument(
            "--seeds", type=lambda text: [int(part) for part in text.split(",")], default=[0, 1, 2]
        )
        each.add_argument("--arms", type=lambda text: text.split(","), default=list(ARMS))
        each.add_argument("--minutes", type=float, default=30.0, help="what one arm may take")
        each.add_argument("--macs", type=float, default=macs)
        each.add_argument("--epochs", type=int, default=epochs)
        each.add_argument("--batch", type=int, default=batch)
        for split, size in zip(("train", "val", "report"), sizes, strict=True):
            each.add_argument(f"--{split}", type=int, default=size, help="images")
        each.add_argument("--lr", type=float, help="by default that of a model that was trained")
        each.add_argument("--direction", default="sgd")
        each.add_argument("--clip-norm", type=float)
        each.add_argument("--weight-decay", type=float)
        each.add_argument("--warm-up", type=float)
        each.add_argument("--temperature", type=float, default=2.0)
        each.add_argument("--scope", default="global", choices=("global", "dimension"))
        each.add_argument("--plan-shrink", type=float)
        each.add_argument(
            "--tensor",
            action="append",
            default=[],
            help="see --teacher-tensor (weights with a point, :1.0); repeatable",
        )
        each.add_argument("--flip", action="store_true")
        each.add_argument("--crop", type=int, default=0)
        each.add_argument("--fixed-statistics", action="store_true")
        each.add_argument("--shards", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    options = parsed()
    options.folder.mkdir(parents=True, exist_ok=True)
    results = options.folder / "results.jsonl"
    lines = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    own = [
        line for line in lines if line["task"] == options.command and line["settings"] == settings(options)
    ]
    for task in {"imagenet": imagenet, "fashion": fashion}[options.command](options):
        for arm in options.arms:
            if any((line["arm"], line["seed"]) == (arm, task.seed) for line in own):
                continue
            print(f"{task.name}, seed {task.seed}: {arm}", flush=True)
            line = run(task, arm, options)
            with results.open("a") as file:
                file.write(json.dumps(line) + "\n")
            own.append(line)
            print(json.dumps(line), flush=True)
    print(table(own))


if __name__ == "__main__":
    main()
