"""Running a model: by onnxruntime where it can, else by the reference evaluator of onnx; in a process of its own."""

from __future__ import annotations

import pickle
import re
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnx_oto.errors import CrashedError, LimitError, RuntimeMissingError, UnsupportedError
from onnx_oto.model.files.loading import RUNTIME_IR, RUNTIME_OPSET, runnable_bytes
from onnx_oto.model.graph.node import opset_of, set_opset
from onnx_oto.model.graph.order import captured, graphs
from onnx_oto.runtime.limits import Allowance, allowance
from onnx_oto.runtime.sessions import (
    LEAST_ROUNDS,
    WARM_UP,
    OpenSession,
    Patience,
    open_onnxruntime,
    open_reference,
    run_session,
    time_sessions,
)
from onnx_oto.runtime.worker import Worker, shared

Arrays = Mapping[str, npt.NDArray[Any]]
Opening = Callable[[Worker, Allowance, Any], OpenSession]

MOST_OPTIMISED_LINKS = 1000
"""Inputs or outputs of a node: of 10,000 onnxruntime's optimizers take 15 s, as the square, where opening takes 2."""
_SHARE_OF_OUTPUTS = 0.25
"""Of the memory that a run may take: outputs are copied to this process."""
PLACE = re.compile(
    r"(?:Exception during initialization: )?(?<!\S)(?=\S*/)\S+\.(?:cc|h):\d+ \S+\([^)]*\)(?:::<lambda\([^)]*\)>)? "
)
"""A place in a source. It begins with a word: a name of a million letters is not tried from each of them."""


@dataclass(frozen=True)
class Runner:
    """One model, ready to run. runtime: which one and its version. refusal: why it is not onnxruntime, "" if it is.

    run: gives the outputs in graph order, and the seconds it took where it ran. It raises LimitError or CrashedError
    (see `runtime.worker`), or what the runtime raised, as JobFailed.
    """

    run: Callable[[Arrays], tuple[list[npt.NDArray[Any]], float]]
    runtime: str
    refusal: str = ""

    def __call__(self, inputs: Arrays) -> list[npt.NDArray[Any]]:
        """Return the outputs in graph order."""
        return self.run(inputs)[0]


def runner(model: onnx.ModelProto, *, threads: int = 0) -> Runner:
    """Return a runner of the model. Raises UnsupportedError when no runtime takes it.

    A model of an opset that onnxruntime does not know yet is tried under the newest one it knows: operators that
    are in both mean the same, and full and compact model are run alike. threads: of onnxruntime; 0 = its default.
    """
    try:
        return in_onnxruntime(model, threads=threads)
    except (UnsupportedError, RuntimeMissingError) as error:
        return in_reference(model, str(error))


def in_onnxruntime(model: onnx.ModelProto, *, threads: int = 0, optimise: bool = True) -> Runner:
    """Return a runner by onnxruntime. Raises UnsupportedError, with its first words, when it refuses the model.

    optimise: whether it may rewrite the graph; it fuses operators into some that it has no float64 kernels for.
    """
    first: Exception | None = None
    for candidate in forms(model):
        try:
            session = Session(candidate, _opening_onnxruntime(candidate, threads, optimise))
            return Runner(session, session.runtime)
        except (RuntimeMissingError, CrashedError, LimitError):
            raise
        except Exception as error:  # onnxruntime raises many types for what it cannot load
            first = first or error
    raise UnsupportedError(first_line(first))


def in_reference(model: onnx.ModelProto, refusal: str) -> Runner:
    """Return a runner by onnx's reference evaluator; `refusal` says why onnxruntime is not asked."""

    def opened(worker: Worker, allowed: Allowance, content: Any) -> OpenSession:
        return worker.call(allowed, open_reference, content, worker.to_forget())

    try:
        session = Session(model, opened)
    except (CrashedError, LimitError):
        raise
    except Exception as error:
        raise UnsupportedError(f"the model cannot be run: {refusal}") from error
    return Runner(session, session.runtime, refusal)


