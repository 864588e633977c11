"""Sessions side by side: one shared parameter buffer, a gradient buffer per shard, averaged once per step."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnx_oto.errors import DataError, UnsupportedError
from onnx_oto.gradients.graph.batching import Feed
from onnx_oto.gradients.graph.training_graph import TrainingGraph
from onnx_oto.gradients.session.evaluator import Evaluator
from onnx_oto.gradients.session.native import Array, Memory, open_session, shared
from onnx_oto.gradients.session.prepared import Prepared
from onnx_oto.gradients.session.tied import TiedPlaces
from onnx_oto.gradients.session.validation import check_batch, check_targets
from onnx_oto.gradients.spec import Predict, TrainingSpec
from onnx_oto.losses import LOSS, WEIGHT, Loss, Target, target_input
from onnx_oto.machine import cores
from onnx_oto.runtime.devices import Device, full
from onnx_oto.runtime.joining import MEMBER, ROOM, TURN, WANTED
from onnx_oto.runtime.runner import first_line

if TYPE_CHECKING:
    from onnx_oto.gradients.session.resident import Resident
    from onnx_oto.peers.seam import Peers
    from onnx_oto.runtime.adding import Turns
    from onnx_oto.runtime.meeting import Meeting
    from onnx_oto.runtime.rooms import Room

Floats = NDArray[np.float32]

_FEWEST_TOLD = 2
"""Numbers that shards tell each other where they meet, by halves: where they divide convolutions."""
_WORTH_SETTLING = 256
"""Samples of an evaluation for which a session of its own is opened, at the least."""
_NOTHING = np.zeros(0, np.float32)
_CHUNK = 1 << 18  # elements of a gradient that one thread adds up at a time: 1 MiB


def meeting_of(shares: Sequence[float], channels: int) -> Meeting:
    """Return where shards of a batch meet; see `runtime.meeting.Meeting`."""
    from onnx_oto.runtime.meeting import Meeting  # loads the compiler, which other sessions do without

    return Meeting(shares, channels)


def turns_of(places: int) -> Turns:
    """Return where shards add up so many gradients; see `runtime.adding.Turns`."""
    from onnx_oto.runtime.adding import Turns  # as above

    return Turns(places)


def room_for(inputs: Collection[str]) -> Room | None:
    """Return where a graph with these inputs makes tensors of its own; None for one that makes none."""
    if ROOM not in inputs:
        return None
    from onnx_oto.runtime.rooms import Room  # as above

    return Room()


class Targets(NamedTuple):
    """The targets of a batch by name, and the weight of every entry: 1 / how many of the batch count."""

    by_name: Mapping[str, Array]
    weight: Array


class Share(NamedTuple):
    """What of every batch this process takes. sizes: samples per shard, of all processes; first: the first of its own.

    peers: those that take the rest.
    """

    peers: Peers
    sizes: tuple[int, ...]
    first: int


class Shard:
    """One session with its share of the batch, on some threads or a device; writes its own gradient buffer.

    index: among those of this process; first: how many shards of other processes come before these.
    """

    def __init__(
        self,
        content: bytes,
        training: TrainingGraph,
        feeds: Sequence[Feed],
        memory: Memory,
        index: int,
        device: Device,
        first: int = 0,
    ) -> None:
        self.size = training.size
        self.targets = training.targets
        self._feeds = feeds
        self._masks = training.lowered.masks
        self._number = first + index
        self.places = len(memory.gradient_views[index])
        self._memory = memory
        self._loss = np.zeros((), np.float32)
        self._device = device
        self._session = open_session(content, device)
        self._binding = self._session.io_binding()
        self._held: dict[str, Any] = {}
        self._renewed: dict[str, Any] = {}
        self._inputs = {value.name for value in self.inputs}
        self.read(memory.arrays)
        self._room = room_for(self._inputs)
        if self._room is not None:
            self.read({ROOM: self._room.words})
            self.read({WANTED + name: view for name, view in memory.gradient_views[index].items()})
        outputs = {value.name for value in self._session.get_outputs()}
        targets: dict[str, Array] = {LOSS: self._loss}
        self.latest = training.lowered.statistics
        for name, latest in self.latest.items():
            targets[latest] = memory.update_views[index][name]
        for name, view in memory.gradient_views[index].items():
            if f"{name}_grad" in outputs:
                targets[f"{name}_grad"] = view
        self.gradients = {n: f"{n}_grad" for n in memory.gradient_views[index] if f"{n}_grad" in outputs}
        written = {name for name in memory.gradient_views[index] if WANTED + name in self._inputs}
        self.still = frozenset(memory.gradient_views[index].keys() - self.gradients.keys() - written)
        self._outputs = {name: shared(array) for name, array in targets.items()}
        for name, value in self._outputs.items():
            self._binding.bind_ortvalue_output(name, value)

    @property
    def inputs(self) -> Sequence[Any]:
        """What the graph reads, as the runtime tells it: name, shape, type."""
        inputs: Sequence[Any] = self._session.get_inputs()
        return inputs

    def inputs_among(self, names: Iterable[str]) -> dict[str, str]:
        """Return those of some names that the graph reads, each with itself."""
        return {name: name for name in names if name in self._inputs}

    def new_binding(self) -> Any:
        """Return a binding that has the loss alone, for `run`; others bind the rest."""
        binding = self._session.io_binding()
        binding.bind_ortvalue_output(LOSS, self._outputs[LOSS])
        return binding

    def read(self, arrays: Mapping[str, Array]) -> None:
        """Let the graph read these arrays in every step, if it asks for them; the caller keeps them alive."""
        for name, array in arrays.items():
            if name in self._inputs:
                value = shared(array)
                self._binding.bind_ortvalue_input(name, value)
                if not self._device.is_cpu and name not in self._memory.frozen:
                    self._renewed[name] = value

    def _renew(self) -> None:
        """Bind what changes between steps again: a device gets its copy of an array when that is bound."""
        for name, value in self._renewed.items():
            self._binding.bind_ortvalue_input(name, value)

    def run(
        self,
        batch: Mapping[str, Array],
        targets: Targets,
        start: int,
        seed: tuple[int, int],
        elsewhere: Any = None,
    ) -> float:
        """Run forward and backward on samples [start, start + size); return this shard's part of the loss.

        elsewhere: what else is read and written, in place of the memory of the host.
        """
        binding = self._binding if elsewhere is None else elsewhere
        stop = start + self.size
        arrays = {f.name: batch[f.name][start:stop] if f.batched else batch[f.name] for f in self._feeds}
        arrays.update((target_input(name), array[start:stop]) for name, array in targets.by_name.items())
        arrays[WEIGHT] = targets.weight
        if self._masks:
            rng = np.random.default_rng((*seed, self._number))
            arrays.update((mask.name, _draw(rng, mask.shape, mask.ratio)) for mask in self._masks)
        self._held = {name: (array, shared(array)) for name, array in arrays.items() if name in self._inputs}
        for name, (_, value) in self._held.items():
            binding.bind_ortvalue_input(name, value)
        try:
            if elsewhere is None:
                self._renew()
            self._session.run_with_iobinding(binding)
        except Exception as error:
            if too_much := full(error, self._device):
                raise too_much from error
            raise DataError(f"ONNX Runtime refused the batch: {first_line(error)}") from error
        return float(self._loss)


def _draw(rng: np.random.Generator, shape: tuple[int, ...], ratio: float) -> Floats:
    """Return a Dropout mask: 0 with probability `ratio`, otherwise 1/(1-ratio)."""
    keep = rng.random(shape, np.float32) >= ratio
    return keep.astype(np.float32) * np.float32(1.0 / (1.0 - ratio))


class StepSeconds(NamedTuple):
    """Where the last step's time went: ONNX Runtime forward and backward, and averaging over the shards."""

    run: float
    average: float


