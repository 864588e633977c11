"""The distance of ours and of PyTorch's float32 from PyTorch's float64. Numpy alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from torch_reference.steps import EXACT, MOVED, SINGLE, WAYS

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]
Errors = dict[str, Any]

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

    @cached_property
    def covered(self) -> Array:
        """How often each of PyTorch's numbers is held by ours: int64 [all]."""
        known = np.concatenate([index[index >= 0] for index in self.found.values()])
        return np.bincount(known, minlength=int(self.offsets[-1]))

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


def compare(
    ours: Arrays, theirs: Arrays, parameters: list[str], places: Places | None = None
) -> dict[str, Any]:
    """Return facts of one batch: shares found, and of everything measured the errors of ours and of theirs.

    places: where `places_of` found our numbers, the same in every batch.
    """
    mine = _starts(ours)
    places = places or places_of(ours, theirs, parameters)
    facts: dict[str, Any] = {
        "found": float((places.covered > 0).mean()),
        "copied": float((places.covered > 1).mean()),
        "foreign": [name for name, index in places.found.items() if (index < 0).all()],
        "untrained": _untrained(places, theirs),
        "decay": _decayed_otherwise(places, ours, theirs),
        "loss": _errors(ours["loss"], theirs, "loss", theirs[f"loss|{EXACT}"]),
    }
    for kind in ("gradient", *WAYS):
        if f"{kind}|{parameters[0]}|{EXACT}" in theirs or kind == "gradient":
            facts[kind] = _of_parameters(kind, ours, theirs, places)
    for kind in ("statistic", "later"):
        if statistics := _of_statistics(kind, ours, theirs, mine):
            facts[kind] = statistics
    return facts


def places_of(ours: Arrays, theirs: Arrays, parameters: list[str]) -> Places:
    """Return where the numbers that we train lie among PyTorch's parameters."""
    trained = {name: value for name, value in _starts(ours).items() if f"gradient|{name}" in ours}
    return locate(trained, {name: theirs[f"start|{name}"] for name in parameters})


def _starts(ours: Arrays) -> Arrays:
    return {key.split("|")[1]: value for key, value in ours.items() if key.startswith("start|")}


