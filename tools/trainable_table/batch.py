"""One fixed batch for a model: random inputs that it takes, and random targets that suit its first float output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnx_oto.model.graph.order import nodes_inside
from onnx_oto.runtime.comparing.inputs import Slot, slots
from onnx_oto.runtime.runner import Runner, runner

Array = npt.NDArray[Any]

SIDES = (64, 32, 128, 224, 256, 16)
LENGTHS = (16, 12, 32, 64, 8, 4, 1, 400, 4800, 16000)
"""Sizes tried for open axes of inputs with four and more axes, and of others."""
VOCABULARY = 20
"""Largest number of different ids; some vocabularies are smaller, then ids are 0 and 1."""


class CannotFeed(Exception):
    """No inputs were found that the model takes, or no output that a loss can read."""


@dataclass(frozen=True)
class Batch:
    """inputs, target: the first axis counts samples. loss: of the command line. output: None for the first one."""

    inputs: Mapping[str, Array]
    target: Array
    loss: str
    output: str | None

    def __len__(self) -> int:
        return len(self.target)

    def save(self, path: str) -> None:
        """Write the npz file that `onnx-oto train` reads; training and test data are the same."""
        named = len(self.inputs) > 1
        arrays = {"y_train": self.target, "y_test": self.target}
        for name, array in self.inputs.items():
            for split in ("train", "test"):
                arrays[f"x_{split}__{name}" if named else f"x_{split}"] = array
        np.savez(path, **arrays)


def draw(model: onnx.ModelProto, samples: int, seed: int) -> Batch:
    """Return a batch of at least `samples` (a multiple of the batch that the model fixes).

    Raises CannotFeed, and what the product raises for models that it cannot run.
    """
    rng = np.random.default_rng(seed)
    inputs, run = slots(model), runner(model)
    outputs = [value.name for value in model.graph.output]
    read = {
        name for node in nodes_inside(model.graph.node) for name in node.input
    }  # exporters leave others behind
    trouble: Exception | None = None
    for feed in _feeds(inputs, model, samples, rng):
        try:
            index, values = _first_float(run(feed))
        except Exception as error:  # the runtime raises many types for sizes that do not fit
            trouble = trouble or error
            continue
        axis = _axis_of_samples(values.shape, _count(inputs, samples))
        columns, output = _collect(inputs, run, feed, index, axis, samples, rng)
        target, loss = _target(output, rng)
        columns = {name: column for name, column in columns.items() if name in read}
        return Batch(columns, target, loss, outputs[index] if index else None)
    words = " ".join(str(trouble or "it has no inputs").split())
    raise CannotFeed(f"no random inputs fit: {words[:300]}")


def _first_float(values: list[Array]) -> tuple[int, Array]:
    """Return the first output of float numbers and its place; a model that computes nan of these inputs raises."""
    for index, value in enumerate(values):
        if isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.ndim:
            if not np.isfinite(value).all():
                raise CannotFeed(f"output {index} is not finite")
            return index, value
    raise CannotFeed("no output holds floats")


def _feeds(
    inputs: tuple[Slot, ...], model: onnx.ModelProto, samples: int, rng: np.random.Generator
) -> Iterator[dict[str, Array]]:
    """Yield inputs at several guesses of the open sizes; booleans all true or all false, ids many or 0 and 1."""
    ids = {name for node in model.graph.node if node.op_type == "Gather" for name in node.input[1:2]}
    ids |= {
        node.input[0]
        for node in model.graph.node
        if node.op_type == "Cast"
        for name in node.output
        if name in ids
    }
    sizes = max(len(SIDES), len(LENGTHS))
    for guess in range(sizes):
        for most in (VOCABULARY, 2):
            for true in (True, False):
                yield {
                    slot.name: _values(
                        slot, _shape(slot, inputs, samples, guess), rng, most, slot.name in ids, true
                    )
                    for slot in inputs
                }


def _shape(slot: Slot, inputs: tuple[Slot, ...], samples: int, guess: int) -> list[int]:
    batch = _batch_symbols(inputs)
    choices = SIDES if len(slot.dims) >= 4 else LENGTHS
    size = choices[min(guess, len(choices) - 1)]
    return [samples if dim in batch else size if isinstance(dim, str) else dim for dim in slot.dims]


def _batch_symbols(inputs: tuple[Slot, ...]) -> set[str]:
    """Return the symbols that count samples: those that say so, else those of all first axes."""
    symbols = [(axis, dim) for slot in inputs for axis, dim in enumerate(slot.dims) if isinstance(dim, str)]
    named = {dim for _, dim in symbols if "batch" in dim.lower()}
    return named or {dim for axis, dim in symbols if axis == 0}


def _values(
    slot: Slot, shape: list[int], rng: np.random.Generator, most: int, is_index: bool, true: bool
) -> Array:
    kind = slot.dtype.kind
    if kind == "b":
        return np.full(shape, true)
    if kind in "iu":  # what is no index is a mask or a length: ones do no harm
        return (rng.integers(0, most, shape) if is_index else np.ones(shape)).astype(slot.dtype)
    return rng.standard_normal(shape).astype(slot.dtype)


def _count(inputs: tuple[Slot, ...], samples: int) -> int:
    """Return the samples in one feed: as many as wanted, or what the model fixes on its first axis."""
    if _batch_symbols(inputs):
        return samples
    return next((int(slot.dims[0]) for slot in inputs if slot.dims), 1)


def _axis_of_samples(shape: tuple[int, ...], count: int) -> int:
    if shape[0] == count or count not in shape:
        return 0
    return shape.index(count)


def _collect(
    inputs: tuple[Slot, ...],
    run: Runner,
    feed: dict[str, Array],
    index: int,
    axis: int,
    samples: int,
    rng: np.random.Generator,
) -> tuple[dict[str, Array], Array]:
    """Return all samples and their outputs, samples first: of one feed, or of several where the batch is fixed."""
    batch = _batch_symbols(inputs)
    count = _count(inputs, samples)
    feeds = [feed]
    while len(feeds) * count < samples:
        fresh = {
            n: rng.standard_normal(a.shape).astype(a.dtype) if a.dtype.kind == "f" else a
            for n, a in feed.items()
        }
        feeds.append(fresh)
    values = [np.moveaxis(run(each)[index], axis, 0) for each in feeds]
    columns = {}
    for slot in inputs:
        place = next(
            (i for i, dim in enumerate(slot.dims) if dim in batch or (not batch and dim == count)), None
        )
        lots = [each[slot.name] for each in feeds]
        if place is None:  # the same for every sample: a mask, a rate
            lots = [np.stack([lot] * count) for lot in lots]
        columns[slot.name] = np.concatenate([np.moveaxis(lot, place or 0, 0) for lot in lots])
    return columns, np.concatenate(values)


def _target(output: Array, rng: np.random.Generator) -> tuple[Array, str]:
    """Return labels for scores [N, K], else numbers of the size of the output: normal, or in [0, 1] like it."""
    if output.ndim == 2 and output.shape[1] > 1:
        return rng.integers(0, output.shape[1], len(output)), "cross-entropy"
    low, high = float(output.min()), float(output.max())
    if low >= 0 and high <= 1:
        return rng.random(output.shape).astype(np.float32), "mse"
    spread = float(output.std()) or 1.0
    return (output.mean() + spread * rng.standard_normal(output.shape)).astype(np.float32), "mse"