class Form:
    """What runs the steps of samples of one shape: a shard for each part of the batch.

    channels: of the widest statistics that the shards ask each other for while they run, 0 where they do not.
    """

    def __init__(
        self, feeds: Sequence[Feed], shards: Sequence[Shard], batch: int, *, channels: int = 0
    ) -> None:
        self.feeds = feeds
        self.shards = shards
        meets = channels > 0 or bool(shards[0].inputs_among([MEMBER]))
        shares = [shard.size / batch for shard in shards]
        self.meeting = meeting_of(shares, max(channels, _FEWEST_TOLD)) if meets else None
        if self.meeting is not None:
            self._members = [self.meeting.member(index) for index in range(len(shards))]
            for shard, member in zip(shards, self._members, strict=True):
                shard.read({MEMBER: member})
        self.turns = turns_of(shards[0].places) if shards[0].inputs_among([TURN]) else None
        if self.turns is not None:
            self._turns = [self.turns.member(index) for index in range(len(shards))]
            for shard, turn in zip(shards, self._turns, strict=True):
                shard.read({TURN: turn})
        self.targets: dict[str, Target] = {
            name: replace(target, shape=(batch, *target.shape[1:]))
            for name, target in shards[0].targets.items()
        }

    def takes(self, batch: Mapping[str, Array]) -> bool:
        """Say whether the samples of a batch have this shape."""
        arrays = {name: np.asarray(array) for name, array in batch.items()}
        return all(
            feed.name in arrays and arrays[feed.name].shape[feed.batched :] == feed.shape
            for feed in self.feeds
        )