def combined(batches: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the facts of a model: of all errors the median over the batches, and the ratio of the two medians."""
    facts = dict(batches[0])
    for kind in ("loss", "gradient", *WAYS, "statistic", "later"):
        of = [batch[kind] for batch in batches if kind in batch]
        if not of:
            continue
        middle = {
            key: float(np.median([each[key] for each in of]))
            for key in ("ours", "theirs", "moved", "left_out")
            if all(key in each for each in of)
        }
        ratio = max(middle["ours"], LEAST) / max(middle["theirs"], LEAST)
        nearest = min(of, key=lambda each: abs(each["ours"] - middle["ours"]))
        spread = {key: [each[key] for each in of] for key in ("ours", "theirs")}
        facts[kind] = {**nearest, **middle, "ratio": ratio, "all": spread}
    return facts


def _untrained(places: Places, theirs: Arrays) -> list[str]:
    """Return PyTorch's parameters with a gradient that ours do not hold at all."""
    covered = places.covered
    pairs = zip(places.names, places.offsets[:-1], places.offsets[1:], strict=True)
    return [n for n, a, b in pairs if b > a and not covered[a:b].any() and f"gradient|{n}|{EXACT}" in theirs]


def _decayed_otherwise(places: Places, ours: Arrays, theirs: Arrays) -> list[str]:
    """Return our parameters that weight decay is for here and not there, or the other way round.

    Those that the loss does not depend on are not stepped in PyTorch, decay or not, and not asked.
    """
    return [
        name
        for name, index in places.found.items()
        if (index >= 0).any()
        and f"decayed|{name}" in ours
        and f"gradient|{(key := places.parameter(index.max()))}|{EXACT}" in theirs
        and bool(ours[f"decayed|{name}"]) != bool(theirs[f"decayed|{key}"])
    ]


def _of_parameters(kind: str, ours: Arrays, theirs: Arrays, places: Places) -> Errors:
    """Return errors over all numbers that both hold. Of copies, gradients add up and values are averaged."""
    sizes = np.diff(places.offsets)
    labels = [label for label in (EXACT, SINGLE, MOVED) if f"{kind}|{places.names[0]}|{label}" in theirs]
    values = {label: _flat(kind, label, theirs, places.names, sizes) for label in labels or (EXACT, SINGLE)}
    exact = scale = values[EXACT]
    mine = _gathered(kind, ours, places)
    both = (places.covered > 0) & np.isfinite(exact)
    more: Errors = {}
    if kind != "gradient":
        scale = exact - _flat("start", "", theirs, places.names, sizes)
        quiet = both & ~_is_noise(theirs, places.names, sizes)
        more["left_out"] = 1 - float(quiet.sum() / max(both.sum(), 1))
        both = quiet
    known = {f"{kind}|{label}": value[both] for label, value in values.items()}
    facts = {**_errors(mine[both], known, kind, scale[both]), **more}
    return {**facts, **_worst(mine, values, both, places)} if both.any() else facts


def _gathered(kind: str, ours: Arrays, places: Places) -> Array:
    """Return our numbers in PyTorch's flat order: of copies the sum of gradients, else the mean."""
    total = np.zeros(int(places.offsets[-1]))
    for name, index in places.found.items():
        known = index >= 0
        np.add.at(total, index[known], ours[f"{kind}|{name}"].ravel()[known].astype(np.float64))
    return total if kind == "gradient" else total / np.maximum(places.covered, 1)


def _is_noise(theirs: Arrays, names: tuple[str, ...], sizes: Array) -> Array:
    """Say of every number whether its first gradient is lost in PyTorch's own rounding: bool [all]."""
    exact, single = (_flat("gradient", label, theirs, names, sizes) for label in (EXACT, SINGLE))
    noise: Array = np.abs(single - exact) > NOISE * np.abs(exact)
    return noise


def _flat(kind: str, label: str, theirs: Arrays, names: tuple[str, ...], sizes: Array) -> Array:
    """Return PyTorch's numbers in flat order, nan where a parameter has no gradient."""
    keys = [f"{kind}|{name}|{label}" if label else f"{kind}|{name}" for name in names]
    parts = [
        theirs[key].ravel() if key in theirs else np.full(size, np.nan)
        for key, size in zip(keys, sizes, strict=True)
    ]
    return np.concatenate(parts).astype(np.float64)


def _worst(ours: Array, values: Mapping[str, Array], both: Array, places: Places) -> Errors:
    """Return the parameter that holds most of our error, and its error and PyTorch's relative to its own norm.

    Also the parameter whose error is the largest multiple of PyTorch's own, and that.
    """
    at = places.offsets[:-1][np.diff(places.offsets) > 0]
    names = [n for n, size in zip(places.names, np.diff(places.offsets), strict=True) if size]
    exact, single = values[EXACT], values[SINGLE]
    sums = [
        np.sqrt(np.add.reduceat(np.where(both, square, 0.0), at))
        for square in ((ours - exact) ** 2, (single - exact) ** 2, exact**2)
    ]
    mine, own, norm = sums[0], sums[1], np.maximum(sums[2], 1e-30)
    most = int(mine.argmax())
    times = np.maximum(mine / norm, LEAST) / np.maximum(own / norm, LEAST)
    farthest = int(times.argmax())
    return {
        "worst": f"{names[most]} {mine[most] / norm[most]:.1e}, PyTorch's {own[most] / norm[most]:.1e}",
        "farthest": [
            names[farthest],
            float(mine[farthest] / norm[farthest]),
            float(own[farthest] / norm[farthest]),
        ],
    }


def _of_statistics(kind: str, ours: Arrays, theirs: Arrays, mine: Arrays) -> Errors:
    """Return the largest errors of a running mean or variance, relative to how far it moved; nothing without any."""
    rows: list[tuple[Errors, str]] = []
    wanted = [key.split("|")[1] for key in theirs if key.startswith(f"{kind}|") and key.endswith(f"|{EXACT}")]
    for name in wanted:
        start = theirs[f"start|{name}"]
        same = [n for n, v in mine.items() if v.shape == start.shape and np.array_equal(v, start)]
        match = name if name in same else same[0] if len(same) == 1 else ""
        if f"{kind}|{match}" not in ours:
            return {"ours": np.inf, "theirs": 0.0, "worst": f"{name} is not held"}
        known = {f"{kind}|{label}": theirs[f"{kind}|{name}|{label}"] for label in (EXACT, SINGLE)}
        rows.append((_errors(ours[f"{kind}|{match}"], known, kind, known[f"{kind}|{EXACT}"] - start), name))
    if not rows:
        return {}
    worst, name = max(rows, key=lambda row: float(row[0]["ours"]))
    return {"ours": worst["ours"], "theirs": max(row["theirs"] for row, _ in rows), "worst": name}


def _errors(ours: Array, theirs: Arrays, kind: str, scale: Array) -> Errors:
    """Return the errors of ours, of PyTorch in float32, and what moving the weights does, where that was measured."""
    norm = float(np.linalg.norm(scale))
    exact = theirs[f"{kind}|{EXACT}"]
    result = {
        "ours": _relative(ours, exact, norm),
        "theirs": _relative(theirs[f"{kind}|{SINGLE}"], exact, norm),
    }
    if f"{kind}|{MOVED}" in theirs:
        result["moved"] = _relative(theirs[f"{kind}|{MOVED}"], exact, norm)
    return result


def _relative(values: Array, exact: Array, norm: float) -> float:
    """Return ||values - exact|| / norm; infinite when something is not finite."""
    error = float(np.linalg.norm(np.asarray(values, np.float64) - exact)) / max(norm, 1e-30)
    return error if np.isfinite(error) else float("inf")
