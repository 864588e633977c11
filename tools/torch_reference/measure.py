"""The distance of ours and of PyTorch's float32 from PyTorch's float64. Numpy alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from torch_reference.steps import EXACT, SINGLE, WAYS

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]

LEAST = 2.0**-24
"""No error counts as less than half a unit in the last place of float32."""
ALLOWED = 3.0
NOISE = 0.1
"""A gradient that float32 misses by this share is noise: Adam makes steps of full length of it."""


@dataclass(frozen=True)
class Places:
    """Where the numbers of our parameters lie in PyTorch's, one after the other in `names`.

    found: our name -> index of each of its numbers in the flat order of PyTorch's, -1 for numbers it does not have.
    """

    names: tuple[str, ...]
    offsets: Array
    found: Mapping[str, Array]

    @property
    def covered(self) -> Array:
        """How often each of PyTorch's numbers is held by ours: int64 [all]."""
        count = np.zeros(int(self.offsets[-1]), np.int64)
        for index in self.found.values():
            np.add.at(count, index[index >= 0], 1)
        return count

    def parameter(self, index: int) -> str:
        """Return the name of the parameter that a number lies in."""
        return self.names[int(np.searchsorted(self.offsets, index, side="right")) - 1]


def locate(ours: Arrays, theirs: Arrays) -> Places:
    """Return where our numbers are among theirs, by value: theirs are all distinct."""
    names = tuple(theirs)
    flat = np.concatenate([theirs[name].ravel() for name in names]).astype(np.float32)
    offsets = np.cumsum([0, *(theirs[name].size for name in names)])
    order = np.argsort(flat, kind="stable")
    ordered = flat[order]
    found = {}
    for name, values in ours.items():
        wanted = values.ravel().astype(np.float32)
        at = np.minimum(np.searchsorted(ordered, wanted), len(ordered) - 1)
        found[name] = np.where(ordered[at] == wanted, order[at], -1)
    return Places(names, offsets, found)


def compare(ours: Arrays, theirs: Arrays, parameters: list[str]) -> dict[str, Any]:
    """Return facts: shares found, and of everything measured the errors of ours and theirs, and the ratio."""
    start = {name: theirs[f"start|{name}"] for name in parameters}
    mine = _part(ours, "start")
    gradients = _part(ours, "gradient")
    places = locate({name: mine[name] for name in gradients}, start)
    facts: dict[str, Any] = {
        "found": float((places.covered > 0).mean()),
        "copied": float((places.covered > 1).mean()),
        "foreign": [name for name, index in places.found.items() if (index < 0).all()],
        "untrained": _untrained(places, theirs),
        "loss": _errors(
            ours["loss"],
            [theirs[f"loss|{label}"] for label in SINGLE],
            theirs[f"loss|{EXACT}"],
            theirs[f"loss|{EXACT}"],
        ),
    }
    for kind in ("gradient", *WAYS):
        facts[kind] = _of_parameters(kind, _part(ours, kind), theirs, places)
    statistics = _of_statistics(ours, theirs, mine)
    return {**facts, "statistic": statistics} if statistics else facts


def _part(arrays: Arrays, kind: str) -> dict[str, Array]:
    return {key.split("|", 1)[1]: value for key, value in arrays.items() if key.startswith(kind + "|")}


def _untrained(places: Places, theirs: Arrays) -> list[str]:
    """Return PyTorch's parameters with a gradient that ours do not hold at all."""
    covered = places.covered
    pairs = zip(places.names, places.offsets[:-1], places.offsets[1:], strict=True)
    return [n for n, a, b in pairs if b > a and not covered[a:b].any() and f"gradient|{n}|{EXACT}" in theirs]


def _of_parameters(kind: str, ours: Mapping[str, Array], theirs: Arrays, places: Places) -> dict[str, Any]:
    """Return errors over all numbers that both hold. Of copies, gradients add up and values must all be right."""
    sizes = np.diff(places.offsets)
    exact, *single = (_flat(kind, label, theirs, places.names, sizes) for label in (EXACT, *SINGLE))
    total, count = np.zeros(len(exact)), places.covered
    for name, index in places.found.items():
        known = index >= 0
        np.add.at(total, index[known], ours[name].ravel()[known].astype(np.float64))
    if kind != "gradient":
        total /= np.maximum(count, 1)
        scale = exact - _flat("start", "", theirs, places.names, sizes)
    else:
        scale = exact
    both = (count > 0) & np.isfinite(exact)
    if kind != "gradient":
        both &= ~_is_noise(theirs, places.names, sizes)
    facts = _errors(total[both], [values[both] for values in single], exact[both], scale[both])
    if both.any():
        worst = _worst(total, exact, both, places)
        facts["worst"] = worst
    return facts


