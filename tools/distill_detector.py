"""A detector without labels: how much nearer to the original a distilled compact model is than one that was only cut.

    .venv/bin/python tools/distill_detector.py MODEL --images FILE --folder DIR [--size 320] [--macs 0.7]

The model is cut once by `prune` and left so, and trained by `train` on images alone, with the model itself as its
teacher in front of whatever chooses boxes; both keep the same share of the multiply-accumulates. What both give for
images that neither has seen is compared with the original: for every float output, and every tensor that is compared in
training, the mean over the images of |compact - original| / |original| in the Euclidean norm.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from crops import count, crops

import onnx_oto
from onnx_oto.pipeline.aim import giving

MEAN_OF = "mean of all"


def distances(original: Path, compact: Path, images: np.ndarray, names: list[str]) -> dict[str, float]:
    """Return how far tensors of the compact model are off, relative to the original's, by name, and their mean."""
    sessions = [_session(path, names) for path in (original, compact)]
    (source,) = (value.name for value in sessions[0].get_inputs())
    totals = dict.fromkeys(names, 0.0)
    for image in images:
        fed = {source: np.moveaxis(image, -1, 0)[None].astype(np.float32) / 255}
        full, small = (session.run(names, fed) for session in sessions)
        for name, a, b in zip(names, full, small, strict=True):
            totals[name] += float(np.linalg.norm(b - a) / max(np.linalg.norm(a), 1e-12))
    found = {name: total / len(images) for name, total in totals.items()}
    return {**found, MEAN_OF: float(np.mean(list(found.values())))}


def _session(path: Path, names: list[str]) -> Any:
    model = giving(onnx.load(path), names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def compared(said: list[str]) -> list[str]:
    """Return the tensors that training said it compares."""
    line = next(line for line in said if line.startswith("teacher: "))
    return line.split("'")[1::2]


def run(options: argparse.Namespace) -> Mapping[str, Any]:
    """Return the table for the options, see the module."""
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(options.seed).permutation(count(options.images))
    train, report = np.split(order[: options.train + options.report], [options.train])
    seen, unseen = (crops(options.images, rows, options.size) for rows in (train, report))
    np.savez(folder / "images.npz", x_train=seen, x_test=unseen[: options.test])
    said: list[str] = []
    begin = time.perf_counter()
    onnx_oto.prune(options.model, folder / "one-shot.onnx", macs=options.macs, skip_latency=True)
    cut = time.perf_counter() - begin
    trained = onnx_oto.train(
        options.model,
        folder / "images.npz",
        folder / "run",
        macs=options.macs,
        epochs=options.epochs,
        batch=options.batch,
        lr=options.lr,
        direction=options.direction,
        clip_norm=1.0,
        shards=options.shards,
        seed=options.seed,
        skip_latency=True,
        overwrite=True,
        say=lambda text: (said.append(text), print(text, flush=True))[0],
    )
    names = [value.name for value in onnx.load(options.model).graph.output]
    names = list(dict.fromkeys([*names, *compared(said)]))
    one_shot, distilled = (
        distances(options.model, path, unseen, names)
        for path in (folder / "one-shot.onnx", folder / "run/compact.onnx")
    )
    return {
        "model": Path(options.model).name,
        "images": {"train": len(seen), "report": len(unseen), "size": options.size, "seed": options.seed},
        "macs": {
            "asked": options.macs,
            "distilled": trained.gain.summary.macs.kept if trained.gain else None,
        },
        "one-shot": one_shot,
        "distilled": distilled,
        "factor": {name: one_shot[name] / max(distilled[name], 1e-12) for name in one_shot},
        "seconds": {"cut": round(cut, 1), "train": round(trained.seconds, 1)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--images", type=Path, required=True, help="packed images, see tools/crops.py")
    parser.add_argument("--folder", type=Path, required=True, help="where everything is written")
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--train", type=int, default=500)
    parser.add_argument("--report", type=int, default=100)
    parser.add_argument("--test", type=int, default=16, help="images that are judged after every epoch")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--direction", default="adam")
    parser.add_argument("--macs", type=float, default=0.7)
    parser.add_argument("--shards", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found = run(options)
    (options.folder / "table.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
