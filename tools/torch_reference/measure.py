"""The distance of ours and of PyTorch's float32 from PyTorch's float64. Numpy alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    mine = {key.split("|")[1]: value for key, value in ours.items() if key.startswith("start|")}
    trained = {name: value for name, value in mine.items() if f"gradient|{name}|{SINGLE[0]}" in ours}
    places = locate(trained, start)
    facts: dict[str, Any] = {
        "found": float((places.covered > 0).mean()),
        "copied": float((places.covered > 1).mean()),
        "foreign": [name for name, index in places.found.items() if (index < 0).all()],
        "untrained": _untrained(places, theirs),
        "loss": _errors(*(_labelled(arrays, "loss") for arrays in (ours, theirs)), theirs[f"loss|{EXACT}"]),
    }
    for kind in ("gradient", *WAYS):
        facts[kind] = _of_parameters(kind, ours, theirs, places)
    statistics = _of_statistics(ours, theirs, mine)
    return {**facts, "statistic": statistics} if statistics else facts


def _labelled(arrays: Arrays, key: str) -> dict[str, Array]:
    """Return what was measured in every run, by label; PyTorch's exact one too where it is there."""
    return {label: arrays[f"{key}|{label}"] for label in (EXACT, *SINGLE) if f"{key}|{label}" in arrays}


def _untrained(places: Places, theirs: Arrays) -> list[str]:
    """Return PyTorch's parameters with a gradient that ours do not hold at all."""
    covered = places.covered
    pairs = zip(places.names, places.offsets[:-1], places.offsets[1:], strict=True)
    return [n for n, a, b in pairs if b > a and not covered[a:b].any() and f"gradient|{n}|{EXACT}" in theirs]


def _of_parameters(kind: str, ours: Arrays, theirs: Arrays, places: Places) -> dict[str, Any]:
    """Return errors over all numbers that both hold. Of copies, gradients add up and values are averaged."""
    sizes = np.diff(places.offsets)
    values = {label: _flat(kind, label, theirs, places.names, sizes) for label in (EXACT, *SINGLE)}
    exact = scale = values[EXACT]
    mine = {label: _gathered(kind, label, ours, places) for label in SINGLE}
    both = (places.covered > 0) & np.isfinite(exact)
    if kind != "gradient":
        scale = exact - _flat("start", "", theirs, places.names, sizes)
        both &= ~_is_noise(theirs, places.names, sizes)
    held, known = ({label: value[both] for label, value in runs.items()} for runs in (mine, values))
    facts = _errors(held, known, scale[both], np.median if kind == "gradient" else np.min)
    return {**facts, "worst": _worst(mine[SINGLE[0]], exact, both, places)} if both.any() else facts


def _gathered(kind: str, label: str, ours: Arrays, places: Places) -> Array:
    """Return our numbers in PyTorch's flat order: of copies the sum of gradients, else the mean."""
    total = np.zeros(int(places.offsets[-1]))
    for name, index in places.found.items():
        known = index >= 0
        np.add.at(total, index[known], ours[f"{kind}|{name}|{label}"].ravel()[known].astype(np.float64))
    return total if kind == "gradient" else total / np.maximum(places.covered, 1)


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


def _of_statistics(ours: Arrays, theirs: Arrays, mine: Arrays) -> dict[str, Any] | None:
    """Return the errors of the worst running mean or variance, relative to how far it moved; None without any."""
    rows = []
    for name in (
        key.split("|")[1] for key in theirs if key.startswith("statistic|") and key.endswith(f"|{EXACT}")
    ):
        start = theirs[f"start|{name}"]
        match = next((n for n, v in mine.items() if v.shape == start.shape and np.array_equal(v, start)), "")
        found = _labelled(ours, f"statistic|{match}")
        if not found:
            return {"ours": np.inf, "theirs": 0.0, "ratio": np.inf, "worst": f"{name} is not held"}
        known = _labelled(theirs, f"statistic|{name}")
        rows.append((_errors(found, known, known[EXACT] - start), name))
    if not rows:
        return None
    worst, name = max(rows, key=lambda row: float(row[0]["ours"]))
    return {**_ratio(worst["ours"], max(row["theirs"] for row, _ in rows)), "worst": name}


def _errors(ours: Arrays, theirs: Arrays, scale: Array, of: Callable[..., Any] = np.median) -> dict[str, Any]:
    """Return one error of our runs, and the largest of PyTorch's in float32.

    of: which one of ours. After many steps it is the smallest: a ReLU that turns in another step, or a direction that
    amplifies, makes some runs worse by orders of magnitude, a fault makes all of them so.
    """
    norm = float(np.linalg.norm(scale))
    mine, single = (
        [_relative(runs[label], theirs[EXACT], norm) for label in SINGLE] for runs in (ours, theirs)
    )
    return _ratio(float(of(mine)), max(single))


def _relative(values: Array, exact: Array, norm: float) -> float:
    """Return ||values - exact|| / norm; infinite when something is not finite."""
    error = float(np.linalg.norm(np.asarray(values, np.float64) - exact)) / max(norm, 1e-30)
    return error if np.isfinite(error) else float("inf")


def _ratio(ours: float, theirs: float) -> dict[str, Any]:
    return {"ours": ours, "theirs": theirs, "ratio": max(ours, LEAST) / max(theirs, LEAST)}
