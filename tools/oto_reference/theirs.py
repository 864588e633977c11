"""The package's optimizer over groups that we name; it needs neither the package's graph nor a GPU for that."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

KINDS = {"default": 1, "auxiliary": 2, "conv": 5}
"""As the package numbers them (assets/group_types.py)."""
Parameters = Mapping[str, torch.nn.Parameter]


def optimizer_class(package: Path) -> Any:
    """Return DHSPG. Its module is loaded beside the package's face, which needs graphviz and more.

    It asks for CUDA for masks and sums, which stay where they are here.
    """
    sys.path.insert(0, str(package / "only_train_once"))
    torch.Tensor.cuda = lambda self, *args, **kwargs: self  # type: ignore[method-assign, assignment]
    from optimizer.dhspg import DHSPG

    return DHSPG


def groups_of(parts: Iterable[Any], parameters: Parameters) -> list[dict[str, Any]]:
    """Return the groups as the package wants them. parts: see `network.Part`.

    Parameters with rows of several parts are auxiliary: one entry of their own, which each part refers to with the
    first of its rows. What is in no part is trained plainly.
    """
    parts = list(parts)
    used = [name for part in parts for name in part.parameters]
    shared = [name for name in parameters if used.count(name) > 1]
    entries: list[dict[str, Any]] = []
    for number, part in enumerate(parts):
        own = [parameters[name] for name in part.parameters if name not in shared]
        other = [(f"shared {name}", first) for name, first in part.parameters.items() if name in shared]
        entries.append(_entry(f"part {number}", "conv", own, part.size, other))
    entries += [_entry(f"shared {name}", "auxiliary", [parameters[name]], 1, []) for name in shared]
    rest = [parameter for name, parameter in parameters.items() if name not in used]
    return [*entries, *([_entry("rest", "default", rest, 1, [])] if rest else [])]


def _entry(
    name: str, kind: str, params: list[Any], size: int, other: list[tuple[str, int]]
) -> dict[str, Any]:
    return {
        "cc_id": name,
        "params": params,
        "group_type": KINDS[kind],
        "num_groups": size,
        "upper_group_sparsity": 1.0,
        "auxiliary_ccs": other,
    }


def step(optimizer: Any) -> None:
    """Take a step; what the package prints is left out."""
    with contextlib.redirect_stdout(io.StringIO()):
        optimizer.step()
