"""Runs: each trains in a folder of its own and ends as a line of JSON; what is done is not done again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from PIL import Image

from onnx_oto.metrics.images import Psnr
from onnx_oto.model import save
from paper_six.form import Form
from paper_six.networks import NETWORKS
from paper_six.recipes import Settings, arm

Row = dict[str, Any]
LINES = "results.jsonl"
GRACE = 120
"""Seconds that a run has to leave a checkpoint when its time is over."""
INTERRUPTED = 130


@dataclass(frozen=True)
class Run:
    """One training. title: of the data, for the table; known: what the published network reaches there."""

    network: str
    recipe: str
    form: Form
    data: Path
    settings: Settings
    optimizer: str
    seed: int = 0
    title: str = ""
    known: float | None = None

    @property
    def name(self) -> str:
        """Return the name of its folder; other settings make another one."""
        width = f"-{self.form.width:g}" if self.form.width != 1 else ""
        return f"{self.recipe}{width}-{self.settings['epochs']}-{self.optimizer}-{self.seed}"

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write model and settings to the folder; return their paths. The same run writes the same bytes."""
        folder.mkdir(parents=True, exist_ok=True)
        model, config = folder / f"{self.name}.onnx", folder / f"{self.name}.toml"
        save(NETWORKS[self.network](self.form, self.seed), model)
        content = arm(self.settings, self.optimizer) | {"seed": self.seed}
        config.write_text(tomli_w.dumps({"train": content}), encoding="utf-8")
        return model, config


class Left(Exception):
    """A run was stopped because its time was over; the next call goes on."""


def do(run: Run, folder: Path, extra: Sequence[str] = (), minutes: float | None = None) -> Row:
    """Return the line of a run, done now or before. Raises Left, or SystemExit with the code of a run that failed."""
    lines = folder / LINES
    done = {row["run"]: row for row in rows(lines)}
    if run.name in done:
        return done[run.name]
    place = folder / run.name
    result = place / "result.json"
    if not result.exists():
        _train(run, folder, place, extra, minutes)
    row = line(run, json.loads(result.read_text(encoding="utf-8")))
    with lines.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    return row


def rows(lines: Path) -> list[Row]:
    """Return the lines that are there; one that was cut off by a kill counts for nothing."""
    if not lines.exists():
        return []
    found = []
    for text in lines.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(text))
        except ValueError:
            print(f"{lines}: a line that is not whole is left out", file=sys.stderr)
    return found


def line(run: Run, result: Row) -> Row:
    """Return what is kept of a result."""
    found: Row = {
        "run": run.name,
        "network": run.network,
        "data": run.title or str(run.data),
        "width": run.form.width,
        "optimizer": run.optimizer,
        "seed": run.seed,
        "epochs": run.settings["epochs"],
        "known": run.known,
        "metric": result["metric"],
        "largest_difference": result["verify"]["max_abs"],
        "agree": result["verify"]["passed"],
        **{key: result[key] for key in ("sparsity", "lanes", "params", "macs", "round_to", "seconds")},
    }
    small, large = (run.data / "test" / kind for kind in ("LR", "HR"))
    if small.is_dir() and large.is_dir():
        found["bicubic"] = bicubic(small, large)
    return found


def bicubic(small: Path, large: Path) -> float:
    """Return the mean PSNR, over RGB, of small images made larger by bicubic scaling."""
    measured = []
    for path in sorted(large.glob("*.png")):
        target = Image.open(path).convert("RGB")
        guess = Image.open(small / path.name).convert("RGB").resize(target.size, Image.Resampling.BICUBIC)
        pair = [np.asarray(image, np.float64)[None] / 255 for image in (guess, target)]
        measured.append(float(Psnr().of_images(*pair)[0]))
    return float(np.mean(measured))


def _train(run: Run, folder: Path, place: Path, extra: Sequence[str], minutes: float | None) -> None:
    command = [sys.executable, "-m", "onnx_oto"]
    if any(place.glob("checkpoint*.npz")):
        command += ["resume", str(place)]
    else:
        model, config = run.write(folder)
        command += [
            "train",
            str(model),
            "--data",
            str(run.data),
            "--run",
            str(place),
            "--config",
            str(config),
        ]
        command += ["--overwrite", *extra]
    print(f"== {' '.join(command)}", file=sys.stderr, flush=True)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        process.wait(None if minutes is None else 60 * minutes)
    except subprocess.TimeoutExpired:
        _stop(process)
        if not (place / "result.json").exists():
            raise Left(f"{run.name}: left after {minutes:g} minutes, the same command goes on") from None
        return
    except KeyboardInterrupt:
        process.wait()  # it got the signal too
        raise SystemExit(INTERRUPTED) from None
    if process.returncode:
        raise SystemExit(process.returncode)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Have a run leave a checkpoint; one that does not in time has that of before."""
    process.terminate()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