class ShardedSession:
    """A model in training (see spec.GradientSession). `seconds` tells where the time of the last step went.

    forms: for every shape of samples, all over the same memory and with the same number of shards. Batches of a shape
    that none has are refused by the first. resident: where buffers stay on a device; then there is one shard.
    """

    def __init__(
        self,
        forms: Sequence[Form],
        evaluator: Evaluator,
        memory: Memory,
        spec: TrainingSpec,
        loss: Loss,
        share: Share,
        resident: Resident | None = None,
        hindrance: str | None = None,
    ) -> None:
        self.hindrance = hindrance
        shards = forms[0].shards
        self.slices = memory.layout.slices
        self.still = frozenset.intersection(*(form.shards[0].still for form in forms))
        self.statistic_slices = memory.statistic_slices
        self.steps = 0
        self.seconds = StepSeconds(0.0, 0.0)
        self.shards = len(share.sizes)
        self._peers = share.peers
        for array in (memory.params, memory.statistics):
            share.peers.copy(array)  # what was measured before may differ in the last bits
        self._memory = memory
        self._forms = forms
        self._evaluator = evaluator
        self._spec = spec
        self._sizes = [shard.size for shard in shards]
        self._starts = list(accumulate(self._sizes[:-1], initial=0))
        self._own, begin = sum(self._sizes), sum(share.sizes[: share.first])
        self.rows = None if share.peers.size == 1 else np.arange(begin, begin + self._own)
        self._loss = loss
        workers = max(len(shards), cores())
        self._ties = TiedPlaces(spec.ties, self.slices)
        self._resident = resident
        place: Any = memory if resident is None else resident
        self.params: Floats = place.params
        self.statistics: Floats = place.statistics
        self.grads: Floats = place.grads if resident is not None else memory.grads[0]
        every = [shard for form in forms for shard in form.shards]
        self._prepared = Prepared((v for s in every for v in s.inputs), memory.arrays, len(shards))
        for shard in every:
            shard.read(self._prepared.arrays)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="onnx-oto")

    def step(self, batch: Mapping[str, Array], target: Array | Mapping[str, Array] | None = None) -> float:
        form = self._form(batch)
        arrays = check_batch(batch, form.feeds, self._own)
        targets = check_targets(target, form.targets)
        count = self._count(targets)
        weight = np.array(1.0 / count if count else 0.0, np.float32)
        begin = time.perf_counter()
        if self._resident is not None:
            seed = (self._spec.seed, self.steps)
            loss = self._resident.step(form.shards[0], arrays, Targets(targets, weight), seed)
            self._ties.add_up_there(self._resident.grads)
            self.seconds = StepSeconds(time.perf_counter() - begin, 0.0)
            self.steps += 1
            return loss
        for name in form.shards[0].still:  # the caller may have left anything there
            self._memory.gradient_views[0][name].fill(0.0)
        self._prepared.make(self._pool)
        losses = self._run_all(form, arrays, Targets(targets, weight))
        ran = time.perf_counter()
        self._average()
        (loss,) = self._peers.add_up(self._memory.added, [sum(losses)])
        self._ties.add_up(self.grads)
        self.seconds = StepSeconds(ran - begin, time.perf_counter() - ran)
        self.steps += 1
        return loss

    @property
    def buffers(self) -> dict[str, Floats]:
        """The running statistics by name; on a device copies."""
        self._pull()
        return self._memory.buffers

    def _pull(self) -> None:
        """Bring what stays on a device to where it is evaluated."""
        if self._resident is not None:
            self._resident.pull()

    def predict(self, batch: Mapping[str, Array]) -> Array | list[Array]:
        self._pull()
        return self._predicted(self._evaluator, batch)

    @contextmanager
    def evaluating(self, samples: int) -> Iterator[Predict]:
        self._pull()
        evaluator = self._evaluator if samples < _WORTH_SETTLING else self._evaluator.settled()
        yield lambda batch: self._predicted(evaluator, batch)

    def _predicted(self, evaluator: Evaluator, batch: Mapping[str, Array]) -> Array | list[Array]:
        form = self._form(batch)
        feeds = form.feeds if form.takes(batch) else evaluator.feeds_like(batch)
        outputs = evaluator.run(check_batch(batch, feeds, None), self._pool)
        return outputs[0] if len(outputs) == 1 else outputs

    def weights(self) -> dict[str, Array]:
        self._pull()
        trained = (*self.slices, *self.statistic_slices)
        return {name: self._memory.arrays[name].copy() for name in trained}

    def close(self) -> None:
        self._pool.shutdown(wait=True)

    def _count(self, targets: Mapping[str, Array]) -> float:
        """Return how many entries of the whole batch count."""
        count = self._loss.count(targets, self._own)
        return self._peers.add_up(_NOTHING, [count])[0]

    def _form(self, batch: Mapping[str, Array]) -> Form:
        """Return the form that takes a batch, the first where none does: it will say why."""
        return next((form for form in self._forms if form.takes(batch)), self._forms[0])

    def _run_all(self, form: Form, batch: Mapping[str, Array], targets: Targets) -> list[float]:
        """Run every shard, the first on this thread; return only when all have stopped, even on errors."""
        seed = (self._spec.seed, self.steps)
        together = [each for each in (form.meeting, form.turns) if each is not None]
        for each in together:
            each.begin()

        def run(shard: Shard, start: int) -> float:
            try:
                return shard.run(batch, targets, start, seed)
            except BaseException:
                for each in together:
                    each.leave()  # nobody may wait for this one
                raise

        first, *others = zip(form.shards, self._starts, strict=True)
        futures = [self._pool.submit(run, *each) for each in others]
        try:
            loss = run(*first)
        finally:
            wait(futures)
        if form.meeting is not None and form.meeting.missed:
            raise UnsupportedError(
                "the sessions of a step met at different places of their graphs: train with --shards 1"
            )
        return [loss, *(future.result() for future in futures)]

    def _average(self) -> None:
        """Sum gradients of several buffers into the first (each is weighted by its share already), mix statistics."""
        grads = self._memory.grads
        if len(grads) > 1:
            bounds = range(0, self.grads.size, _CHUNK)
            list(self._pool.map(lambda start: _accumulate(grads, start), bounds))
        statistics, total = self._memory.statistics, np.float32(self._spec.batch)
        statistics[...] = 0.0
        for size, update in zip(self._sizes, self._memory.updates, strict=True):
            statistics += update * (np.float32(size) / total)


def _accumulate(grads: Sequence[Floats], start: int) -> None:
    sink = grads[0][start : start + _CHUNK]
    for other in grads[1:]:
        np.add(sink, other[start : start + _CHUNK], out=sink)