class Session:
    """A model that is open in the worker; it is opened again there when the worker had to be started anew."""

    def __init__(self, model: onnx.ModelProto, opened: Opening) -> None:
        self._model, self._open = model, opened
        self._home, self._number, self.runtime = self._opened()

    def __call__(self, inputs: Arrays) -> tuple[list[npt.NDArray[Any]], float]:
        """Return the outputs in graph order, and the seconds it took."""
        worker, number = self.place()
        allowed = allowance(weights=worker.held_bytes, fed=_fed(inputs), nodes=self.nodes)
        return worker.call(allowed, run_session, number, dict(inputs), _SHARE_OF_OUTPUTS * allowed.memory)

    @property
    def nodes(self) -> int:
        """How many nodes its graph has."""
        return len(self._model.graph.node)

    def place(self) -> tuple[Worker, int]:
        """Return the worker that has the session now, and its number there."""
        if not self._home.is_alive:
            self._home, self._number, self.runtime = self._opened()
        return self._home, self._number

    def _opened(self) -> tuple[Worker, int, str]:
        worker, content = shared(), runnable_bytes(self._model, for_people=False)
        allowed = allowance(weights=worker.held_bytes + len(content), fed=0, nodes=self.nodes)
        number, runtime = self._open(worker, allowed, pickle.PickleBuffer(content))
        worker.hold(number, len(content))
        weakref.finalize(self, worker.forget, number)
        return worker, number, runtime


def time_runners(runners: Sequence[Runner], inputs: Arrays, patience: Patience) -> list[list[float]]:
    """Return the milliseconds of every counted run of each model (see `sessions.time_sessions`)."""
    sessions = [each.run for each in runners if isinstance(each.run, Session)]
    places = [session.place() for session in sessions]
    worker = places[-1][0]
    nodes = max((session.nodes for session in sessions), default=0)
    one = allowance(weights=worker.held_bytes, fed=_fed(inputs), nodes=nodes)
    rounds = min((LEAST_ROUNDS + WARM_UP) * one.seconds + patience.long, patience.longest + 2 * one.seconds)
    allowed = one._replace(seconds=len(sessions) * rounds)
    return worker.call(allowed, time_sessions, [number for _, number in places], dict(inputs), patience)


def first_line(error: BaseException | None) -> str:
    """Return what a runtime says in one line without the places in its source, "" for nothing."""
    line = (str(error or "").strip().splitlines() or [""])[0][:2000]
    line = re.sub(r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ", "", line)
    return PLACE.sub("", line)[:300]


def _opening_onnxruntime(model: onnx.ModelProto, threads: int, optimise: bool) -> Opening:
    disabled = wrong_optimizers(model)
    optimise = optimise and _most_links(model) <= MOST_OPTIMISED_LINKS

    def opened(worker: Worker, allowed: Allowance, content: Any) -> OpenSession:
        return worker.call(
            allowed, open_onnxruntime, content, threads, optimise, disabled, worker.to_forget()
        )

    return opened


def _most_links(model: onnx.ModelProto) -> int:
    """Return how many inputs or outputs the node has that has most."""
    return max((max(len(node.input), len(node.output)) for node in model.graph.node), default=0)


def _fed(inputs: Arrays) -> int:
    return sum(np.asarray(array).nbytes for array in inputs.values())


def forms(model: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    """Yield the model, and the same under an opset that onnxruntime knows where it is of a newer one."""
    yield model
    older = _older(model)
    if older is not None:
        yield older


def _older(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """Return the model under opset RUNTIME_OPSET, None if it is no newer."""
    if opset_of(model) <= RUNTIME_OPSET:
        return None
    result = onnx.ModelProto()
    result.CopyFrom(model)
    result.ir_version = min(model.ir_version, RUNTIME_IR)
    set_opset(result, RUNTIME_OPSET)
    return result


_FUSED = frozenset({"Identity", "Dropout", "BatchNormalization", "Add", "Sub", "Mul", "Div"})
"""What onnxruntime takes away behind a Conv, or makes a part of it."""


def wrong_optimizers(model: onnx.ModelProto) -> list[str]:
    """Return the optimizers of onnxruntime that would compute something else than the model says, or end the process.

    Up to 1.19 the one that blocks channels leaves what a FusedConv adds (its fourth input) in the order it had, and the
    one that fuses a Conv with what reads it looks for an input of an If where only its branches read the Conv.
    """
    adds = any(node.op_type == "FusedConv" and any(node.input[3:]) for node in model.graph.node)
    wrong = {"NchwcTransformer": adds, "ConvActivationFusion": any(map(_captures_conv, graphs(model.graph)))}
    return [name for name, is_wrong in wrong.items() if is_wrong]


def _captures_conv(graph: onnx.GraphProto) -> bool:
    """Return whether a body of a node reads what a Conv beside that node gives, with what is fused with it between."""
    made = {name: node for node in graph.node for name in node.output}
    for name in {name for node in graph.node for name in captured(node)}:
        while name in made and made[name].op_type in _FUSED and made[name].input:
            name = made[name].input[0]
        if name in made and made[name].op_type == "Conv":
            return True
    return False