def _is_noise(theirs: Arrays, names: tuple[str, ...], sizes: Array) -> Array:
    """Say of every number whether its first gradient is lost in PyTorch's own rounding: bool [all]."""
    exact, *single = (_flat("gradient", label, theirs, names, sizes) for label in (EXACT, *SINGLE))
    noise: Array = np.max([np.abs(values - exact) for values in single], axis=0) > NOISE * np.abs(exact)
    return noise


def _flat(kind: str, label: str, theirs: Arrays, names: tuple[str, ...], sizes: Array) -> Array:
    """Return PyTorch's numbers in flat order, nan where a parameter has no gradient."""
    keys = [f"{kind}|{name}|{label}" if label else f"{kind}|{name}" for name in names]
    parts = [
        theirs[key].ravel() if key in theirs else np.full(size, np.nan)
        for key, size in zip(keys, sizes, strict=True)
    ]
    return np.concatenate(parts).astype(np.float64)


def _worst(ours: Array, exact: Array, both: Array, places: Places) -> str:
    """Return the parameter that holds most of the error, and its own relative error."""
    square = np.where(both, (ours - exact) ** 2, 0.0)
    sums = np.add.reduceat(square, places.offsets[:-1][np.diff(places.offsets) > 0])
    names = [n for n, size in zip(places.names, np.diff(places.offsets), strict=True) if size]
    name = names[int(sums.argmax())]
    at = places.names.index(name)
    part = slice(places.offsets[at], places.offsets[at + 1])
    norm = np.linalg.norm(np.where(both[part], exact[part], 0.0))
    return f"{name} {np.sqrt(sums.max()) / max(norm, 1e-30):.1e}"


def _of_statistics(ours: Arrays, theirs: Arrays, mine: Mapping[str, Array]) -> dict[str, Any] | None:
    """Return errors over all running means and variances, each relative to how far it moved."""
    mine = {name: value for name, value in mine.items() if f"statistic|{name}" in ours}
    rows = []
    for key in (key for key in theirs if key.startswith("statistic|") and key.endswith(f"|{EXACT}")):
        name = key.split("|")[1]
        start = theirs[f"start|{name}"]
        match = next(
            (n for n, v in mine.items() if v.shape == start.shape and np.array_equal(v, start)), None
        )
        if match is None:
            return {
                "ours": float("inf"),
                "theirs": 0.0,
                "ratio": float("inf"),
                "worst": f"{name} is not held",
            }
        exact = theirs[key].astype(np.float64)
        moved = float(np.linalg.norm(exact - start))
        single = [theirs[f"statistic|{name}|{label}"] for label in SINGLE]
        most = max(_relative(values, exact, moved) for values in single)
        rows.append((name, _relative(ours[f"statistic|{match}"], exact, moved), most))
    if not rows:
        return None
    name, mine_most, _ = max(rows, key=lambda row: row[1])
    theirs_most = max(row[2] for row in rows)
    return {**_ratio(mine_most, theirs_most), "worst": name}


def _errors(ours: Array, single: list[Array], exact: Array, scale: Array) -> dict[str, Any]:
    """Return our error and the largest of PyTorch's runs in float32: rounding is luck, in long chains of steps most."""
    norm = float(np.linalg.norm(scale))
    return _ratio(_relative(ours, exact, norm), max(_relative(values, exact, norm) for values in single))


def _relative(values: Array, exact: Array, norm: float) -> float:
    """Return ||values - exact|| / norm; infinite when something is not finite."""
    error = float(np.linalg.norm(np.asarray(values, np.float64) - exact)) / max(norm, 1e-30)
    return error if np.isfinite(error) else float("inf")


def _ratio(ours: float, theirs: float) -> dict[str, Any]:
    return {"ours": ours, "theirs": theirs, "ratio": max(ours, LEAST) / max(theirs, LEAST)}
