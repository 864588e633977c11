"""The model in inference mode, on what is being trained."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import replace

import numpy as np

from onnx_oto.errors import DataError, UnsupportedError
from onnx_oto.gradients.graph.batching import Feed
from onnx_oto.gradients.graph.parameters import with_constants
from onnx_oto.gradients.graph.training_graph import Detached
from onnx_oto.gradients.session.native import Array, Memory, open_session, placed, shared
from onnx_oto.runtime.devices import Device, full
from onnx_oto.runtime.runner import first_line, wrong_optimizers

_MOST_SETTLED = 1 << 30
"""Bytes of parameters that a session may hold as constants: its model is handed over as one message, below 2 GB."""


class Evaluator:
    """The model in inference mode over the same parameters and running statistics, of samples of any size it takes."""

    def __init__(
        self, what: Detached, memory: Memory, chunk: int | None, device: Device | None = None
    ) -> None:
        self._device, self._session = placed(what.model.SerializeToString(), device or Device())
        self._model = what.model
        self._names = list(what.outputs)
        self.feeds = what.feeds
        self._chunk = chunk
        self._memory = memory
        names = {value.name for value in self._session.get_inputs()}
        self._weights = {name: value for name, value in memory.values.items() if name in names}

    def settled(self) -> Evaluator:
        """Return one of the parameters and statistics as they are now, which its session holds as constants.

        So it takes the kernels that are for constant weights, which are up to twice as fast, at the price of opening a
        session. Itself where such a session cannot be.
        """
        held = {name: self._memory.arrays[name] for name in self._weights}
        if sum(array.nbytes for array in held.values()) > _MOST_SETTLED:
            return self
        settled = copy(self)
        content = with_constants(self._model, held)
        try:
            settled._session = open_session(content, self._device, wrong_optimizers(self._model))
        except UnsupportedError:
            return self
        settled._weights = {}
        return settled

    def run(self, batch: Mapping[str, Array], pool: ThreadPoolExecutor) -> list[Array]:
        """Return the outputs for all samples; chunks run side by side."""
        count = next(len(batch[feed.name]) for feed in self.feeds if feed.batched)
        step = self._chunk or count
        ranges = [(start, min(start + step, count)) for start in range(0, count, step)]
        parts = list(pool.map(lambda r: self._part(batch, *r), ranges))
        return parts[0] if len(parts) == 1 else [np.concatenate(part) for part in zip(*parts, strict=True)]

    def feeds_like(self, batch: Mapping[str, Array]) -> list[Feed]:
        """Return the data inputs with the sizes of a batch where the model leaves them open."""
        declared = {value.name: value.shape for value in self._session.get_inputs()}
        found = []
        for feed in self.feeds:
            pattern = declared[feed.name][feed.batched :]
            given = np.shape(batch.get(feed.name, ()))[feed.batched :]
            if len(given) == len(pattern):
                sizes = (g if not isinstance(p, int) else p for g, p in zip(given, pattern, strict=True))
                feed = replace(feed, shape=tuple(sizes))
            found.append(feed)
        return found

    def fixed_size(self) -> int:
        """Return the number of samples a model with a fixed batch reads."""
        name = next(feed.name for feed in self.feeds if feed.batched)
        return int(next(value for value in self._session.get_inputs() if value.name == name).shape[0])

    def outputs(self, arrays: Mapping[str, Array]) -> list[Array]:
        """Return the outputs for arrays that the model reads as they are; raises DataError in the runtime's words."""
        values = {**self._weights, **{name: shared(array) for name, array in arrays.items()}}
        try:
            results = self._session.run_with_ort_values(self._names, values)
        except Exception as error:
            if too_much := full(error, self._device):
                raise too_much from error
            raise DataError(f"ONNX Runtime refused the batch: {first_line(error)}") from error
        return [result.numpy() for result in results]

    def _part(self, batch: Mapping[str, Array], start: int, stop: int) -> list[Array]:
        arrays = {f.name: batch[f.name][start:stop] if f.batched else batch[f.name] for f in self.feeds}
        outputs = self.outputs(arrays)
        for name, output in zip(self._names, outputs, strict=True):
            if self._chunk and (output.ndim == 0 or len(output) != stop - start):
                raise UnsupportedError(
                    f"output {name!r} has shape {list(output.shape)} for {stop - start} samples: "
                    "its first axis must be the batch"
                )
        return outputs
