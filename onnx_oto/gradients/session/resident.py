"""What a session on a device trains stays there: parameters, running statistics and gradients, in the device's memory.

Only the batch goes there in a step, and the loss comes back. What is done to these buffers besides, by the guard, the
optimizer and the moving average, is computed where they are (`runtime/resident`).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from onnx_oto.gradients.session.native import Array, Memory
from onnx_oto.gradients.session.shards import Shard, Targets
from onnx_oto.runtime.devices import Device
from onnx_oto.runtime.resident import Buffer, Pool, Room, Value, Vector, held, place_of, refusal

Slices = Mapping[str, tuple[int, tuple[int, ...]]]
_FLOAT = np.dtype(np.float32)
_NOTHING = held(None)
_MOST_BINDINGS = 64


class Resident:
    """The buffers of a session, as its `Memory` has them, on a device. Each step writes into other ones than it reads.

    memory: where evaluation reads them once they were pulled; its arrays begin at aligned places, and the last element
    of each of its buffers is 0 and of no array.
    """

    def __init__(self, memory: Memory, device: Device) -> None:
        self.room = Room(device)
        self.params = Vector.of(self.room, memory.params)
        self.statistics = Vector.of(self.room, memory.statistics)
        self._gradients = Pool(device, memory.layout.size, _FLOAT, zeroed=True)
        self._updates = Pool(device, memory.statistics.size, _FLOAT, zeroed=True)
        self.grads = Vector(self.room, held(self._gradients.take()), memory.layout.size)  # zeros
        self._frozen = {name: self.room.hold(memory.arrays[name]) for name in memory.frozen}
        self._memory = memory
        self._place = place_of(device)
        self._bindings: dict[tuple[int, ...], Any] = {}
        self._pulled = _marks(self.params.held(), self.statistics.held())

    def step(
        self, shard: Shard, batch: Mapping[str, Array], targets: Targets, seed: tuple[int, int]
    ) -> float:
        """Return the loss of a batch after filling the gradients and the statistics; what fails leaves them."""
        self.grads.take(_NOTHING)  # what the optimizer has left there need not be computed
        params, statistics = self.params.held().content, self.statistics.held().content
        gradients, updates = self._gradients.take(), self._updates.take()
        places = (params, statistics, gradients, updates)
        known = (id(shard), *(each.address for each in places))
        if known not in self._bindings:
            if len(self._bindings) >= _MOST_BINDINGS:
                self._bindings.clear()
            try:
                self._bindings[known] = self._bound(shard, *places)
            except Exception as error:
                raise refusal(error, self.room.device) from error
        loss = shard.run(batch, targets, 0, seed, self._bindings[known])
        self.grads.take(held(gradients))
        self.statistics.take(held(updates))
        return loss

    def pull(self) -> None:
        """Bring parameters and statistics into the memory of the host, if they are others than those that are there."""
        found = _marks(self.params.held(), self.statistics.held())
        if found != self._pulled:
            np.copyto(self._memory.params, np.asarray(self.params))
            np.copyto(self._memory.statistics, np.asarray(self.statistics))
            self._pulled = found

    def _bound(
        self, shard: Shard, params: Buffer, statistics: Buffer, gradients: Buffer, updates: Buffer
    ) -> Any:
        """Return what a shard runs with to read and write these buffers."""
        binding = shard.new_binding()
        memory = self._memory
        read, write = binding.bind_input, binding.bind_output
        self._bind(read, shard.inputs_among(memory.layout.slices), params, memory.layout.slices)
        self._bind(read, shard.inputs_among(memory.statistic_slices), statistics, memory.statistic_slices)
        for name in shard.inputs_among(self._frozen):
            binding.bind_ortvalue_input(name, self._frozen[name].content.value)
        self._bind(write, shard.gradients, gradients, memory.layout.slices)
        self._bind(write, shard.latest, updates, memory.statistic_slices)
        return binding

    def _bind(
        self, bind: Callable[..., None], names: Mapping[str, str], buffer: Buffer, slices: Slices
    ) -> None:
        """Bind arrays of a flat buffer. names: of arrays -> of the inputs or outputs that they are."""
        for name, edge in names.items():
            offset, shape = slices[name]
            bind(edge, *self._place, np.float32, list(shape), buffer.address + offset * _FLOAT.itemsize)


def _marks(*values: Value) -> tuple[weakref.ref[Value], ...]:
    """Return what tells values apart and does not keep their buffers; no longer there, each equals itself alone."""
    return tuple(weakref.ref(value) for value in values)
