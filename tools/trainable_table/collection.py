"""The models that are tried: the sets of `tools/zoo`, and files of strangers that lie beside the project."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ZOO = Path(__file__).resolve().parents[1] / "zoo"


@dataclass(frozen=True)
class Part:
    """One folder of models. arguments: what `tools/zoo` makes it from."""

    name: str
    arguments: tuple[str, ...]


PARTS = (
    Part("trained_kept", ("trained", "--bn", "kept")),
    Part("trained_training", ("trained", "--bn", "training", "--exporter", "torchscript")),
    Part("trained_folded", ("trained",)),
    Part("extra", ("extra",)),
    Part("open", ("open",)),
    Part("jax", ("jax",)),
    Part("sklearn", ("sklearn",)),
    Part("keras", ("keras",)),
    Part("paddle", ("paddle",)),
    Part("transformers", ("transformers",)),
    Part("ts_transformers", ("transformers", "--exporter", "torchscript")),
    Part("tv_folded", ("torchvision-table",)),
    Part("tv_kept", ("torchvision-table", "--bn", "kept")),
    Part("timm", ("timm",)),
    Part("timm_ts", ("timm", "--exporter", "torchscript")),
    Part("torchvision_ts", ("torchvision", "--exporter", "torchscript")),
)
"""Those that are judged most about come first. The first three are forty networks in three exports each."""


def make(part: Part, folder: Path, cache: Path | None, limit: int | None) -> Path:
    """Make what is missing of a part and return its folder; models that cannot be made are told by `tools/zoo`."""
    target = folder / part.name
    command = [str(ZOO), *part.arguments, "-o", str(target)]
    command += ["--cache", str(cache)] if cache else []
    command += ["--limit", str(limit)] if limit else []
    print(f"making {part.name}: {' '.join(command)}", file=sys.stderr, flush=True)
    subprocess.run(command, check=False)
    return target
