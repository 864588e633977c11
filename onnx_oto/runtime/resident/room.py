"""The memory of a device, and the sessions that compute in it."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnx_oto.errors import OtoError, UnsupportedError
from onnx_oto.runtime.devices import Device, full
from onnx_oto.runtime.gradient_jobs import open_light
from onnx_oto.runtime.resident.graphs import NUMBERS, held_name, model_of, table_name
from onnx_oto.runtime.resident.values import HELD, Order, Value, order
from onnx_oto.runtime.runner import first_line

if TYPE_CHECKING:
    from onnx_oto.runtime.resident.vector import Vector

Array = npt.NDArray[Any]
Free = list[Any]

MOST_SESSIONS = 12
"""Graphs whose sessions are kept: each holds on to the memory that it once took. A step takes a few of them."""


class Buffer:
    """A piece of the device's memory that is written once; it can be taken again when nobody holds it any more."""

    def __init__(self, value: Any, free: Free) -> None:
        self.value = value
        self._free = free

    def __del__(self) -> None:
        self._free.append(self.value)

    @property
    def address(self) -> int:
        """Where it begins on the device."""
        return int(self.value.data_ptr())


class Pool:
    """Buffers of one length and type. zeroed: whether those that are new hold zeros, and not anything."""

    def __init__(self, device: Device, size: int, dtype: np.dtype[Any], *, zeroed: bool = False) -> None:
        self._device, self._size, self._dtype, self._zeroed = device, size, dtype, zeroed
        self._free: Free = []

    def take(self) -> Buffer:
        """Return a buffer that nobody holds. Raises UnsupportedError where the device has no room for one more."""
        if self._free:
            return Buffer(self._free.pop(), self._free)
        import onnxruntime

        kind, number = place_of(self._device)
        try:
            value = onnxruntime.OrtValue.ortvalue_from_shape_and_type([self._size], self._dtype, kind, number)
            if self._zeroed:
                value.update_inplace(np.zeros(self._size, self._dtype))
        except Exception as error:
            raise refusal(error, self._device) from error
        return Buffer(value, self._free)


class Room:
    """Where vectors of a device lie and are computed. sent, received: bytes that went there and came from there.

    What is asked of vectors is only noted, until somebody wants to see a value (`run`): then all that was noted is
    computed in one graph, whose session is kept for the next time that the same is asked of other numbers. Results
    go into buffers of their own, so what is held is never written over.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self.sent = self.received = self.runs = 0
        self._waiting: dict[int, weakref.ref[Vector]] = {}
        self._sessions: dict[Any, Any] = {}
        self._pools: dict[tuple[int, str], Pool] = {}
        self._constants: dict[int, tuple[Array, Value]] = {}

    def pool(self, size: int, dtype: np.dtype[Any]) -> Pool:
        """Return the buffers of a length and a type."""
        known = (size, dtype.char)
        if known not in self._pools:
            self._pools[known] = Pool(self.device, size, dtype)
        return self._pools[known]

    def hold(self, array: Array) -> Value:
        """Return a copy of an array on the device."""
        import onnxruntime

        array = np.ascontiguousarray(array)
        self.sent += array.nbytes
        try:
            if array.ndim == 1:
                buffer = self.pool(len(array), array.dtype).take()
                buffer.value.update_inplace(array)
            else:
                kind, number = place_of(self.device)
                value = onnxruntime.OrtValue.ortvalue_from_shape_and_type(
                    list(array.shape), array.dtype, kind, number
                )
                value.update_inplace(array)
                buffer = Buffer(value, [])
        except OtoError:
            raise
        except Exception as error:
            raise refusal(error, self.device) from error
        return Value(HELD, dtype=array.dtype, rank=array.ndim, content=buffer)

    def constant(self, array: Array) -> Value:
        """Return the copy of an array that never changes, made once."""
        if id(array) not in self._constants:
            self._constants[id(array)] = (array, self.hold(array))
        return self._constants[id(array)][1]

    def note(self, vector: Vector) -> None:
        """Compute the value of a vector in the next run, if the vector is there and still has it."""
        self._waiting[id(vector)] = weakref.ref(vector)

    def read(self, value: Value) -> Array:
        """Return a held value as an array of its own."""
        found = np.array(value.content.value.numpy())
        self.received += found.nbytes
        return found

    def run(self, asked: Sequence[Value] = ()) -> list[Array]:
        """Compute all that was noted, and return values that are asked for. Raises UnsupportedError."""
        vectors = [there for each in self._waiting.values() if (there := each()) is not None]
        noted = {id(v.value): v for v in vectors if not v.value.is_leaf}
        roots = [each.value for each in noted.values()]
        wanted = [each for each in asked if id(each) not in noted]
        results = self._computed(roots, [v.size for v in noted.values()], wanted)
        for vector in vectors:
            if id(vector.value) in results:
                vector.settle(results[id(vector.value)])
        self._waiting.clear()
        return [self.read(results[id(each)]) for each in asked]

    def _computed(
        self, roots: Sequence[Value], sizes: Sequence[int], asked: Sequence[Value]
    ) -> dict[int, Value]:
        """Return held values by the identity of what they are the results of. sizes: of roots; they stay there."""
        every = [*roots, *asked]
        if not every:
            return {}
        plan = order(every)
        try:
            session = self._session(plan, every)
            binding = session.io_binding()
            for index, value in enumerate(plan.held):
                binding.bind_ortvalue_input(held_name(index), value.content.value)
            given = {table_name(index): value.content for index, value in enumerate(plan.tables)}
            if plan.scalars:
                given[NUMBERS] = np.array([value.content for value in plan.scalars], np.float32)
            for name, array in given.items():
                binding.bind_cpu_input(name, array)
                self.sent += array.nbytes
            names = [each.name for each in session.get_outputs()]
            buffers = [self.pool(size, root.dtype).take() for root, size in zip(roots, sizes, strict=True)]
            for name, buffer in zip(names, buffers, strict=False):
                binding.bind_ortvalue_output(name, buffer.value)
            for name in names[len(roots) :]:
                binding.bind_output(name, "cpu")
            session.run_with_iobinding(binding)
            found = binding.get_outputs()[len(roots) :]
        except OtoError:
            raise
        except Exception as error:
            raise refusal(error, self.device) from error
        self.runs += 1
        contents = [*buffers, *(Buffer(value, []) for value in found)]
        return {
            id(value): Value(HELD, dtype=value.dtype, rank=value.rank, content=content)
            for value, content in zip(every, contents, strict=True)
        }

    def _session(self, plan: Order, roots: Sequence[Value]) -> Any:
        """Return the session of a graph, one of those that were used last, or a new one."""
        session = self._sessions.pop(plan.shape, None)
        if session is None:
            session = open_light(model_of(plan, roots).SerializeToString(), self.device)
            if len(self._sessions) >= MOST_SESSIONS:
                del self._sessions[next(iter(self._sessions))]
        self._sessions[plan.shape] = session
        return session


def place_of(device: Device) -> tuple[str, int]:
    """Return the kind of a device's memory, as ONNX Runtime names it, and the number of the device."""
    return device.memory or "cpu", int(device.options.get("device_id", 0))


def refusal(error: Exception, device: Device) -> UnsupportedError:
    """Return what to say where a device does not compute."""
    told = (
        f"device {device.name!r}: {device.provider} does not take the optimizer's step ({first_line(error)})"
    )
    return full(error, device) or UnsupportedError(f"{told}: use --device cpu")
