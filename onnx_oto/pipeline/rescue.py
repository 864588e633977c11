"""Trained weights outlive whatever fails after the last step."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import numpy.typing as npt
import onnx

from onnx_oto.errors import DivergedError, OtoError, StorageError
from onnx_oto.gradients import GradientSession
from onnx_oto.model import save
from onnx_oto.pipeline.finishing import with_weights
from onnx_oto.pipeline.folder import CHECKPOINT, TRAINED, RunFolder
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.pipeline.ready import Say
from onnx_oto.training.events import Event, Kept, Skipped, Started, Stepped


class Rescue:
    """An observer that notices the last step, and a `with` block that may fail after it.

    Then trained.onnx is written, unless it is there already, and the error that goes on says where the weights are and
    how to cut them. Where a file fails before that, it says how the run goes on. `weights` is empty until they were
    taken after the last step. When that was the one that diverged, there are none to keep. finished: makes the weights
    of `model` of those that were trained, which `trained` holds.
    """

    def __init__(
        self,
        folder: RunFolder,
        model: onnx.ModelProto,
        options: TrainOptions,
        say: Say,
        finished: Callable[[Mapping[str, npt.NDArray[Any]]], dict[str, npt.NDArray[Any]]] = dict,
    ) -> None:
        self.trained: dict[str, npt.NDArray[Any]] = {}
        self.weights: dict[str, npt.NDArray[Any]] = {}
        self._finished = finished
        self._folder, self._model, self._options, self._say = folder, model, options, say
        self._is_trained = False

    def notice(self, event: Event) -> None:
        """See `Observer.notice`."""
        last = isinstance(event, Started | Stepped | Skipped) and event.step + event.skipped == event.total
        self._is_trained |= last or isinstance(event, Kept)

    def take(self, session: GradientSession) -> None:
        """Copy the weights out of a session that is about to be closed, if its last step was taken."""
        if self._is_trained:
            self.trained = session.weights()
            self.weights = self._finished(self.trained)

    def __enter__(self) -> Rescue:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, DivergedError):
            return
        if not self.weights:
            if isinstance(error, StorageError) and self._folder.stays:
                way = shlex.join(["onnx-oto", "resume", str(self._folder.path)])
                raise StorageError(f"{error}; when that is mended, go on with `{way}`") from error
            return
        where = self._write()
        if isinstance(error, OtoError):
            raise type(error)(f"{error}; {where}") from error
        if isinstance(error, OSError):
            raise StorageError(f"{error.strerror or error}; {where}") from error
        if isinstance(error, Exception):
            raise OtoError(f"{type(error).__name__}: {error} (a defect of onnx-oto); {where}") from error
        with contextlib.suppress(OSError):  # an interruption goes on as it is
            self._say(where)

    def _write(self) -> str:
        """Return where the weights are, and the way on."""
        try:
            place = self._folder.place(TRAINED)
            if not place.exists():
                save(with_weights(self._model, self.weights), place)
        except (OtoError, MemoryError) as error:
            return (
                f"the trained weights could not be written ({error}); those of the last checkpoint are in "
                f"'{self._folder.path / CHECKPOINT}'"
            )
        return f"the trained weights are in '{place}': cut them with `{self._command(str(place))}`"

    def _command(self, place: str) -> str:
        words = ["onnx-oto", "compact", place, "-o", "compact.onnx"]
        for pattern in self._options.keep:
            words += ["--keep", pattern]
        words += ["--fixed-norms"] * self._options.fixed_norms + ["--head-dims"] * self._options.head_dims
        if self._options.inputs is not None:
            words += ["--inputs", str(self._options.inputs)]
        for shape in self._options.input_shape:
            words += ["--input-shape", shape]
        return shlex.join(words)
